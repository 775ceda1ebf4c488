//! What all logs of the memory broker hold together, and what was published and evicted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Each channel charges every change of what it holds, one after the other, so the sum is exact.
#[derive(Debug)]
pub struct MemoryAccount {
    limit: usize,
    bytes: AtomicUsize,
    published: AtomicU64,
    /// Uses of channels that published nothing.
    other_uses: AtomicU64,
    evicted: AtomicU64,
}

impl MemoryAccount {
    pub fn new(limit: usize) -> Self {
        let [published, other_uses, evicted] = [0; 3].map(AtomicU64::new);
        Self { limit, bytes: AtomicUsize::new(0), published, other_uses, evicted }
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
        self.bytes.load(Relaxed).checked_sub(self.limit).filter(|&excess| excess > 0)
    }

    /// Counts a publication. Returns the number of this use of a channel; later uses have larger ones.
    pub fn count_published(&self) -> u64 {
        self.published.fetch_add(1, Relaxed) + self.other_uses.load(Relaxed)
    }

    /// Counts another use of a channel, and returns its number.
    pub fn count_other_use(&self) -> u64 {
        self.published.load(Relaxed) + self.other_uses.fetch_add(1, Relaxed)
    }

    pub fn published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    /// Counts publications that were dropped because of the limit.
    pub fn count_evicted(&self, count: u64) {
        self.evicted.fetch_add(count, Relaxed);
    }

    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
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
}
