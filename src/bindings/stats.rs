//! Counters as a snapshot.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::close::CloseReason;
use crate::refusal::Refusal;
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
            /// Those of `refused` by their reason, such as `origin` or `full`.
            refused_by: BTreeMap<&'static str, u64>,
            /// Connections that were accepted and have ended since the start, by the reason, such as `client` or `not_reading`.
            closed_by: BTreeMap<String, u64>,
        }

        impl Stats {
            /// The plain numbers, with their names.
            fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [
                    $((stringify!($name), self.$name),)*
                    $((stringify!($total), self.$total),)*
                    (stringify!($lines), self.$lines),
                ]
                .into_iter()
            }

            pub fn new(snapshot: &Snapshot, totals: Totals, $lines: u64) -> Self {
                Self {
                    $($name: snapshot.$name,)*
                    $($total: totals.$total,)*
                    $lines,
                    lateness_buckets: snapshot.lateness.buckets.to_vec(),
                    refused_by: Refusal::LABELS.iter().copied().zip(snapshot.refusals).collect(),
                    closed_by: CloseReason::labels().zip(snapshot.closed).collect(),
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

    /// Everything as a new dict, which JSON can hold.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, number) in self.numbers() {
            dict.set_item(name, number)?;
        }
        dict.set_item("refused_by", self.refused_by.clone())?;
        dict.set_item("closed_by", self.closed_by.clone())?;
        dict.set_item("lateness_buckets", self.lateness_buckets.clone())?;
        Ok(dict)
    }

    /// What is not zero.
    fn __repr__(&self) -> String {
        let mut text = String::from("<Stats");
        let by = self.refused_by.iter().map(|(reason, count)| (format!("refused_by[{reason}]"), *count));
        let closed = self.closed_by.iter().map(|(reason, count)| (format!("closed_by[{reason}]"), *count));
        let numbers = self.numbers().map(|(name, number)| (name.to_owned(), number));
        for (name, number) in numbers.chain(by).chain(closed).filter(|(_, number)| *number > 0) {
            text.push_str(&format!(" {name}={number}"));
        }
        if self.lateness_buckets.iter().any(|count| *count > 0) {
            let [half, most] = [0.5, 0.99].map(|quantile| self.lateness(quantile, None) * 1000.0);
            text.push_str(&format!(" lateness={half:.1} ms (p50), {most:.1} ms (p99)"));
        }
        text.push('>');
        text
    }
}
