//! What all logs of a broker hold together, and what was published and dropped.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Each log books every change of what it holds, under its own lock, so the sum is exact.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: usize,
    bytes: AtomicUsize,
    uses: AtomicU64,
    published: AtomicU64,
    trimmed: AtomicU64,
}

impl Ledger {
    pub fn new(limit: usize) -> Self {
        let [uses, published, trimmed] = [0; 3].map(AtomicU64::new);
        Self { limit, bytes: AtomicUsize::new(0), uses, published, trimmed }
    }

    pub fn book(&self, before: usize, after: usize) {
        // Wraps around when it shrinks, and so does the sum.
        self.bytes.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// By how many bytes the logs pass the limit, if they do.
    pub fn excess(&self) -> Option<usize> {
        self.bytes.load(Relaxed).checked_sub(self.limit).filter(|&excess| excess > 0)
    }

    /// The number of a use of a log; later ones are larger.
    pub fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Relaxed)
    }

    pub fn publish(&self) {
        self.published.fetch_add(1, Relaxed);
    }

    pub fn published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    /// Counts a publication that was dropped because of the limit.
    pub fn trim(&self) {
        self.trimmed.fetch_add(1, Relaxed);
    }

    pub fn trimmed(&self) -> u64 {
        self.trimmed.load(Relaxed)
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
    fn only_what_passes_the_limit_is_excess() {
        let ledger = Ledger::new(100);
        ledger.book(0, 100);
        assert_eq!(ledger.excess(), None);
        ledger.book(40, 70);
        assert_eq!((ledger.excess(), ledger.bytes()), (Some(30), 130));
        ledger.book(130, 0);
        assert_eq!((ledger.excess(), ledger.bytes()), (None, 0));
    }
}
