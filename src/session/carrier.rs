//! What a session needs of its carrier, and what it asks the application.

use std::sync::Arc;

use bytes::Bytes;

use crate::change::{Op, StateRefusal};
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::position::{Epoch, Position, Start, Subscribed};
use crate::protocol::message::{PresenceChange, Timestamp};
use crate::publication::Content;
use crate::token_error::TokenError;

/// Acts for one session. What it is told goes to this session's client, or is done for that client.
///
/// A carrier may lose its client in any of these calls. Afterwards [`Carrier::is_live`] says `false`, and replies lead nowhere.
pub trait Carrier {
    /// The present moment.
    fn now(&self) -> Moment;

    /// The present time, for people.
    fn timestamp(&self) -> Timestamp;

    /// Whether the client can still be told something.
    fn is_live(&self) -> bool;

    /// Tells the client one message, which `write` appends as JSON text. It comes after all earlier replies.
    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>));

    /// Gives the client what was published to it so far, as much of it as the client takes now. It comes after all earlier
    /// replies.
    fn catch_up(&mut self);

    /// Subscribes the client from `start` on. A subscription that it has stays as it is.
    fn subscribe(&mut self, channel: &ChannelName, start: Start) -> Subscribed;

    /// Begins a subscription anew. Returns `None` when there is none.
    fn restart(&mut self, channel: &str, start: Start) -> Option<Subscribed>;

    /// Ends a subscription. Returns `false` when there was none.
    fn unsubscribe(&mut self, channel: &str) -> bool;

    /// Whether the client is subscribed to a channel.
    fn reads(&self, channel: &str) -> bool;

    /// The client is subscribed to a channel, with this subject: others may see that it is there.
    fn join(&mut self, channel: &ChannelName, subject: &str) {
        let _ = (channel, subject);
    }

    /// A client that has come back is not subscribed any more to a channel to which it was.
    fn left(&mut self, channel: &str) {
        let _ = channel;
    }

    /// Changes what others see of the client in a channel.
    ///
    /// # Errors
    /// Why they see nothing.
    fn present(&mut self, channel: &ChannelName, change: &PresenceChange) -> Result<(), Unseen> {
        let _ = (channel, change);
        Err(Unseen::NotTold)
    }

    /// What the client is subscribed to on this connection.
    fn channels(&self) -> Vec<ChannelName> {
        Vec::new()
    }

    /// Publishes something, or changes a state. Returns the position, or why there is none. `None` means that this is not known yet:
    /// [`Session::published`](super::Session::published) is called later, with the same `number`.
    fn publish(
        &mut self,
        channel: &ChannelName,
        content: Content<'_>,
        number: u64,
    ) -> Option<Result<Position, Unpublished>>;

    /// What is found for a key of a state, and the value that it had in this version.
    fn entry(&mut self, channel: &ChannelName, key: &str, base: Option<Position>) -> FoundEntry;

    /// Tells the client what a channel still has after a position, or its newest publications: at most so many.
    fn tell_history(&mut self, channel: &ChannelName, after: Option<Position>, most: usize) {
        let _ = (channel, after, most);
    }

    /// Passes a question to the application.
    fn ask(&mut self, question: Question);

    /// Judges credentials that the client shows later on.
    /// They have to be of the same subject.
    fn judge_token(&mut self, token: Option<&str>, client: Option<&Arc<Identity>>) -> Judged {
        let _ = (token, client);
        Judged::Impossible
    }

    /// Ends the conversation.
    fn close(&mut self, reason: CloseReason);
}

/// Why a publication has no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// The broker failed.
    #[error("{}", .0.meaning())]
    Failed(ErrorCode),
    /// A state does not take it.
    #[error("{0}")]
    Refused(StateRefusal),
}

impl Unpublished {
    /// What the client is told, for programs.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Failed(code) => code,
            Self::Refused(StateRefusal::NoState | StateRefusal::NoKey | StateRefusal::Patch(_)) => {
                ErrorCode::BadMessage
            }
            Self::Refused(StateRefusal::Conflict) => ErrorCode::StateConflict,
            Self::Refused(_) => ErrorCode::LimitExceeded,
        }
    }
}

impl From<ErrorCode> for Unpublished {
    fn from(code: ErrorCode) -> Self {
        Self::Failed(code)
    }
}

/// Why others do not see a client in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// It is not there.
    #[error("you are not subscribed to this channel")]
    NotSubscribed,
    /// The application does not show it.
    #[error("others do not see you in this channel")]
    Hidden,
    /// The channel tells nobody who is in it.
    #[error("this channel does not tell who is in it")]
    NotTold,
}

impl Unseen {
    /// What the client is told, for programs.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotSubscribed => ErrorCode::NotSubscribed,
            Self::Hidden | Self::NotTold => ErrorCode::NotAllowed,
        }
    }
}

/// What becomes of credentials that a client shows later on.
#[derive(Debug)]
pub enum Judged {
    /// They say who the client is.
    Known {
        /// Who it is.
        identity: Arc<Identity>,
        /// In seconds: how long they are good.
        expires_in: Option<u64>,
    },
    /// They do not count.
    Refused(TokenError),
    /// They are of somebody else.
    OtherSubject,
    /// Nobody judges them on an open connection.
    Impossible,
    /// Others are judged first. [`renew_again`](super::renew_again) is called when it is their turn.
    Later,
}

