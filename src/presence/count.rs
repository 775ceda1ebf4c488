//! The number of members, in place of a list of them.

use std::time::Duration;

use crate::json::push_number;
use crate::moment::Moment;

/// A channel whose readers are told how many members there are, and not which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// It is listed again when it has fewer than half of this. `None`: it never is.
    pub entered: Option<usize>,
    /// Since when it has so few.
    below_since: Option<Moment>,
    /// The number that readers have. `None`: there is no entry.
    pub told: Option<usize>,
    /// When it was told last, or could not be.
    tried: Option<Moment>,
}

impl Count {
    /// A channel that is counted from its beginning.
    pub fn fixed() -> Self {
        Self { entered: None, below_since: None, told: None, tried: None }
    }

    /// A channel that had so many members when they were too many.
    pub fn entered(members: usize, limit: usize) -> Self {
        Self { entered: Some(members.min(limit)), ..Self::fixed() }
    }

    /// Notes that its entry is this number.
    pub fn note(&mut self, members: usize, now: Moment) {
        (self.told, self.tried) = (Some(members), Some(now));
    }

    /// The number could not be told. It is tried again after a while.
    pub fn put_off(&mut self, now: Moment) {
        self.tried = Some(now);
    }

    /// Notes how many members there are.
    pub fn look(&mut self, members: usize, now: Moment) {
        let is_few = self.entered.is_some_and(|entered| members * 2 < entered);
        self.below_since = is_few.then(|| self.below_since.unwrap_or(now));
    }

    /// The members did not fit: it is tried again when this is so for as long again.
    pub fn stay(&mut self, now: Moment) {
        self.below_since = Some(now);
    }

    /// When its members are listed again.
    pub fn list_at(&self) -> Option<Moment> {
        self.below_since.map(|since| since + CALM)
    }

    /// When it tells another number.
    pub fn tell_at(&self, members: usize) -> Option<Moment> {
        (self.told != Some(members)).then(|| self.tried.map_or(Moment::default(), |tried| tried + INTERVAL))
    }
}

/// The data of the entry.
pub(super) fn count_data(members: usize) -> Vec<u8> {
    let mut data = b"{\"type\":\"client_presence_count\",\"count\":".to_vec();
    push_number(members as u64, &mut data);
    data.push(b'}');
    data
}

/// The key of the entry. No client has this id.
pub(super) const COUNT_KEY: &str = "";

/// Between two numbers.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long there have to be few members before they are listed again. Otherwise one who comes and goes would change it each time.
const CALM: Duration = Duration::from_secs(60);
