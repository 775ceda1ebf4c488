//! Where something is in a log, as the readers of one process compare it.

use std::fmt;

/// An offset, and how often the log had changed its epoch. What comes later in a log is greater, also when a change of
/// the epoch has moved the offsets back.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// After everything that a log can have.
    pub const MAX: Self = Self(u64::MAX);

    /// The offset in its epoch.
    pub const fn offset(self) -> u64 {
        self.0 & MAX_OFFSET
    }

    /// How often the log had changed its epoch.
    pub const fn turn(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    /// The place of another offset in the same epoch.
    pub const fn with_offset(self, offset: u64) -> Self {
        debug_assert!(offset <= MAX_OFFSET);
        Self(self.0 & !MAX_OFFSET | offset)
    }

    /// The place of an offset in the next epoch.
    pub fn in_next_turn(self, offset: u64) -> Self {
        let turns = (self.0 | MAX_OFFSET).checked_add(1).expect("no log changes its epoch that often");
        Self(turns).with_offset(offset)
    }

    /// As one number, for an atomic.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The place that [`Place::to_bits`] made this of.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Place({}:{})", self.turn(), self.offset())
    }
}

/// Bits of the offset: a million publications per second for two years in one channel. The others count changes of the
/// epoch: one per second for three days.
const OFFSET_BITS: u32 = 46;

const MAX_OFFSET: u64 = (1 << OFFSET_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_greater_whatever_the_offset() {
        let early = Place::default().with_offset(100);
        let late = early.in_next_turn(7);
        assert!(early < late && late < late.with_offset(8) && late.with_offset(0) > early);
        assert_eq!((late.turn(), late.offset(), late.with_offset(0).turn()), (1, 7, 1));
        assert_eq!(Place::from_bits(late.to_bits()), late);
    }
}
