//! What the application is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::protocol::http::Request;
use crate::transport::mailbox::{Letter, Mailbox};

/// Names one client of one server for as long as the server runs: shard, slot and count in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// Something the application has to hear of. The events of one client come in order, and `Closed` is its last.
#[derive(Debug)]
pub enum Event {
    Open {
        client: ClientId,
        opening: Box<Opening>,
    },
    Message {
        client: ClientId,
        kind: String,
        id: Option<String>,
        text: Bytes,
    },
    Subscribe {
        client: ClientId,
        ticket: u64,
        rule: usize,
        channel: String,
        params: Vec<String>,
    },
    Publish {
        client: ClientId,
        ticket: u64,
        rule: usize,
        channel: String,
        params: Vec<String>,
        data: Bytes,
        key: Option<String>,
    },
    Text {
        client: ClientId,
        text: String,
        credit: Credit,
    },
    Binary {
        client: ClientId,
        data: Bytes,
        credit: Credit,
    },
    /// The client of a websocket route sends no more: it closed, or was wrong. What the application has still to say is
    /// delivered; the close frame goes when the application closes, at the latest after the close time.
    Ended {
        client: ClientId,
        code: u16,
        reason: String,
    },
    /// What the application had sent on a websocket route was taken by the socket.
    Writable {
        client: ClientId,
    },
    Closed {
        client: ClientId,
        code: u16,
        reason: String,
    },
    Log {
        level: Level,
        text: String,
    },
    Stopped,
}

/// What one message of a websocket route takes of its connection's allowance; given back when it is dropped, which is
/// when the application has taken the message. So one client can't fill the queue of all.
#[derive(Debug)]
pub struct Credit {
    client: ClientId,
    amount: usize,
    taken: Arc<AtomicUsize>,
    mailbox: Arc<Mailbox>,
}

impl Credit {
    pub(crate) fn new(
        client: ClientId,
        amount: usize,
        taken: &Arc<AtomicUsize>,
        mailbox: &Arc<Mailbox>,
    ) -> Self {
        // An empty message takes a place too.
        let amount = amount + size_of::<Event>();
        taken.fetch_add(amount, Ordering::AcqRel);
        Self { client, amount, taken: Arc::clone(taken), mailbox: Arc::clone(mailbox) }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let before = self.taken.fetch_sub(self.amount, Ordering::AcqRel);
        if before >= ALLOWANCE && before - self.amount < ALLOWANCE {
            self.mailbox.push(Letter::Listen(self.client));
        }
    }
}

/// Bytes of messages of one websocket route connection, and of their places in the queue, that wait for the application
/// before it is not read any more.
pub(crate) const ALLOWANCE: usize = 128 * 1024;

/// The request that opened a connection, and what was made of it.
#[derive(Debug)]
pub struct Opening {
    pub request: Request,
    pub peer: String,
    pub secure: bool,
    /// The websocket route that matched; `None` for the Umbel protocol.
    pub route: Option<usize>,
    pub params: Vec<String>,
    pub public_id: String,
}

/// How loud a log line is; the numbers are those of Python's `logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info = 20,
    Warning = 30,
    Error = 40,
}

impl Event {
    /// Bytes that this event keeps alive, for the bound of the queue.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Open { opening, .. } => opening.request.size(),
                Self::Message { text, .. } => text.len(),
                Self::Publish { data, key, .. } => data.len() + key.as_ref().map_or(0, String::len),
                Self::Text { text, .. } => text.len(),
                Self::Binary { data, .. } => data.len(),
                _ => 0,
            }
    }
}

/// Where events go. Shards ask for room before they read from a socket; they never drop an event.
pub trait Inbox: Send + Sync {
    /// Takes an event, always; a log line it may drop and count. Must not block.
    fn push(&self, event: Event);

    /// Whether shards may go on reading. After `false`, [`crate::transport::mailbox::Letter::Room`] follows when they may.
    fn has_room(&self) -> bool;
}
