//! What other threads ask a shard for. Commands are carried out in the order in which they came.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker;
use crate::channel::ChannelName;
use crate::close::{CloseCode, CloseReason};
use crate::hub::FeedKey;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::position::Position;
use crate::session::{Answer, Decision, Unpublished};
use crate::transport::addresses::Counted;
use crate::transport::client_id::ClientId;
use crate::transport::excess::Excess;
use crate::transport::io::Socket;
use crate::transport::sights::Look;

/// What a shard is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take over a socket.
    Accepted(Accepted),
    /// End sessions of this subject that are away while it has too many.
    GiveWay(Arc<str>),
    /// Keys that were asked for have come, or do not come.
    KeysSettled,
    /// Take over a connection whose session is here: a `Parcel`. It is not named here, because it has all that a connection has, and
    /// parts of that name commands.
    HandedOver(Box<dyn Any + Send>),
    /// The log of a feed has moved.
    Moved(FeedKey),
    /// Tell an operator what is seen of the shard.
    Look(Box<Look>),
    /// The application has room for events again.
    RoomForEvents,
    /// Stop gracefully, within this time.
    Drain(Duration),
    /// End the connections and sessions of a subject.
    EndSubject(Arc<str>, CloseReason),
    /// Do something for one client, unless it is gone.
    Client(ClientId, ClientCommand),
}

/// What is done for one client. Before the client is let in, nothing is said to it but why it is closed.
#[derive(Debug)]
pub enum ClientCommand {
    /// Let it in: this is who it is, with its claims where those are wanted.
    Admit(Arc<Identity>, Option<Arc<str>>),
    /// Tell it something past the logs, with the `id` of the message that asked for it.
    Answer(Answer, Option<String>),
    /// Send a message on a websocket path; `true` for text.
    SendRoute(bool, Bytes),
    /// Close its connection after all that it was sent before.
    Close(CloseCode, String),
    /// End its connection for this reason, which is none of the application.
    End(CloseReason),
    /// End its session if that is away, so that another client of its identity has room. The application is told which it was:
    /// [`Event::Closed`](crate::transport::events::Event::Closed), or [`Event::Stays`](crate::transport::events::Event::Stays).
    GiveWay,
    /// Close it for the sake of others, unless what it holds by the share of this number was given back.
    Evict(u64),
    /// Forget the answers that it was given, for the sake of others, unless the share of this number was given back.
    ForgetAnswers(u64),
    /// Subscribe it.
    Subscribe {
        /// To this channel.
        channel: ChannelName,
        /// From this position on.
        from: Position,
        /// The `id` of the message that asked for it.
        request: Option<String>,
        /// Under this number the application is told whether it is subscribed.
        number: Option<u64>,
    },
    /// End the subscription to a channel, and tell why.
    Unsubscribe(ChannelName, String),
    /// Tell the application under this number when there is room in its private channel.
    WhenRoom(u64),
    /// The application has decided about the question of this number.
    Decide(u64, Decision),
    /// The outcome of the publish of this number is known.
    Published(u64, Result<Position, Unpublished>),
    /// Read from it: the application is ready to hear it.
    BeginReading,
    /// Read from it again if nothing else hinders: the application has taken enough of its messages.
    ReadAgain,
}

/// A socket on its way to its shard.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub socket: Socket,
    pub counted: Counted,
    pub excess: Option<Excess>,
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
    /// The shard looks at the queue by itself in a moment, because the application is at work on a batch.
    patient: bool,
}

impl CommandQueue {
    /// Adds a command. Wakes the shard if nobody did, unless the command can wait for the end of the tick.
    pub(crate) fn push(&self, command: Command) {
        let mut waiting = self.lock();
        let can_wait = match command {
            Command::Moved(_) => waiting.deferred || waiting.patient,
            Command::Client(..) => waiting.patient,
            _ => false,
        };
        waiting.commands.push_back(command);
        let wake = !can_wait && !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Adds a command for one client.
    pub(crate) fn push_for(&self, client: ClientId, command: ClientCommand) {
        self.push(Command::Client(client, command));
    }

    /// Moves all commands to the end of `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Command>) {
        let mut waiting = self.lock();
        (waiting.woken, waiting.deferred, waiting.patient) = (false, false, false);
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

    /// Lets commands for clients wait for [`batch_over`](Self::batch_over). The caller takes what there is within [`MOMENT`] by
    /// itself: a function of the application may block. To be woken for the answer of each function would cost as much as
    /// to send it.
    pub(crate) fn wait_for_batch(&self) {
        self.lock().patient = true;
    }

    /// The application has finished with a batch. Wakes the shard if commands wait and nobody did.
    pub(crate) fn batch_over(&self) {
        let mut waiting = self.lock();
        let wake = std::mem::take(&mut waiting.patient)
            && !waiting.commands.is_empty()
            && !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
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

/// How long an answer may wait for others of the same batch.
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

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

    #[test]
    fn commands_for_clients_wait_for_the_end_of_a_batch() {
        let (queue, mut commands) = (CommandQueue::default(), VecDeque::new());
        let client = ClientId(1);
        queue.wait_for_batch();
        queue.batch_over();
        assert!(!woken(&queue), "there is nothing to do");
        queue.wait_for_batch();
        queue.push_for(client, ClientCommand::ReadAgain);
        queue.push_for(client, ClientCommand::ReadAgain);
        assert!(!woken(&queue));
        queue.batch_over();
        assert!(woken(&queue));
        queue.take(&mut commands);
        assert_eq!(commands.len(), 2);
        queue.push_for(client, ClientCommand::ReadAgain);
        assert!(woken(&queue), "it did not say that it looks by itself");
        queue.take(&mut commands);
        queue.wait_for_batch();
        queue.push(Command::RoomForEvents);
        assert!(woken(&queue));
    }
}
