//! What may happen very often, and is logged with a number instead.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::moment::Moment;

/// Counts one kind of event between two log lines about it.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    count: u64,
    logged: Option<Moment>,
}

impl Repeated {
    pub fn note(&mut self) {
        self.count += 1;
    }

    /// How often it was noted since the last line, when that is not 0 and another line may be written.
    pub fn due(&mut self, now: Moment) -> Option<u64> {
        if self.count == 0 || self.logged.is_some_and(|logged| now.since(logged) < LINE_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// The same for several kinds of events, on any thread.
#[derive(Debug, Default)]
pub(crate) struct RepeatedKinds<const N: usize>(
    /// Locked to count one.
    Mutex<[Repeated; N]>,
)
where
    [Repeated; N]: Default;

impl<const N: usize> RepeatedKinds<N>
where
    [Repeated; N]: Default,
{
    /// Counts one. How many there were since the last line, if another line may be written.
    pub fn note(&self, kind: usize, now: Moment) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds[kind].note();
        kinds[kind].due(now)
    }
}

/// Between two lines about the same.
pub(crate) const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let (mut repeated, start) = (Repeated::default(), Moment::default());
        assert_eq!(repeated.due(start), None);
        repeated.note();
        assert_eq!(repeated.due(start), Some(1));
        repeated.note();
        repeated.note();
        assert_eq!(repeated.due(start + LINE_INTERVAL / 2), None);
        assert_eq!(repeated.due(start + LINE_INTERVAL), Some(2));
    }
}
