//! Counters as a snapshot.

use pyo3::prelude::*;

use crate::broker::Totals;
use crate::stats::Snapshot;

#[pyclass(frozen, get_all, module = "umbel._core")]
pub struct Stats {
    connections: u64,
    accepted: u64,
    refused: u64,
    subscriptions: u64,
    channels: u64,
    published: u64,
    trimmed: u64,
    frames: u64,
    delivered: u64,
    bytes_sent: u64,
    gaps: u64,
    lost: u64,
    blocked: u64,
    received: u64,
    panics: u64,
    log_lines_dropped: u64,
    lateness_buckets: Vec<u64>,
}

impl Stats {
    pub fn new(snapshot: &Snapshot, totals: Totals, log_lines_dropped: u64) -> Self {
        let Snapshot {
            connections,
            accepted,
            refused,
            subscriptions,
            blocked,
            received,
            frames,
            delivered,
            bytes_sent,
            gaps,
            lost,
            panics,
            lateness,
        } = *snapshot;
        let Totals { channels, published, trimmed } = totals;
        Self {
            connections,
            accepted,
            refused,
            subscriptions,
            channels,
            published,
            trimmed,
            frames,
            delivered,
            bytes_sent,
            gaps,
            lost,
            blocked,
            received,
            panics,
            log_lines_dropped,
            lateness_buckets: lateness.to_vec(),
        }
    }
}

#[pymethods]
impl Stats {
    /// Seconds from publish to write at a quantile, since `earlier` or since the start.
    #[pyo3(signature = (quantile, /, since = None))]
    fn lateness(&self, quantile: f64, since: Option<&Self>) -> f64 {
        let before = |index: usize| since.map_or(0, |stats| stats.lateness_buckets[index]);
        let buckets = std::array::from_fn(|index| self.lateness_buckets[index].saturating_sub(before(index)));
        crate::stats::quantile(&buckets, quantile).as_secs_f64()
    }
}
