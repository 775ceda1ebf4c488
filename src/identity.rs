//! Who a client is.

use crate::rights::{Rights, Wish};

/// Who a client is, as its token or the application says. The same for all that it does on one connection, until it is renewed.
///
/// Every client that has a name keeps one: what most have not is kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Empty when it is anonymous.
    pub subject: Box<str>,
    /// Until when its credentials are good. `None`: for ever.
    pub validity: Option<Box<Validity>>,
    /// What its claims say of channels. `None`: they can't be understood.
    pub rights: Option<Box<Rights>>,
}

/// Until when credentials are good. All times are milliseconds of Unix time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// What the credentials say.
    pub expires: u64,
    /// The same, with the leeway for clocks that differ. From then on nobody is let in with them.
    pub ends: u64,
    /// When the client is told that they will end.
    pub warns: u64,
}

impl Validity {
    /// Credentials that are good since then, or were seen first then.
    pub fn new(expires: u64, leeway: u64, since: u64) -> Box<Self> {
        let mut validity = Self { expires, ends: expires.saturating_add(leeway), warns: expires };
        validity.begin(since);
        Box::new(validity)
    }

    /// Notes since when the credentials are good. Half of the time before their end, but not more than 30 seconds, is for others to be
    /// shown. With more than half of it, a client whose credentials are good for a short time would renew them on and on.
    pub fn begin(&mut self, since: u64) {
        self.warns = self.expires - (self.expires.saturating_sub(since) / 2).min(LONGEST_WARNING);
    }
}

impl Identity {
    /// What the application says. Since when that is good has to be noted.
    pub fn of_application(subject: &str, expires: Option<u64>, rights: Option<Rights>) -> Self {
        let validity = expires.map(|expires| Validity::new(expires, 0, expires));
        Self { subject: subject.into(), validity, rights: rights.map(Box::new) }
    }

    /// Until when its credentials are good, as they say.
    pub fn expires(&self) -> Option<u64> {
        Some(self.validity.as_ref()?.expires)
    }

    /// Whether its claims allow something.
    pub fn may(&self, wish: Wish, channel: &str) -> bool {
        self.rights.as_ref().is_some_and(|rights| rights.allow(wish, channel))
    }

    /// Whether its credentials are no longer good. `today` is milliseconds of Unix time.
    pub fn has_ended(&self, today: u64) -> bool {
        self.validity.as_ref().is_some_and(|validity| validity.ends <= today)
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
            assert_eq!(Validity::new(expires, 0, since).warns, warns);
        }
        assert!(!Identity::of_application("ann", None, None).has_ended(u64::MAX));
    }
}
