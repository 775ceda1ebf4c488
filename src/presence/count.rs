//! The number of members, in place of a list of them.

use std::time::Duration;

use crate::json::push_number;
use crate::moment::Moment;

/// A channel whose readers are told how many members there are, and not which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// The most members that are listed again. `None`: they never are.
    few: Option<usize>,
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
        Self { few: None, below_since: None, told: None, tried: None }
    }

    /// A channel whose members are too many for a list, or whose list has found no room. A short list may find it again while all its
    /// members stay. That is asked before it is told, so the list does not come and go.
    pub fn instead_of_list(members: usize, limit: usize) -> Self {
        let few = half(members.min(limit));
        Self { few: Some(if members > limit { few } else { few.max(SHORT) }), ..Self::fixed() }
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
    pub fn look(&mut self, members: usize, limit: usize, now: Moment) {
        if members > limit {
            self.few = self.few.map(|few| few.min(half(limit)));
        }
        let is_few = self.few.is_some_and(|few| members <= few);
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

/// The most that is less than half of this.
fn half(members: usize) -> usize {
    members.saturating_sub(1) / 2
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

/// Members of a list that is short: it is made in half a millisecond.
const SHORT: usize = 256;

/// Between two numbers.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long there have to be few members before they are listed again. Otherwise one who comes and goes would change it each time.
const CALM: Duration = Duration::from_secs(60);
