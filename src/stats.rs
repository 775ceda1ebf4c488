//! Counters and gauges. Each shard writes its own; a snapshot adds them up.
//!
//! To add one, put it into the table below with its meaning, and into `python/umbel/_core.pyi`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::close::CloseReason;
use crate::refusal::Refusal;

/// The table of all counters: the name and meaning of each, by who counts. Calls the macro `$then` with it.
macro_rules! table {
    ($then:ident) => {
        $then! {
            shards {
                /// Connections that are open now, those that have not sent their request yet included.
                connections
                /// Connections that were accepted since the start.
                accepted
                /// Connections since the start that were turned away or ended before they were let in: the server or the
                /// address had too many, the request was wrong or too late, or the application refused the client.
                refused
                /// Subscriptions of all clients now. A client's private channel counts once it is used.
                subscriptions
                /// Subscriptions since the start with which clients came back and lost nothing.
                recovered
                /// Subscriptions since the start with which clients came back, and something was lost or may have been.
                unrecovered
                /// Clients now whose socket does not take what waits for them.
                blocked
                /// Messages that were received since the start, on websocket paths too. Pings are not counted.
                received
                /// Frames with publications that were written since the start. A frame to ten clients counts ten times.
                frames
                /// Updates in those frames. A publication that ten clients get counts ten times.
                delivered
                /// Bytes that sockets took since the start, TLS included.
                bytes_sent
                /// Bytes that sockets gave since the start, TLS included.
                bytes_received
                /// Bytes of the updates that were delivered since the start, as JSON text before compression.
                payload_sent
                /// Bytes of the messages that were received since the start, after decompression.
                payload_received
                /// Gaps that clients were told of since the start: each says that publications of one channel will not come.
                gaps
                /// Those of these gaps whose client was late: more than a second behind, and further than the channel's history.
                gaps_overrun
                /// Those of these gaps in which more was published at once than `burst_bytes`.
                gaps_burst
                /// Those of these gaps in which all channels together kept more than `max_log_bytes`.
                gaps_memory
                /// Publications in all gaps. One that ten clients miss counts ten times.
                lost
                /// Bugs of the server since the start that ended one connection each.
                panics
            }
            broker {
                /// Channels that have a log now. A channel without publications and readers loses it after a minute or two.
                channels
                /// Publications since the start, those to private channels included.
                published
                /// Publications that were dropped since the start because all channels together kept more than
                /// `max_log_bytes`.
                trimmed
                /// Bytes that all channels keep now, their names and bookkeeping included. `max_log_bytes` bounds them.
                log_bytes
            }
            process {
                /// Log lines that were dropped since the start, because the event loop was blocked, or because nobody read
                /// stderr or the disk was full.
                log_lines_dropped
            }
        }
    };
}
#[cfg(feature = "python")]
pub(crate) use table;

