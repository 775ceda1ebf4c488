//! How often the entry of one member is told.

use std::time::Duration;

use crate::moment::Moment;

/// When the entry of a member was told last. It belongs to the session: leaving and coming again does not make it new.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    told: [Option<Moment>; PER_SECOND],
    next: u8,
}

impl Pace {
    /// Until when the entry may not be told again. That may be over.
    pub fn until(&self) -> Moment {
        self.told[usize::from(self.next)].map_or(Moment::default(), |told| told + SECOND)
    }

    /// Notes that the entry is told.
    pub fn note(&mut self, now: Moment) {
        self.told[usize::from(self.next)] = Some(now);
        self.next = (self.next + 1) % PER_SECOND as u8;
    }

    /// From when on it is as new. `None`: it is.
    pub fn end(&self) -> Option<Moment> {
        self.told.into_iter().flatten().max().map(|told| told + SECOND)
    }
}

/// Times that the entry of a member is told within a second.
const PER_SECOND: usize = 5;

const SECOND: Duration = Duration::from_secs(1);
