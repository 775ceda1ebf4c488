//! How often a client may be wrong.

use std::time::Duration;

use crate::moment::Moment;

/// Counts a client's errors in a window. An honest client with a bug gets its errors told; one that floods is closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conduct {
    window: Moment,
    errors: u8,
}

impl Conduct {
    /// Notes an error; `false` when it was one too many.
    pub fn tolerates(&mut self, now: Moment) -> bool {
        if now.since(self.window) > WINDOW {
            *self = Self { window: now, errors: 0 };
        }
        self.errors = self.errors.saturating_add(1);
        self.errors <= ERRORS
    }
}

/// More than this many errors within [`WINDOW`] end the connection with 1008.
const ERRORS: u8 = 20;
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_errors_are_tolerated_in_ten_seconds_and_again_in_the_next() {
        let mut conduct = Conduct::default();
        let later = Moment::default() + Duration::from_secs(100);
        assert!((0..20).all(|_| conduct.tolerates(later)));
        assert!(!conduct.tolerates(later));
        assert!(conduct.tolerates(later + Duration::from_secs(11)));
    }
}
