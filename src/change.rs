//! How an entry of a state is changed, and why it may not be.

use crate::channel::{ChannelName, NameError};
use crate::merge_patch::PatchError;
use crate::position::Position;

/// What is done to an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Op {
    /// It gets a value. The only thing that can be done in a channel without a state.
    #[default]
    Publish,
    /// The same, in a state.
    Set,
    /// A JSON merge patch makes another value of the one that it has.
    Patch,
    /// It is removed.
    Delete,
}

impl Op {
    /// Says whether it can be done in a channel without a state.
    ///
    /// # Errors
    /// [`StateRefusal::NoState`] when it can't.
    pub fn check_without_state(self) -> Result<(), StateRefusal> {
        if self == Self::Publish { Ok(()) } else { Err(StateRefusal::NoState) }
    }

    /// The name that the application sees.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish | Self::Set => "set",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// What has to be there for a change to be made. The version of an entry is the position of its last change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Anything. A patch needs something that it can change.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// The entry in this version.
    At(Position),
}

impl Expected {
    /// Whether it is so. `None`: there is no entry.
    pub fn holds(self, version: Option<Position>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => version.is_none(),
            Self::At(wanted) => version == Some(wanted),
        }
    }
}

/// Why a state does not take a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateRefusal {
    /// The channel has no state.
    #[error("the channel has no state")]
    NoState,
    /// It has no key.
    #[error("what is published to a state channel has a key: that of the entry")]
    NoKey,
    /// The patch is none.
    #[error("{0}")]
    Patch(PatchError),
    /// The entry is not in the version that was expected.
    #[error("the entry is not in the version that was expected")]
    Conflict,
    /// It is too large.
    #[error("an entry of a state has at most {ENTRY_BYTES} bytes of JSON, and so has a patch")]
    Large,
    /// The state has as many keys as it may have.
    #[error("this state has as many keys as it may have (max_keys={0})")]
    Keys(usize),
    /// The state has as many bytes as it may have.
    #[error("this state would have more bytes than it may have (state_bytes={0})")]
    Bytes(usize),
    /// The states of all channels together have.
    #[error("all states together would have more bytes than they may have (max_state_bytes={0})")]
    AllBytes(usize),
}

/// Why nothing can be done with a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There can be no such channel.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The channel has none.
    #[error("channel {:?} is not declared with mode=\"state\"", .0.as_str())]
    NoState(ChannelName),
}

/// Most bytes of data of an entry of a state.
pub const ENTRY_BYTES: usize = 64 << 10;
