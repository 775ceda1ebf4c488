//! What other threads ask a shard for. Commands are carried out in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker;
use crate::channel::ChannelName;
use crate::close::CloseCode;
use crate::error_code::ErrorCode;
use crate::hub::FeedKey;
use crate::moment::Moment;
use crate::position::Position;
use crate::session::Decision;
use crate::transport::addresses::Counted;
use crate::transport::client_id::ClientId;
use crate::transport::io::Socket;

/// What a shard is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take over a socket.
    Accepted(Accepted),
    /// The log of a feed has moved.
    Moved(FeedKey),
    /// The application has room for events again.
    RoomForEvents,
    /// The application has taken enough of a client's messages to hear more of it.
    ReadAgain(ClientId),
    /// Let a client in.
    Admit(ClientId),
    /// Let a client read its private channel, which gets its first publication.
    OpenPrivate(ClientId),
    /// Tell a client one message.
    Reply(ClientId, Bytes),
    /// The same with an error that is the client's own fault, and counts.
    ReplyError(ClientId, Bytes),
    /// Send a message on a websocket path; `true` for text.
    SendRoute(ClientId, bool, Bytes),
    Close(ClientId, CloseCode, String),
    /// Close a client for the sake of others, unless what it holds by the share of this number was given back.
    Evict(ClientId, u64),
    /// Subscribe a client from this position on; with the `id` of the message that asked for it.
    Subscribe(ClientId, ChannelName, Position, Option<String>),
    Unsubscribe(ClientId, String, String),
    /// The application has decided about the question of this number.
    Decide(ClientId, u64, Decision),
    /// The outcome of the publish of this number is known.
    Published(ClientId, u64, Result<u64, ErrorCode>),
    PauseReading(ClientId),
    ResumeReading(ClientId),
    /// Stop gracefully, within this time.
    Drain(Duration),
}

/// A socket on its way to its shard.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub socket: Socket,
    pub counted: Counted,
    pub at: Moment,
}

/// Commands for one shard. What fills it is bounded: one [`Command::Moved`] per feed, and what the application does about the
/// events it was given.
#[derive(Debug, Default)]
pub struct CommandQueue {
    /// Guards the commands. Held for a push or a swap.
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// The shard was woken for them.
    woken: bool,
    /// The shard looks at the queue by itself when its tick is over. It can't flush before.
    deferred: bool,
}

impl CommandQueue {
    /// Adds a command. Wakes the shard if nobody did, unless the command can wait for the end of the tick.
    pub(crate) fn push(&self, command: Command) {
        let mut waiting = self.lock();
        let can_wait = waiting.deferred && matches!(command, Command::Moved(_));
        waiting.commands.push_back(command);
        let wake = !can_wait && !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Moves all commands to the end of `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Command>) {
        let mut waiting = self.lock();
        (waiting.woken, waiting.deferred) = (false, false);
        if into.is_empty() {
            std::mem::swap(&mut waiting.commands, into);
        } else {
            into.append(&mut waiting.commands);
        }
    }

    /// Lets notifications of feeds wait for the next [`take`](Self::take), which the caller makes when its tick is over. Without
    /// this, a server with many channels is woken for nearly every publication.
    pub(crate) fn defer_notifications(&self) {
        self.lock().deferred = true;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the shard for another turn without a command.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) async fn wait_command(&self) {
        self.wake.notified().await;
    }
}

/// Tells the shard of a feed that its log has moved.
pub(crate) struct FeedNotifier {
    pub commands: Arc<CommandQueue>,
    pub feed: FeedKey,
}

impl broker::Notify for FeedNotifier {
    fn notify(&self) {
        self.commands.push(Command::Moved(self.feed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the shard was woken since this was last asked.
    fn woken(queue: &CommandQueue) -> bool {
        let mut waiting = std::pin::pin!(queue.wait_command());
        waiting.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn a_shard_is_woken_once_for_all_commands_that_it_has_not_taken() {
        let (queue, mut commands) = (CommandQueue::default(), VecDeque::new());
        queue.push(Command::Moved(1));
        assert!(woken(&queue));
        queue.push(Command::Moved(2));
        assert!(!woken(&queue));
        queue.take(&mut commands);
        assert_eq!(commands.len(), 2);
        queue.push(Command::RoomForEvents);
        assert!(woken(&queue));
    }

    #[test]
    fn notifications_wait_for_the_end_of_a_tick_and_nothing_else_does() {
        let (queue, mut commands) = (CommandQueue::default(), VecDeque::new());
        queue.defer_notifications();
        queue.push(Command::Moved(1));
        assert!(!woken(&queue));
        queue.push(Command::RoomForEvents);
        assert!(woken(&queue));
        queue.take(&mut commands);
        assert_eq!(commands.len(), 2);
        queue.push(Command::Moved(1));
        assert!(woken(&queue), "the tick is over");
    }
}
