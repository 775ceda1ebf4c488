//! The clock of a process.
#![expect(clippy::disallowed_methods, reason = "the one place where time comes in")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::moment::Moment;

/// Tells monotonic moments, all counted from one start, and the wall clock.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// Nanoseconds by which a test has moved it.
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// A clock whose moments count from now.
    #[expect(clippy::new_without_default, reason = "a clock that starts now is no default value")]
    pub fn new() -> Self {
        Self { start: Instant::now(), ahead: Arc::default() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Moment::from_nanos(elapsed.saturating_add(self.ahead.load(Ordering::Relaxed)))
    }

    /// The same moment for the timer of the runtime.
    pub fn instant(&self, moment: Moment) -> Instant {
        let ahead = Duration::from_nanos(self.ahead.load(Ordering::Relaxed));
        self.start + moment.since(Moment::default()).saturating_sub(ahead)
    }

    /// Milliseconds since 1970, for timestamps that people and clients read.
    pub fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ahead = Duration::from_nanos(self.ahead.load(Ordering::Relaxed));
        u64::try_from((since + ahead).as_millis()).unwrap_or(u64::MAX)
    }

    /// Moves the clock forward, for a test.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX / 4), Ordering::Relaxed);
    }
}
