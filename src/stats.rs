//! Counters and gauges. Each shard writes its own; a snapshot adds them up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one shard counts. Only its shard writes, so a relaxed store costs as much as a plain one.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            pub lateness: Histogram,
        }

        /// The sum of the counters of all shards at one moment.
        #[derive(Clone, Debug)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            pub lateness: [u64; BUCKETS],
        }

        impl Snapshot {
            pub fn of<'a>(shards: impl Iterator<Item = &'a Counters>) -> Self {
                let mut sum = Self { $($name: 0,)* lateness: [0; BUCKETS] };
                for shard in shards {
                    $(sum.$name = sum.$name.wrapping_add(shard.$name.load());)*
                    for (total, bucket) in sum.lateness.iter_mut().zip(&shard.lateness.0) {
                        *total += bucket.load();
                    }
                }
                sum
            }
        }
    };
}

counters! {
    /// Connections open now.
    connections,
    /// Connections accepted since the start.
    accepted,
    /// Connections refused or failed before they were established.
    refused,
    /// Subscriptions now.
    subscriptions,
    /// Connections now that have something to read and do not take it.
    blocked,
    /// Messages received.
    received,
    /// Frames written that carry publications.
    frames,
    /// Publications those frames carried.
    delivered,
    /// Bytes written to sockets.
    bytes_sent,
    /// Gaps announced.
    gaps,
    /// Publications that those gaps stand for.
    lost,
    /// Panics that ended one connection each.
    panics,
}

/// A number with one writer and many readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub fn sub(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    pub fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Buckets of a [`Histogram`]: four per power of two, from 1 µs to about 2^32 µs (72 minutes).
pub const BUCKETS: usize = 128;

/// Durations in buckets that grow by a quarter of a power of two: an estimate is at most 19 % off.
#[derive(Debug)]
pub struct Histogram([Counter; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    pub fn record(&self, duration: Duration, weight: u64) {
        self.0[bucket(duration)].add(weight);
    }
}

fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(4);
    let power = micros.ilog2() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    ((power - 2) * 4 + quarter).min(BUCKETS - 1)
}

/// Upper bound of the bucket in which a quantile (0 to 1) lies; zero when nothing was recorded.
pub fn quantile(buckets: &[u64; BUCKETS], quantile: f64) -> Duration {
    let total: u64 = buckets.iter().sum();
    let wanted = (quantile.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    for (index, count) in buckets.iter().enumerate() {
        seen += count;
        if total > 0 && seen >= wanted {
            let (power, quarter) = (index / 4 + 2, index % 4);
            return Duration::from_micros(((5 + quarter as u64) << power) / 4);
        }
    }
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_a_quarter_above_the_truth() {
        for micros in [4, 5, 100, 999, 16_000, 3_000_000] {
            let counters = Counters::default();
            counters.lateness.record(Duration::from_micros(micros), 10);
            let snapshot = Snapshot::of([&counters].into_iter());
            let found = quantile(&snapshot.lateness, 0.5).as_micros() as u64;
            assert!(found >= micros && found <= micros + micros / 4 + 1, "{micros} became {found}");
        }
    }

    #[test]
    fn nothing_delivered_is_not_late() {
        assert_eq!(quantile(&[0; BUCKETS], 0.99), Duration::ZERO);
    }
}
