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
}

/// Why a reader gets a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// It was further behind than the log reaches back. What lies between the offsets is lost for it.
    Overrun,
    /// The epoch has changed, and nothing up to the reader's offset with it. Nothing is lost.
    Turn,
    /// The epoch has changed, and with it something that the reader has had.
    Reset,
}

impl GapReason {
    /// Every reason, in the order of the table in `docs/protocol.md`.
    pub const ALL: [Self; 3] = [Self::Overrun, Self::Turn, Self::Reset];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Turn => "turn",
            Self::Reset => "reset",
        }
    }

    /// Whether the reader has to load its state anew.
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::Turn)
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
        /// It is the position that the reader asked for.
        recovered: bool,
    },
    /// The reader had this channel already, and nothing changed.
    Already {
        /// The reader was served up to here.
        position: Position,
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
