//! Readers that will be seated in a moment: what they are to get stays until then.

use std::time::Duration;

use crate::broker::place::Place;
use crate::moment::Moment;

/// Promised places, oldest first, each with the moment of its promise.
#[derive(Debug, Default)]
pub struct Promises(Vec<(Place, Moment)>);

impl Promises {
    /// Promises a reader everything after a place, for [`PATIENCE`] and at most a [`GRAIN`] more.
    pub fn add(&mut self, place: Place, now: Moment) {
        self.0.retain(|(_, made)| is_good(*made, now));
        // Promises of one grain are one, so that there are few. The older place is the better one.
        if self.0.last().is_none_or(|(_, made)| now.since(*made) >= GRAIN) {
            self.0.push((place, now));
        }
    }

    /// The first place that counts now.
    pub fn first(&self, now: Moment) -> Option<Place> {
        self.0.iter().find(|(_, made)| is_good(*made, now)).map(|(place, _)| *place)
    }
}

fn is_good(made: Moment, now: Moment) -> bool {
    now.since(made) < PATIENCE + GRAIN
}

/// A reader keeps up if everything that it was not offered yet is younger than this. One that is seated, or will be, has the
/// same time to get there.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Promises of so much time are one. Otherwise each of thousands of subscriptions would have one of its own.
const GRAIN: Duration = Duration::from_millis(100);
