//! A place in a channel's log.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Random id of one life of a log. A log gets a new one whenever its top offset can have become smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a random number.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// The number.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is not an epoch. No log of this server ever had it.
#[derive(Debug, thiserror::Error)]
#[error("an epoch is 16 lower-case hexadecimal digits")]
pub struct NotAnEpoch;

impl FromStr for Epoch {
    type Err = NotAnEpoch;

    fn from_str(text: &str) -> Result<Self, NotAnEpoch> {
        let plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return Err(NotAnEpoch);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAnEpoch)
    }
}

/// A place in a log: after the publication of this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log in which the offset means something.
    pub epoch: Epoch,
    /// 1 for the first publication of the epoch, 0 before it.
    pub offset: u64,
}

impl Position {
    /// The place of this offset in the same log.
    #[must_use]
    pub const fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }
}

/// What a reader will not get, or will not find as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The reader's offset before, in the epoch that it knew.
    pub from: u64,
    /// The reader's offset afterwards.
    pub to: u64,
    /// The epoch that the reader is in afterwards.
    pub epoch: Epoch,
    /// What has happened, and so what the reader has to do.
    pub reason: GapReason,
    /// In a state, which begins anew then: where its log ends.
    pub top: Option<u64>,
}

/// Why a reader gets a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// It was late, and further behind than the history of the channel reaches back.
    Overrun,
    /// It kept up, but more was published at once than a burst may have.
    Burst,
    /// The logs of all channels together kept too much, and this one was used least recently. Or the private channels of clients that
    /// are away did, and this client left first.
    Memory,
    /// The epoch has changed, and nothing up to the reader's offset with it. Nothing is lost.
    Turn,
    /// The epoch has changed, and with it something that the reader has had. Or in a state: removals that the reader needed are
    /// forgotten, so it gets all of the state anew.
    Reset,
    /// There are too many members to list: all of the state is their number now.
    Count,
}

impl Gap {
    /// The reader's position afterwards.
    pub const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.to }
    }
}

impl GapReason {
    /// Every reason, in the order of the table in `docs/protocol.md`.
    pub const ALL: [Self; 6] =
        [Self::Overrun, Self::Burst, Self::Memory, Self::Turn, Self::Reset, Self::Count];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Burst => "burst",
            Self::Memory => "memory",
            Self::Turn => "turn",
            Self::Reset => "reset",
            Self::Count => "count",
        }
    }

    /// Whether the reader has to load its state anew.
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::Turn)
    }
}

/// Where a reader begins in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Where every newcomer does.
    Newcomer,
    /// After a position that the client has reached. It is told whether that can be.
    After(Position),
    /// After a position that no log of this server ever had. The client is told so, and begins as a newcomer.
    Foreign,
    /// After a position that nobody knows any more. The client is told so, and begins as a newcomer.
    Unknown,
    /// After a position that the server has promised. What the log has lost since is a gap. When the log itself is another one now,
    /// the client is told so, and gets all of it.
    Promised(Position),
}

/// Why a reader can't go on after the position that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecovered {
    /// The log has dropped what came next. The reader gets what is left.
    Trimmed,
    /// The epoch is another one, and what the reader has is not all in it.
    Epoch,
    /// The log has not come that far.
    Ahead,
    /// Nobody knows how far the client had come.
    Unknown,
    /// It has asked for no position, and gets all of a state.
    New,
}

impl Unrecovered {
    /// Every reason, in the order of the table in `docs/protocol.md`.
    pub const ALL: [Self; 5] = [Self::Trimmed, Self::Epoch, Self::Ahead, Self::Unknown, Self::New];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Epoch => "epoch",
            Self::Ahead => "ahead",
            Self::Unknown => "unknown",
            Self::New => "new",
        }
    }
}

/// What became of a request to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Subscribed {
    /// The reader gets everything after a position.
    From {
        /// The reader's position now.
        position: Position,
        /// The offset of the newest publication.
        top: u64,
        /// Whether it is the position that the client asked for, if it did ask for one.
        recovered: Option<Result<(), Unrecovered>>,
        /// The channel has a state.
        is_state: bool,
    },
    /// The reader had this channel already, and nothing changed.
    Existing {
        /// The reader was served up to here.
        position: Position,
        /// The offset of the newest publication.
        top: u64,
        /// The channel has a state.
        is_state: bool,
    },
    /// The reader has as many channels as it may have.
    TooMany {
        /// So many.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_survives_its_text_and_nothing_else_is_one() {
        let epoch = Epoch::new(0x00ab_cdef_0123_4567);
        assert_eq!(epoch.to_string().parse::<Epoch>().ok(), Some(epoch));
        for text in ["", "0", "00ABCDEF01234567", "+0abcdef01234567", "00abcdef012345678"] {
            assert!(text.parse::<Epoch>().is_err(), "{text}");
        }
    }
}
