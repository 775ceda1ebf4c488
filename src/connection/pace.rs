//! How much a client may say.

use std::time::Duration;

use crate::moment::Moment;

/// A token bucket that is one number: the moment up to which what the client has said is paid for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    paid: Moment,
}

impl Pace {
    /// Notes messages; `false` when the client says more than `per_second` for longer than a burst.
    pub fn allows(&mut self, messages: u32, per_second: u32, now: Moment) -> bool {
        let Some(cost) = Duration::from_secs(messages.into()).checked_div(per_second) else { return true };
        self.paid = self.paid.max(now) + cost;
        self.paid.since(now) <= BURST
    }
}

/// What a client may say at once is what it may say in this time.
const BURST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    #[test]
    fn the_rate_is_kept_for_ever_and_a_burst_only_once() {
        let (mut pace, mut now) = (Pace::default(), Moment::default() + NOON);
        assert!(pace.allows(4_990, 1000, now));
        for _ in 0..1000 {
            now = now + Duration::from_millis(10);
            assert!(pace.allows(10, 1000, now));
        }
        assert!(!pace.allows(100, 1000, now));
    }

    #[test]
    fn messages_that_come_singly_are_counted_exactly() {
        let (mut pace, mut now) = (Pace::default(), Moment::default() + NOON);
        let allowed = (0..100_000).take_while(|_| {
            now = now + Duration::from_micros(100);
            pace.allows(1, 1000, now)
        });
        // Ten times as fast as allowed: nine tenths of each message come out of the burst of 5000.
        assert!((5550..5560).contains(&allowed.count()));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let now = Moment::default() + NOON;
        assert!(Pace::default().allows(u32::MAX, 0, now));
    }
}
