//! How other threads reach a shard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::log::Alarm;
use crate::channel::ChannelName;
use crate::close::CloseCode;
use crate::hub::FeedKey;
use crate::position::Position;
use crate::transport::events::ClientId;
use crate::transport::io::Accepted;

/// What a shard is asked to do.
#[derive(Debug)]
pub(crate) enum Letter {
    Accepted(Accepted),
    /// The log of a feed has moved.
    Rang(FeedKey),
    /// The application has room for events again.
    Room,
    /// The application has taken enough of a client's messages to hear more of it.
    Listen(ClientId),
    Admit(ClientId),
    /// The private channel of a client has its first publication.
    Private(ClientId),
    Reply(ClientId, Bytes),
    /// An error that is the client's own, and counts against it.
    Fault(ClientId, Bytes),
    /// A message of a websocket route; `true` for text.
    Send(ClientId, bool, Bytes),
    Close(ClientId, CloseCode, String),
    /// From this position on; with the `id` of the message that asked for it.
    Subscribe(ClientId, ChannelName, Position, Option<String>),
    Unsubscribe(ClientId, String, String),
    Answer(ClientId, u64, Answer),
    Pause(ClientId),
    Resume(ClientId),
    /// Stop gracefully, within this time.
    Drain(Duration),
}

/// What the application says to something a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No { code: String, message: String },
}

/// Letters for one shard. Bounded by what feeds it: one `Rang` per feed, and what the application does about the
/// events it was given.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Guards the letters; held for a push or a swap.
    letters: Mutex<VecDeque<Letter>>,
    notify: Notify,
}

impl Mailbox {
    /// Puts a letter in, and wakes the shard if the box was empty.
    pub(crate) fn push(&self, letter: Letter) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push_back(letter);
        let first = letters.len() == 1;
        drop(letters);
        if first {
            self.notify.notify_one();
        }
    }

    /// Moves all letters behind those in `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Letter>) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if into.is_empty() {
            std::mem::swap(&mut *letters, into);
        } else {
            into.append(&mut letters);
        }
    }

    /// Asks the shard for another turn without a letter.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(crate) async fn wait_letter(&self) {
        self.notify.notified().await;
    }
}

/// The bell of one feed: a letter to its shard.
pub(crate) struct Bell {
    pub mailbox: Arc<Mailbox>,
    pub feed: FeedKey,
}

impl Alarm for Bell {
    fn ring(&self) {
        self.mailbox.push(Letter::Rang(self.feed));
    }
}