macro_rules! define {
    (
        shards { $($(#[$doc:meta])* $name:ident)* }
        broker { $($(#[$total_doc:meta])* $total:ident)* }
        process { $($rest:tt)* }
    ) => {
        /// What one shard counts. Only its shard writes, so a relaxed store costs as much as a plain one.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// How long publications waited: see [`Snapshot::lateness`].
            pub lateness: Histogram,
            /// How long ticks took: see [`Snapshot::tick_duration`].
            pub tick_duration: Histogram,
            /// How late ticks began: see [`Snapshot::tick_lag`].
            pub tick_lag: Histogram,
            /// Those of [`Counters::refused`], by their reason.
            refusals: Family<REFUSALS>,
            /// Connections that were accepted and have ended, by their [`CloseReason::index`].
            pub closed: Family<CLOSINGS>,
        }

        /// The sum of the counters of all shards at one moment.
        #[derive(Clone, Debug)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Time from the append of the oldest publication in a read of a log to the write of its frame. One entry for
            /// each channel in each frame.
            pub lateness: Distribution,
            /// Time from the begin of a tick until all readers were served that had something to get. Under overload: until the
            /// next tick began.
            pub tick_duration: Distribution,
            /// Time from the moment at which a tick was to begin until it began.
            pub tick_lag: Distribution,
            /// Those of [`Snapshot::refused`], in the order of [`Refusal::LABELS`].
            pub refusals: [u64; REFUSALS],
            /// Connections that were accepted and have ended, in the order of [`CloseReason::NAMES`].
            pub closed: [u64; CLOSINGS],
        }

        /// What a broker counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$total_doc])* pub $total: u64,)*
        }

        impl Snapshot {
            /// Adds up the counters of shards.
            pub fn of<'a>(shards: impl Iterator<Item = &'a Counters>) -> Self {
                let mut sum = Self {
                    $($name: 0,)*
                    lateness: Distribution::default(),
                    tick_duration: Distribution::default(),
                    tick_lag: Distribution::default(),
                    refusals: [0; REFUSALS],
                    closed: [0; CLOSINGS],
                };
                for shard in shards {
                    $(sum.$name = sum.$name.wrapping_add(shard.$name.load());)*
                    shard.lateness.add_to(&mut sum.lateness);
                    shard.tick_duration.add_to(&mut sum.tick_duration);
                    shard.tick_lag.add_to(&mut sum.tick_lag);
                    shard.refusals.add_to(&mut sum.refusals);
                    shard.closed.add_to(&mut sum.closed);
                }
                sum
            }
        }
    };
}

table!(define);

/// A number with one writer and many readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the one writer calls it.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Subtracts. Only the one writer calls it.
    pub fn sub(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// The number now.
    pub fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// Counts a connection that is turned away, or ends before it is let in.
    pub fn refuse(&self, refusal: Refusal) {
        self.refused.add(1);
        self.refusals.add(refusal as usize, 1);
    }
}

/// Counters of one kind.
#[derive(Debug)]
pub struct Family<const N: usize>([Counter; N]);

impl<const N: usize> Default for Family<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Family<N> {
    /// Adds to one of them. Only the one writer calls it.
    pub fn add(&self, index: usize, amount: u64) {
        self.0[index].add(amount);
    }

    fn add_to(&self, sums: &mut [u64; N]) {
        for (sum, counter) in sums.iter_mut().zip(&self.0) {
            *sum += counter.load();
        }
    }
}

const REFUSALS: usize = Refusal::LABELS.len();
const CLOSINGS: usize = CloseReason::NAMES.len();

/// Buckets of a [`Histogram`], four for each power of two. Bucket `i` ends before `(5 + i % 4) << (i / 4)` µs: the first
/// holds all below 5 µs, the last also what is longer than 4.8 hours.
pub const BUCKETS: usize = 128;

/// Durations in buckets, each at most a quarter wider than the one before it. So the upper bound of a bucket is at most a
/// quarter above what is in it.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: Family<BUCKETS>,
    micros: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        self.buckets.add(bucket(duration), 1);
        self.micros.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    fn add_to(&self, sum: &mut Distribution) {
        self.buckets.add_to(&mut sum.buckets);
        sum.sum += Duration::from_micros(self.micros.load());
    }
}

/// What [`Histogram`]s have recorded.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// How many durations were in each bucket.
    pub buckets: [u64; BUCKETS],
    /// All durations together.
    pub sum: Duration,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: Duration::ZERO }
    }
}

impl Distribution {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many were shorter than 2 to this power, in µs. The power is at least 3.
    pub fn below(&self, power: u32) -> u64 {
        self.buckets.iter().take(4 * (power as usize - 2)).sum()
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

impl Snapshot {
    /// The gaps that clients were told of, by their `reason`.
    pub fn gaps_by_reason(&self) -> [(&'static str, u64); 4] {
        let named = self.gaps_overrun + self.gaps_burst + self.gaps_memory;
        // They are not read at one moment.
        let other = self.gaps.saturating_sub(named);
        [
            ("overrun", self.gaps_overrun),
            ("burst", self.gaps_burst),
            ("memory", self.gaps_memory),
            ("epoch", other),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_a_quarter_above_the_truth() {
        for micros in [4, 5, 100, 999, 16_000, 3_000_000] {
            let counters = Counters::default();
            counters.lateness.record(Duration::from_micros(micros));
            let snapshot = Snapshot::of([&counters].into_iter());
            let found = quantile(&snapshot.lateness.buckets, 0.5).as_micros() as u64;
            assert!(found >= micros && found <= micros + micros / 4 + 1, "{micros} became {found}");
        }
    }

    #[test]
    fn durations_are_counted_below_powers_of_two_and_added_up() {
        let counters = Counters::default();
        for micros in [1, 7, 8, 1023, 1024, 5_000_000] {
            counters.lateness.record(Duration::from_micros(micros));
        }
        let found = Snapshot::of([&counters, &counters].into_iter()).lateness;
        assert_eq!([3, 4, 10, 11, 22, 23].map(|power| found.below(power)), [4, 6, 8, 10, 10, 12]);
        assert_eq!((found.count(), found.sum), (12, Duration::from_micros(2 * 5_002_063)));
    }

    #[test]
    fn nothing_delivered_is_not_late() {
        assert_eq!(quantile(&[0; BUCKETS], 0.99), Duration::ZERO);
    }
}
