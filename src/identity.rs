//! Who a client is.

use crate::rights::{Rights, Wish};

/// Who a client is, as its token or the application says. The same for all that it does on one connection, until it is renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Empty when it is anonymous.
    pub subject: Box<str>,
    /// Until when its credentials are good, in milliseconds of Unix time. `None`: for ever.
    pub expires: Option<u64>,
    /// The same, with the leeway for clocks that differ. From then on nobody is let in with them.
    pub ends: Option<u64>,
    /// When the client is told that they will end.
    pub warns: Option<u64>,
    /// What its claims say of channels. `None`: they can't be understood.
    pub rights: Option<Rights>,
}

impl Identity {
    /// What the application says.
    pub fn of_application(subject: &str, expires: Option<u64>, rights: Option<Rights>) -> Self {
        Self { subject: subject.into(), expires, ends: expires, warns: expires, rights }
    }

    /// Notes since when its credentials are good, or were seen first: half of the time before their end, but not more than 30 seconds, is
    /// for others to be shown. With more than half of it, a client whose credentials are good for a short time would renew them on and on.
    pub fn begin(&mut self, since: u64) {
        let warns = |expires: u64| expires - (expires.saturating_sub(since) / 2).min(LONGEST_WARNING);
        self.warns = self.expires.map(warns);
    }

    /// Whether its claims allow something.
    pub fn may(&self, wish: Wish, channel: &str) -> bool {
        self.rights.as_ref().is_some_and(|rights| rights.allow(wish, channel))
    }

    /// Whether its credentials are no longer good. `today` is milliseconds of Unix time.
    pub fn has_ended(&self, today: u64) -> bool {
        self.ends.is_some_and(|ends| ends <= today)
    }
}

/// Milliseconds before the end of credentials at which a client is told.
const LONGEST_WARNING: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_short_time_is_left_for_the_next_credentials() {
        for (since, expires, warns) in
            [(0, 600_000, 570_000), (0, 60_000, 30_000), (0, 20_000, 10_000), (9, 8, 8)]
        {
            let mut identity = Identity::of_application("ann", Some(expires), None);
            identity.begin(since);
            assert_eq!(identity.warns, Some(warns));
        }
        let mut for_ever = Identity::of_application("ann", None, None);
        for_ever.begin(7);
        assert_eq!((for_ever.warns, for_ever.has_ended(u64::MAX)), (None, false));
    }
}
