//! How much a client may say, and how often it may be wrong.

use std::time::Duration;

use crate::moment::Moment;

/// Counts a client's errors in a window. An honest client with a bug is told its errors. One that floods is closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorLimit {
    window: Moment,
    errors: u8,
}

impl ErrorLimit {
    /// Counts an error. Returns `false` when it was one too many.
    pub fn allows(&mut self, now: Moment) -> bool {
        if now.since(self.window) > WINDOW {
            *self = Self { window: now, errors: 0 };
        }
        self.errors = self.errors.saturating_add(1);
        self.errors <= ERRORS
    }
}

/// A token bucket that is one number: the moment up to which what the client has said is paid for.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimit {
    paid: Moment,
}

impl RateLimit {
    /// Counts messages or frames. Returns `false` when there are more than `per_second` for longer than `burst`: what may be
    /// said at once is what may be said in that time. A rate of 0 is no limit.
    pub fn allows(&mut self, count: u32, per_second: u32, burst: Duration, now: Moment) -> bool {
        let Some(cost) = Duration::from_secs(count.into()).checked_div(per_second) else { return true };
        self.paid = self.paid.max(now) + cost;
        self.paid.since(now) <= burst
    }
}

/// More than this many errors within [`WINDOW`] end the connection with 1008.
const ERRORS: u8 = 20;

const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);
    const BURST: Duration = Duration::from_secs(5);

    #[test]
    fn twenty_errors_are_allowed_in_ten_seconds_and_again_in_the_next() {
        let mut limit = ErrorLimit::default();
        let later = Moment::default() + Duration::from_secs(100);
        assert!((0..20).all(|_| limit.allows(later)));
        assert!(!limit.allows(later));
        assert!(limit.allows(later + Duration::from_secs(11)));
    }

    #[test]
    fn the_rate_is_kept_for_ever_and_a_burst_only_once() {
        let (mut limit, mut now) = (RateLimit::default(), Moment::default() + NOON);
        assert!(limit.allows(4_990, 1000, BURST, now));
        for _ in 0..1000 {
            now = now + Duration::from_millis(10);
            assert!(limit.allows(10, 1000, BURST, now));
        }
        assert!(!limit.allows(100, 1000, BURST, now));
    }

    #[test]
    fn messages_that_come_singly_are_counted_exactly() {
        let (mut limit, mut now) = (RateLimit::default(), Moment::default() + NOON);
        let allowed = (0..100_000).take_while(|_| {
            now = now + Duration::from_micros(100);
            limit.allows(1, 1000, BURST, now)
        });
        // Ten times as fast as allowed: nine tenths of each message come out of the burst of 5000.
        assert!((5550..5560).contains(&allowed.count()));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let now = Moment::default() + NOON;
        assert!(RateLimit::default().allows(u32::MAX, 0, BURST, now));
    }
}
