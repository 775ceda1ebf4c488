//! How other threads reach a shard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Others need what it holds by the share of this number.
    GiveWay(ClientId, u64),
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
    waiting: Mutex<Waiting>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: VecDeque<Letter>,
    /// The shard was woken for them.
    woken: bool,
    /// The shard looks at the box by itself when its tick is over, and can't flush before.
    ticking: bool,
}

impl Mailbox {
    /// Puts a letter in, and wakes the shard if nobody did and it has to act before its tick is over.
    pub(crate) fn push(&self, letter: Letter) {
        let mut waiting = self.lock();
        let can_wait = waiting.ticking && matches!(letter, Letter::Rang(_));
        waiting.letters.push_back(letter);
        let wake = !can_wait && !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake {
            self.notify.notify_one();
        }
    }

    /// Moves all letters behind those in `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Letter>) {
        let mut waiting = self.lock();
        (waiting.woken, waiting.ticking) = (false, false);
        if into.is_empty() {
            std::mem::swap(&mut waiting.letters, into);
        } else {
            into.append(&mut waiting.letters);
        }
    }

    /// Lets bells wait for the next [`take`](Self::take), which the caller makes when its tick is over. Without this, a
    /// server with many channels is woken for nearly every publication.
    pub(crate) fn let_bells_wait(&self) {
        self.lock().ticking = true;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the shard was woken since this was last asked.
    fn woken(mailbox: &Mailbox) -> bool {
        let mut waiting = std::pin::pin!(mailbox.wait_letter());
        waiting.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn a_shard_is_woken_once_for_all_letters_that_it_has_not_taken() {
        let (mailbox, mut letters) = (Mailbox::default(), VecDeque::new());
        mailbox.push(Letter::Rang(1));
        assert!(woken(&mailbox));
        mailbox.push(Letter::Rang(2));
        assert!(!woken(&mailbox));
        mailbox.take(&mut letters);
        assert_eq!(letters.len(), 2);
        mailbox.push(Letter::Room);
        assert!(woken(&mailbox));
    }

    #[test]
    fn bells_wait_for_the_end_of_a_tick_and_nothing_else_does() {
        let (mailbox, mut letters) = (Mailbox::default(), VecDeque::new());
        mailbox.let_bells_wait();
        mailbox.push(Letter::Rang(1));
        assert!(!woken(&mailbox));
        mailbox.push(Letter::Room);
        assert!(woken(&mailbox));
        mailbox.take(&mut letters);
        assert_eq!(letters.len(), 2);
        mailbox.push(Letter::Rang(1));
        assert!(woken(&mailbox), "the tick is over");
    }
}
