//! Where a reader stands in a channel's log.

use std::fmt;
use std::str::FromStr;

/// Random id of one life of a log. It changes whenever the top offset can have gone back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    pub const fn new(random: u64) -> Self {
        Self(random)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Text that is not an epoch: whoever sent it never stood in one of our logs.
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

/// An epoch and an offset in it: 1 for the first publication, 0 before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub offset: u64,
}

/// What became of a request to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Subscribed {
    /// The reader gets everything after this position. `recovered`: it is the one that was asked for.
    From { position: Position, recovered: bool },
    /// It had this channel already, and nothing changed. The position is where it has been served up to.
    Already { position: Position },
    /// It has as many channels as it may have.
    TooMany { most: usize },
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
