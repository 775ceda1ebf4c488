//! What all logs of the memory broker hold together, and what was published and evicted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Each channel charges every change of what it holds.
#[derive(Debug)]
pub struct MemoryAccount {
    all: Sum,
    /// The private channels of clients that are away.
    away: Sum,
    /// States, which do not give way.
    states: Sum,
    uses: AtomicU64,
    /// Uses that published nothing.
    other_uses: AtomicU64,
    evicted: AtomicU64,
}

/// A sum with a limit.
#[derive(Debug)]
struct Sum {
    limit: usize,
    /// Changes of one channel may be charged in another order than they were made, so for a moment it can be wrong by what is under
    /// way, and even less than nothing.
    bytes: AtomicUsize,
}

/// What counts in the sum of all logs, what in that of the private channels of clients that are away, and what in that of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub all: usize,
    pub away: usize,
    pub state: usize,
}

impl Cost {
    pub const NOTHING: Self = Self { all: 0, away: 0, state: 0 };
}

/// One of the two sums of what gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    All,
    Away,
}

impl MemoryAccount {
    /// An account of which clients that are away may have a quarter, and states so much.
    pub fn new(limit: usize, states: usize) -> Self {
        let [uses, other_uses, evicted] = [0; 3].map(AtomicU64::new);
        let [all, away, states] = [limit, limit / 4, states].map(Sum::new);
        Self { all, away, states, uses, other_uses, evicted }
    }

    /// Notes that something cost `before` and now costs `after`.
    pub fn charge(&self, before: Cost, after: Cost) {
        self.all.charge(before.all, after.all);
        self.away.charge(before.away, after.away);
        self.states.charge(before.state, after.state);
    }

    /// Bytes above the limit of one of the sums, if there are any.
    pub fn excess(&self, of: Of) -> Option<usize> {
        let excess = match of {
            Of::All => self.all.excess(),
            Of::Away => self.away.excess(),
        };
        usize::try_from(excess).ok().filter(|&excess| excess > 0)
    }

    /// How many bytes all states together would have too much with so many more, and what they may have.
    pub fn state_excess(&self, more: usize) -> (usize, usize) {
        let excess = self.states.excess().saturating_add_unsigned(more);
        (usize::try_from(excess).unwrap_or(0), self.states.limit)
    }

    /// Counts a publication. Returns the number of this use of a channel, which no other use has; later ones are larger.
    pub fn count_published(&self) -> u64 {
        self.uses.fetch_add(1, Relaxed)
    }

    /// Counts a use that publishes nothing, and returns its number.
    pub fn count_other_use(&self) -> u64 {
        self.other_uses.fetch_add(1, Relaxed);
        self.uses.fetch_add(1, Relaxed)
    }

    pub fn published(&self) -> u64 {
        self.uses.load(Relaxed).saturating_sub(self.other_uses.load(Relaxed))
    }

    /// Counts publications that were dropped because of the limit.
    pub fn count_evicted(&self, count: u64) {
        self.evicted.fetch_add(count, Relaxed);
    }

    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// What all logs cost.
    pub fn cost(&self) -> Cost {
        let [all, away, state] = [&self.all, &self.away, &self.states].map(Sum::bytes);
        Cost { all, away, state }
    }
}

impl Sum {
    fn new(limit: usize) -> Self {
        Self { limit, bytes: AtomicUsize::new(0) }
    }

    fn charge(&self, before: usize, after: usize) {
        // Often nothing changes: a full log drops as much as it takes.
        if before != after {
            // Wraps around when it shrinks, and so does the sum.
            self.bytes.fetch_add(after.wrapping_sub(before), Relaxed);
        }
    }

    fn excess(&self) -> isize {
        (self.bytes.load(Relaxed) as isize).saturating_sub_unsigned(self.limit)
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Relaxed) as isize).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_above_the_limit_are_excess() {
        let sum = Sum::new(100);
        sum.charge(0, 100);
        assert_eq!(sum.excess(), 0);
        sum.charge(40, 70);
        assert_eq!((sum.excess(), sum.bytes()), (30, 130));
        sum.charge(130, 0);
        assert_eq!((sum.excess(), sum.bytes()), (-100, 0));
    }

    #[test]
    fn what_is_freed_before_it_was_charged_is_no_excess() {
        let sum = Sum::new(1000);
        sum.charge(100, 0);
        assert_eq!((sum.bytes(), sum.excess()), (0, -1100));
        sum.charge(0, 1200);
        assert_eq!(sum.excess(), 100);
        sum.charge(0, 0);
        sum.charge(1200, 0);
        sum.charge(0, 100);
        assert_eq!((sum.bytes(), sum.excess()), (0, -1000));
    }

    #[test]
    fn clients_that_are_away_may_have_a_quarter() {
        let account = MemoryAccount::new(1000, 300);
        account.charge(Cost::NOTHING, Cost { all: 900, away: 250, state: 200 });
        assert_eq!([Of::All, Of::Away].map(|of| account.excess(of)), [None, None]);
        assert_eq!([100, 101].map(|more| account.state_excess(more)), [(0, 300), (1, 300)]);
        account.charge(Cost::NOTHING, Cost { all: 50, away: 50, state: 0 });
        assert_eq!([Of::All, Of::Away].map(|of| account.excess(of)), [None, Some(50)]);
    }
}
