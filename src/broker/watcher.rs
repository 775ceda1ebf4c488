//! How a reader learns that a log has moved: without a lock, and once for a burst of publications.
//!
//! The log first stores its new top, then looks whether the watcher is armed. The reader first arms the watcher, then
//! looks at the top. So one of the two sees what the other did, and no publication waits for the next one. Both change
//! the flag by a swap, and whichever swap is second sees all that was done before the first. `tests/rust/broker.rs` tries every
//! order of the steps.

use std::fmt;
use std::sync::Arc;

use crate::broker::place::Place;
use crate::broker::sync::{AtomicBool, AtomicU64, Ordering};

/// Told when a log has moved.
pub trait Notify: Send + Sync {
    /// Called under the lock of the log. Must not block, and must not call the log.
    fn notify(&self);
}

/// The interest of a hub in a log. It notifies once, and then not again until it is armed. And it says how far the hub's
/// readers were offered what the log has.
pub struct Watcher {
    notified: AtomicBool,
    /// The bits of a place. Raised without the lock of the log: a log that sees an older value keeps more. Lowered under it where a place is
    /// found, so that nothing is dropped between finding the place and keeping it.
    offered: AtomicU64,
    /// As `offered`, for the readers that are late, too.
    slowest: AtomicU64,
    /// Readers of the hub.
    readers: AtomicU64,
    notify: Arc<dyn Notify>,
}

impl Watcher {
    /// A watcher that is armed.
    pub fn new(notify: Arc<dyn Notify>) -> Self {
        let [offered, slowest] = [Place::MAX.to_bits(); 2].map(AtomicU64::new);
        let (notified, readers) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { notified, offered, slowest, readers, notify }
    }

    /// Up to here, all readers of this hub that keep up were offered what the log has.
    pub fn is_offered(&self) -> Place {
        Place::from_bits(self.offered.load(Ordering::Relaxed))
    }

    /// As [`Watcher::is_offered`], for the readers that are late, too.
    pub fn slowest(&self) -> Place {
        Place::from_bits(self.slowest.load(Ordering::Relaxed))
    }

    /// Says up to where the readers that keep up were offered everything, and up to where all were. Only the watcher's hub
    /// calls it.
    pub fn offered(&self, place: Place, slowest: Place) {
        self.offered.store(place.to_bits(), Ordering::Relaxed);
        self.slowest.store(slowest.to_bits(), Ordering::Relaxed);
    }

    /// Keeps what comes after this place for a reader, as far as it is still there.
    pub fn hold(&self, place: Place) {
        self.offered.fetch_min(place.to_bits(), Ordering::Relaxed);
        self.slowest.fetch_min(place.to_bits(), Ordering::Relaxed);
    }

    /// Says how many readers the hub has. Only the watcher's hub calls it.
    pub fn count_readers(&self, count: usize) {
        self.readers.store(count as u64, Ordering::Relaxed);
    }

    /// How many readers the hub has.
    pub fn readers(&self) -> u64 {
        self.readers.load(Ordering::Relaxed)
    }

    /// Notifies, unless it has since it was armed.
    pub fn moved(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.notify.notify();
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watcher").field("notified", &self.notified).finish_non_exhaustive()
    }
}

/// Where a log ends, readable without its lock.
#[derive(Debug)]
pub struct Top(AtomicU64);

impl Top {
    pub fn new(top: Place) -> Self {
        Self(AtomicU64::new(top.to_bits()))
    }

    pub fn get(&self) -> Place {
        Place::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Moves the top, and tells every watcher that is armed. Call it under the lock of the log.
    pub fn advance(&self, top: Place, watchers: &[Arc<Watcher>]) {
        self.0.store(top.to_bits(), Ordering::Release);
        for watcher in watchers {
            watcher.moved();
        }
    }

    /// Arms a watcher and returns the top as it is after that. A reader that knows an older top has to look at the log
    /// now: of what was appended before this call it is not notified.
    pub fn arm(&self, watcher: &Watcher) -> Place {
        watcher.notified.swap(false, Ordering::AcqRel);
        self.get()
    }
}
