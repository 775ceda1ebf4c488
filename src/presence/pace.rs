//! How often the entry of one member is told.

use std::time::Duration;

use crate::moment::Moment;

/// When the entry of a member was told last. It belongs to the session: leaving and coming again does not make it new.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// The beginning of time where it was not told so often.
    told: [Moment; PER_SECOND],
    next: u8,
}

impl Pace {
    /// Until when the entry may not be told again. That may be over.
    pub fn until(&self) -> Moment {
        free_after(self.told[usize::from(self.next)])
    }

    /// Notes that the entry is told.
    pub fn note(&mut self, now: Moment) {
        self.told[usize::from(self.next)] = now;
        self.next = (self.next + 1) % PER_SECOND as u8;
    }

    /// From when on it is as new.
    pub fn end(&self) -> Moment {
        free_after(self.told.into_iter().max().unwrap_or_default())
    }
}

fn free_after(told: Moment) -> Moment {
    if told == Moment::default() { told } else { told + SECOND }
}

/// Times that the entry of a member is told within a second.
const PER_SECOND: usize = 5;

const SECOND: Duration = Duration::from_secs(1);