/// What a client wants from the application.
#[derive(Debug)]
pub enum Question {
    /// A message of a type that the core does not know. The application answers it with a message of its own.
    Message {
        /// The type of the message.
        message_type: String,
        /// JSON text of the message's `id`.
        id: Option<String>,
        /// The whole message.
        text: Bytes,
        /// Values and keys in it.
        elements: u32,
    },
    /// May this client subscribe? [`Session::decide`](super::Session::decide) takes the answer, with the same number.
    Subscribe {
        /// Tells the questions of one session apart.
        number: u64,
        /// Index of the rule that matched.
        rule: usize,
        /// The name of the channel.
        channel: ChannelName,
        /// The values of the parameters of the rule's pattern.
        params: Box<[String]>,
    },
    /// Who is this client for others in a channel that it reads?
    Presence {
        /// Comes back with the answer.
        number: u64,
        /// Index of the rule that matched.
        rule: usize,
        /// The name of the channel.
        channel: ChannelName,
    },
    /// May this client publish? [`Session::decide`](super::Session::decide) takes the answer, with the same number.
    Publish {
        /// Tells the questions of one session apart.
        number: u64,
        /// Index of the rule that matched.
        rule: usize,
        /// The name of the channel.
        channel: ChannelName,
        /// The values of the parameters of the rule's pattern.
        params: Box<[String]>,
        /// What it does where the channel has a state.
        op: Op,
        /// JSON text. Empty where an entry is to be removed.
        data: Bytes,
        /// The key of the publication.
        key: Option<Box<str>>,
        /// Values and keys in the message that it came with.
        elements: u32,
    },
    /// An entry is not as a client has expected that wants to change it. What becomes of it?
    /// [`Session::decide`](super::Session::decide) takes the answer, with the same number.
    Resolve(Box<Conflict>),
}

/// A change of an entry that is not as its client has expected.
#[derive(Debug)]
pub struct Conflict {
    /// Tells the questions of one session apart.
    pub number: u64,
    /// Index of the rule of the channel.
    pub rule: usize,
    /// The name of the channel.
    pub channel: ChannelName,
    /// The values of the parameters of the rule's pattern.
    pub params: Box<[String]>,
    /// The key of the entry.
    pub key: Box<str>,
    /// The value that the client wants: one JSON text. `None`: it wants to remove the entry.
    pub proposed: Option<Bytes>,
    /// The client has expected that nothing is there.
    pub expects_nothing: bool,
    /// What is there.
    pub found: FoundEntry,
}

impl Conflict {
    /// Its JSON texts.
    pub fn texts(&self) -> impl Iterator<Item = &Bytes> {
        [self.proposed.as_ref(), self.found.data.as_ref(), self.found.base.as_ref()].into_iter().flatten()
    }
}

/// What is found for a key of a state.
#[derive(Clone, Debug, Default)]
pub struct FoundEntry {
    /// The life of the log. `None`: there is no log.
    pub epoch: Option<Epoch>,
    /// The version of the entry. `None`: there is none.
    pub version: Option<Position>,
    /// Its value: one JSON text.
    pub data: Option<Bytes>,
    /// The client that has set it, where updates say so: JSON text.
    pub sender: Option<Bytes>,
    /// The value of the version that was expected, where that is still known.
    pub base: Option<Bytes>,
    /// The client reads the channel.
    pub is_reader: bool,
}

impl Question {
    /// Bytes that this question keeps alive beside itself.
    pub fn size(&self) -> usize {
        match self {
            Self::Message { text, .. } => text.len(),
            Self::Subscribe { .. } | Self::Presence { .. } => 0,
            Self::Publish { data, key, .. } => data.len() + key.as_ref().map_or(0, |key| key.len()),
            Self::Resolve(conflict) => conflict.key.len() + conflict.texts().map(Bytes::len).sum::<usize>(),
        }
    }
}

/// What the application says to a client past the logs, mostly in answer to a [`Question::Message`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A message of the type `<message_type>_result`.
    Result {
        /// The type of the message that it answers.
        message_type: String,
        /// One JSON text.
        data: Bytes,
    },
    /// An `error`.
    Error {
        /// For programs: the name of an [`ErrorCode`], or the application's own word.
        code: String,
        /// For people.
        message: String,
        /// JSON text.
        details: Option<String>,
        /// Too many of these in a while, and the client is heard more slowly.
        is_fault: bool,
    },
}

/// What the application decides about a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is done as it was asked.
    Allow,
    /// This is published instead of what the client sent: one JSON text.
    Publish(Bytes),
    /// A conflict is resolved.
    Resolve {
        /// The version of the entry of which this was decided. `None`: there was none.
        version: Option<Position>,
        /// The value that the entry gets: one JSON text. `None`: it is removed.
        data: Option<Bytes>,
        /// What readers are told of it: one JSON text.
        conflict: Box<str>,
    },
    /// The client gets an `error` with this code and text.
    Deny {
        /// For programs. It says also whose fault it is.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The client gets an `error` in the application's own words. It is nobody's fault.
    Reject {
        /// For programs. It is none of [`ErrorCode`].
        code: String,
        /// For people.
        message: String,
        /// JSON text.
        details: Option<String>,
    },
}
