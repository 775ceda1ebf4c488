//! Latency histogram: 64 linear buckets per power of two, so a bucket is at most 1.6 % wide.

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;

#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { buckets: vec![0; (64 * SUB) as usize], count: 0, sum: 0, max: 0 }
    }

    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.sum += u128::from(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    /// How often something was recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.sum, self.max) = (0, 0, 0);
    }

    /// The value below which the given share of the recordings lies, in nanoseconds (the middle of its bucket).
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index).min(self.max);
            }
        }
        self.max
    }

    /// What was recorded since an earlier copy.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets: Vec<u64> =
            self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now - then).collect();
        let largest = buckets.iter().rposition(|&count| count > 0).map_or(0, middle);
        Self {
            buckets,
            count: self.count - earlier.count,
            sum: self.sum - earlier.sum,
            max: largest.min(self.max),
        }
    }

    /// Milliseconds, or null where nothing was recorded.
    pub fn to_json(&self) -> serde_json::Value {
        if self.count == 0 {
            return serde_json::Value::Null;
        }
        let milliseconds = |nanoseconds: u64| (nanoseconds as f64 / 1e3).round() / 1e3;
        serde_json::json!({
            "count": self.count,
            "mean": milliseconds((self.sum / u128::from(self.count)) as u64),
            "p50": milliseconds(self.quantile(0.50)),
            "p95": milliseconds(self.quantile(0.95)),
            "p99": milliseconds(self.quantile(0.99)),
            "p999": milliseconds(self.quantile(0.999)),
            "max": milliseconds(self.max),
        })
    }

    /// Its buckets that are not empty, as pairs of a number and a count, so that histograms of several loads can be added.
    pub fn buckets(&self) -> Vec<(usize, u64)> {
        self.buckets.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BITS;
    ((u64::from(shift + 1) << SUB_BITS) + ((value >> shift) & (SUB - 1))) as usize
}

fn middle(index: usize) -> u64 {
    let (octave, sub) = (index as u64 >> SUB_BITS, index as u64 & (SUB - 1));
    if octave == 0 {
        return sub;
    }
    let shift = octave - 1;
    ((SUB + sub) << shift) + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_within_two_percent_of_their_values() {
        for value in [1, 63, 64, 65, 127, 128, 1_000, 55_123_456, 3_000_000_000, u64::MAX / 2] {
            let error = middle(bucket(value)).abs_diff(value);
            assert!(error as f64 <= value as f64 * 0.02, "{value} became {}", middle(bucket(value)));
        }
    }

    #[test]
    fn quantiles_of_an_even_spread_are_where_they_should_be() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        for (share, expected) in [(0.5, 500_000.0), (0.95, 950_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)]
        {
            let found = histogram.quantile(share) as f64;
            assert!((found - expected).abs() < expected * 0.02, "{share}: {found}");
        }
    }
}
