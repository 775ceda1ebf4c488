//! Connections beyond a limit. A few at a time are read as far as their request, so that each is refused in the way that it
//! understands: an `EventSource` never comes back after a status that is not 200.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::protocol::http::HttpError;

/// The places of a server for such connections.
#[derive(Debug, Default)]
pub(crate) struct ExcessPlaces(AtomicUsize);

/// One of these places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Excess {
    places: Arc<ExcessPlaces>,
    /// Why the connection can't stay.
    pub reason: HttpError,
}

impl ExcessPlaces {
    /// Takes a place, if there is one.
    pub fn take(self: &Arc<Self>, reason: HttpError) -> Option<Excess> {
        let add = |taken| (taken < MOST_EXCESS).then_some(taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).ok()?;
        Some(Excess { places: Arc::clone(self), reason })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub fn has_room(&self) -> bool {
        self.taken() < MOST_EXCESS
    }
}

impl Drop for Excess {
    fn drop(&mut self) {
        self.places.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Connections beyond a limit that are read at a time.
const MOST_EXCESS: usize = 64;

/// Time that such a connection has for its request.
pub(crate) const EXCESS_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::http::FULL;

    #[test]
    fn there_are_so_many_places_and_each_is_free_again() {
        let places = Arc::<ExcessPlaces>::default();
        let mut taken: Vec<_> = (0..MOST_EXCESS).map(|_| places.take(FULL).expect("a place")).collect();
        assert!(places.take(FULL).is_none() && !places.has_room());
        taken.pop();
        assert!(places.has_room() && places.take(FULL).is_some());
        taken.clear();
        assert_eq!(places.taken(), 0);
    }
}
