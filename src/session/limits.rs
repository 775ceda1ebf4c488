//! How much a client may say, and how often it may be wrong.

use std::time::Duration;

use crate::moment::Moment;

/// Counts a client's errors. An honest client with a bug is told its errors. One that makes many is heard more slowly: two
/// errors a second, after [`ERRORS_BURST`] with more at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorLimit {
    /// The moment up to which its errors are paid for.
    paid: Moment,
}

impl ErrorLimit {
    /// Counts an error.
    pub fn count(&mut self, now: Moment) {
        self.paid = (self.paid.max(now) + ERROR_COST).min(now + ERRORS_BURST + LONGEST_QUIET);
    }

    /// Until when the client is not heard. That may be over.
    pub fn quiet_until(&self) -> Moment {
        self.paid - ERRORS_BURST
    }
}

/// A token bucket that is one number: the moment up to which what the client has said is paid for.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimit {
    paid: Moment,
}

impl RateLimit {
    /// Counts messages or frames. Returns `false` when there are more than `per_second` for longer than `burst`: what may be
    /// said at once is what may be said in that time. Then they do not count: who tries again would never be heard. A rate of 0 is
    /// no limit.
    pub fn allows(&mut self, count: u32, per_second: u32, burst: Duration, now: Moment) -> bool {
        let Some(cost) = Duration::from_secs(count.into()).checked_div(per_second) else { return true };
        let paid = self.paid.max(now) + cost;
        let allows = paid.since(now) <= burst;
        if allows {
            self.paid = paid;
        }
        allows
    }
}

/// A client that is not heard for longer is taken for gone, by itself too. It matters where many errors come at once: they are
/// answered by the application, after more was read.
const LONGEST_QUIET: Duration = Duration::from_secs(5);

/// What an error costs: two of them are allowed per second.
const ERROR_COST: Duration = Duration::from_millis(500);

/// Errors that cost so much may be made at once: 20.
pub const ERRORS_BURST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);
    const BURST: Duration = Duration::from_secs(5);

    #[test]
    fn twenty_errors_are_allowed_at_once_and_then_two_per_second() {
        let mut limit = ErrorLimit::default();
        let mut now = Moment::default() + NOON;
        (0..20).for_each(|_| limit.count(now));
        assert!(limit.quiet_until() <= now);
        for _ in 0..10 {
            limit.count(now);
            assert_eq!(limit.quiet_until(), now + Duration::from_millis(500));
            now = limit.quiet_until();
        }
        (0..20).for_each(|_| limit.count(now + Duration::from_secs(10)));
        assert!(limit.quiet_until() <= now + Duration::from_secs(10));
    }

    #[test]
    fn a_client_is_heard_again_soon_however_many_errors_it_made() {
        let (mut limit, now) = (ErrorLimit::default(), Moment::default() + NOON);
        (0..300).for_each(|_| limit.count(now));
        assert_eq!(limit.quiet_until(), now + LONGEST_QUIET);
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
