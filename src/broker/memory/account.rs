//! What all logs of the memory broker hold together, and what was published and evicted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Each channel charges every change of what it holds. Changes of one channel may be charged in another order than they were
/// made, so for a moment the sum can be wrong by what is under way, and even less than nothing.
#[derive(Debug)]
pub struct MemoryAccount {
    limit: usize,
    bytes: AtomicUsize,
    uses: AtomicU64,
    /// Uses that published nothing.
    other_uses: AtomicU64,
    evicted: AtomicU64,
}

impl MemoryAccount {
    pub fn new(limit: usize) -> Self {
        let [uses, other_uses, evicted] = [0; 3].map(AtomicU64::new);
        Self { limit, bytes: AtomicUsize::new(0), uses, other_uses, evicted }
    }

    /// Notes that something held `before` bytes and now holds `after`.
    pub fn charge(&self, before: usize, after: usize) {
        // Often nothing changes: a full log drops as much as it takes.
        if before != after {
            // Wraps around when it shrinks, and so does the sum.
            self.bytes.fetch_add(after.wrapping_sub(before), Relaxed);
        }
    }

    /// Bytes above the limit, if there are any.
    pub fn excess(&self) -> Option<usize> {
        let excess = (self.bytes.load(Relaxed) as isize).saturating_sub_unsigned(self.limit);
        usize::try_from(excess).ok().filter(|&excess| excess > 0)
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

    /// Bytes that all logs hold.
    pub fn bytes(&self) -> usize {
        // For a moment it can be less than nothing.
        usize::try_from(self.bytes.load(Relaxed) as isize).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_above_the_limit_are_excess() {
        let account = MemoryAccount::new(100);
        account.charge(0, 100);
        assert_eq!(account.excess(), None);
        account.charge(40, 70);
        assert_eq!((account.excess(), account.bytes()), (Some(30), 130));
        account.charge(130, 0);
        assert_eq!((account.excess(), account.bytes()), (None, 0));
    }

    #[test]
    fn what_is_freed_before_it_was_charged_is_no_excess() {
        let account = MemoryAccount::new(1000);
        account.charge(100, 0);
        assert_eq!(account.excess(), None);
        account.charge(0, 1200);
        assert_eq!(account.excess(), Some(100));
        account.charge(0, 0);
        account.charge(1200, 0);
        account.charge(0, 100);
        assert_eq!((account.bytes(), account.excess()), (0, None));
    }
}
