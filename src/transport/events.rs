//! What the application is told.

use bytes::Bytes;

use crate::protocol::http::Request;
use crate::session::Question;
use crate::transport::client_id::ClientId;
use crate::transport::credit::{Credit, PLACE};

/// Something the application has to hear of. The events of one client come in order, and `Closed` is its last.
#[derive(Debug)]
pub enum Event {
    Open {
        client: ClientId,
        opening: Box<Opening>,
    },
    /// A client wants something that only the application can say or do.
    Question {
        client: ClientId,
        question: Question,
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
    Warning = 30,
    Error = 40,
}

impl Event {
    /// Bytes that this event keeps alive, for the bound of the queue.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Open { opening, .. } => opening.request.size(),
                Self::Question { question, .. } => question.size(),
                Self::Text { text, .. } => text.len(),
                Self::Binary { data, .. } => data.len(),
                _ => 0,
            }
    }
}

/// The place that [`Credit`] counts for a message.
const _: () = assert!(size_of::<Event>() <= PLACE);

/// Where events go. Shards ask for room before they read from a socket; they never drop an event.
pub trait Inbox: Send + Sync {
    /// Takes an event, always; a log line it may drop and count. Must not block.
    fn push(&self, event: Event);

    /// Whether shards may go on reading. After `false`,
    /// [`Command::RoomForEvents`](crate::transport::commands::Command::RoomForEvents) follows when they may.
    fn has_room(&self) -> bool;
}
