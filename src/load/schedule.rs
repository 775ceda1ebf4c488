//! Moments that come at a fixed rate.

/// A moment that comes at a fixed rate, whatever happened before: open loop.
pub struct Schedule {
    period: u64,
    pub next: u64,
}

impl Schedule {
    pub fn new(rate: f64) -> Self {
        Self { period: if rate > 0.0 { (1e9 / rate) as u64 } else { 0 }, next: u64::MAX }
    }

    /// The first moment.
    pub fn start(&mut self, first: u64) {
        if self.period > 0 {
            self.next = first;
        }
    }

    /// The moment that has passed, once for each.
    pub fn due(&mut self, now: u64) -> Option<u64> {
        let moment = self.next;
        (now >= moment).then(|| self.next += self.period).map(|()| moment)
    }
}
