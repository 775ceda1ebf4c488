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
    /// Until when no other number is told.
    silent_until: Moment,
}

impl Count {
    /// A channel that is counted from its beginning.
    pub fn fixed() -> Self {
        Self { few: None, below_since: None, told: None, silent_until: Moment::default() }
    }

    /// A channel whose members are too many for a list, or whose list has found no room. A short list may find it again while all its
    /// members stay. That is asked before it is told, so the list does not come and go.
    pub fn instead_of_list(members: usize, limit: usize) -> Self {
        let few = half(members.min(limit));
        Self { few: Some(if members > limit { few } else { few.max(SHORT) }), ..Self::fixed() }
    }

    /// Notes that its entry is this number, which so many readers get.
    pub fn note(&mut self, members: usize, readers: u64, now: Moment) {
        self.told = Some(members);
        self.put_off(readers, now);
    }

    /// The number could not be told. It is tried again after a while.
    pub fn put_off(&mut self, readers: u64, now: Moment) {
        let each = Duration::from_micros(EACH_MICROS.saturating_mul(readers));
        self.silent_until = now + INTERVAL.max(each);
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
        (self.told != Some(members)).then_some(self.silent_until)
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

/// At least between two numbers.
const INTERVAL: Duration = Duration::from_secs(1);

/// For each reader, where that is longer. To deliver one takes 4 to 13 µs, so numbers take a few percent of a core, and readers of other
/// channels rarely wait behind them.
const EACH_MICROS: u64 = 300;

/// How long there have to be few members before they are listed again. Otherwise one who comes and goes would change it each time.
const CALM: Duration = Duration::from_secs(60);
