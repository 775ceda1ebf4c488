//! Counters as a snapshot.

use pyo3::prelude::*;

use crate::stats::{Snapshot, Totals, table};

macro_rules! class {
    (
        shards { $($(#[$doc:meta])* $name:ident)* }
        broker { $($(#[$total_doc:meta])* $total:ident)* }
        process { $(#[$line_doc:meta])* $lines:ident }
    ) => {
        /// Counters of one server since its start, and gauges of this moment. An immutable snapshot.
        #[pyclass(frozen, get_all, module = "umbel")]
        pub struct Stats {
            $($(#[$doc])* $name: u64,)*
            $($(#[$total_doc])* $total: u64,)*
            $(#[$line_doc])* $lines: u64,
            /// How often each delay occurred, from `publish` to the write of the frame: one entry for each channel in each
            /// frame, for its oldest publication. Four buckets for each power of two of microseconds: bucket `i` ends before
            /// `(5 + i % 4) << (i // 4)` µs, the first begins at 0.
            lateness_buckets: Vec<u64>,
        }

        impl Stats {
            pub fn new(snapshot: &Snapshot, totals: Totals, $lines: u64) -> Self {
                Self {
                    $($name: snapshot.$name,)*
                    $($total: totals.$total,)*
                    $lines,
                    lateness_buckets: snapshot.lateness.to_vec(),
                }
            }
        }
    };
}

table!(class);

#[pymethods]
impl Stats {
    /// Seconds from `publish` to the write of the frame, at a quantile between 0 and 1. With an earlier snapshot, only what came
    /// after it counts.
    #[pyo3(signature = (quantile, /, since = None))]
    fn lateness(&self, quantile: f64, since: Option<&Self>) -> f64 {
        let before = |index: usize| since.map_or(0, |stats| stats.lateness_buckets[index]);
        let buckets = std::array::from_fn(|index| self.lateness_buckets[index].saturating_sub(before(index)));
        crate::stats::quantile(&buckets, quantile).as_secs_f64()
    }
}
