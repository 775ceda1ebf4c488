//! One channel in memory: its log, and what decides when it is visited, emptied and dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::log::{Held, Log};
use crate::broker::memory::account::MemoryAccount;
use crate::broker::watcher::{Notify, Watcher};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::rules::Retention;

/// A channel. It is in the broker's queue, or out of it for a visit, or at rest: empty and watched, which time does not change.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    log: Arc<Log>,
    account: Arc<MemoryAccount>,
    /// Held for one change of the log, which this broker makes here and nowhere else.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held: Held,
    /// It is not at rest.
    queued: bool,
    /// The visit that first found it empty and unwatched. Every use forgets it.
    idle_since: Option<Moment>,
    /// Number of the last use.
    last_use: u64,
}

/// What comes after a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AfterVisit {
    /// It goes back into the queue, for a visit at this time.
    Again(Moment),
    /// It is at rest. The next use puts it into the queue.
    Rest,
    /// It has been idle for long enough to be dropped, or its memory is needed.
    Drop,
}

impl Channel {
    pub fn new(name: &ChannelName, epoch: Epoch, retention: Retention, account: &Arc<MemoryAccount>) -> Self {
        let held = Held { bytes: 0, oldest: None, is_watched: false };
        let state = State { held, queued: false, idle_since: None, last_use: 0 };
        account.charge(0, state.cost(name));
        let log = Arc::new(Log::new(name, Position { epoch, offset: 0 }, retention));
        Self { name: name.clone(), log, account: Arc::clone(account), state: Mutex::new(state) }
    }

    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Appends one JSON text. Returns also whether the caller has to put the channel into the queue.
    pub fn append(&self, data: &[u8], key: Option<&str>, now: Moment) -> (Position, bool) {
        self.change(|state| {
            let (position, held) = self.log.append(data, key, now);
            state.held = held;
            (position, state.note_use(self.account.count_published()))
        })
    }

    /// Notes that somebody is about to read it. Returns whether the caller has to put it into the queue.
    pub fn touch(&self) -> bool {
        self.lock().note_use(self.account.count_other_use())
    }

    pub fn watch(&self, notify: Arc<dyn Notify>) -> Arc<Watcher> {
        self.change(|state| {
            let (watcher, held) = self.log.watch(notify);
            state.held = held;
            watcher
        })
    }

    /// Returns whether the caller has to put the channel into the queue.
    pub fn unwatch(&self, watcher: &Arc<Watcher>) -> bool {
        self.change(|state| {
            state.held = self.log.unwatch(watcher);
            state.note_use(self.account.count_other_use())
        })
    }

    /// Drops what is too old. The channel was taken out of the queue for this visit.
    pub fn visit(&self, now: Moment) -> AfterVisit {
        self.change(|state| {
            state.held = self.log.trim(now);
            let age = self.log.retention().age;
            state.leave_visit(age, |state| {
                let since = *state.idle_since.get_or_insert(now);
                // What is appended meanwhile may be due before the channel has been idle for long enough.
                let due = (since + LINGER).min(now + age);
                if now.since(since) >= LINGER { AfterVisit::Drop } else { AfterVisit::Again(due) }
            })
        })
    }

    /// Drops the oldest publications until `excess` bytes are free, and the channel when that is not enough. Of a channel that
    /// is `in_use` the newest publication stays. The channel was taken out of the queue for this visit.
    pub fn evict(&self, excess: usize, in_use: bool) -> AfterVisit {
        self.change(|state| {
            let enough = state.cost(&self.name).saturating_sub(excess);
            let (dropped, held) = self.log.evict(excess, usize::from(in_use));
            self.account.count_evicted(dropped);
            state.held = held;
            state.leave_visit(self.log.retention().age, |state| {
                if in_use || state.cost(&self.name) <= enough {
                    return AfterVisit::Again(Moment::default());
                }
                state.idle_since.get_or_insert_default();
                AfterVisit::Drop
            })
        })
    }

    /// Whether it is still idle. Asked while nobody can find it.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.idle_since.is_some() && state.held.oldest.is_none() && !state.held.is_watched
    }

    /// Number of its last use, among those of all channels.
    pub fn last_use(&self) -> u64 {
        self.lock().last_use
    }

    #[cfg(test)]
    pub fn cost(&self) -> usize {
        self.lock().cost(&self.name)
    }

    /// Changes the state, and charges what that changes to the account.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.cost(&self.name);
        let outcome = act(&mut state);
        self.account.charge(before, state.cost(&self.name));
        outcome
    }

    /// A panic under the lock could only come from the allocator; what the lock guards is then still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Bytes that count for the limit of all channels. What a channel without publications costs counts only while nobody
    /// watches it: watched ones can't be dropped, and the limit on subscriptions bounds them.
    fn cost(&self, name: &ChannelName) -> usize {
        let own = if self.held.is_watched { 0 } else { CHANNEL_BYTES + 2 * name.as_str().len() };
        self.held.bytes + own
    }

    /// Returns whether the channel has to be put into the queue now.
    fn note_use(&mut self, number: u64) -> bool {
        self.idle_since = None;
        self.last_use = number;
        let rests = self.held.oldest.is_none() && self.held.is_watched;
        !rests && !std::mem::replace(&mut self.queued, true)
    }

    fn leave_visit(&mut self, age: Duration, when_idle: impl FnOnce(&mut Self) -> AfterVisit) -> AfterVisit {
        let next = match self.held {
            Held { oldest: Some(oldest), .. } => AfterVisit::Again(oldest + age),
            Held { is_watched: true, .. } => AfterVisit::Rest,
            _ => when_idle(self),
        };
        self.queued = next != AfterVisit::Rest;
        next
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.account.charge(state.cost(&self.name), 0);
    }
}

/// How long at least a channel outlives its last publication, its last reader and its last use; at most twice as long, since it
/// is counted from the visit that finds it idle. Clients that reconnect come back within seconds, rarely later than
/// this, and find their positions still good.
pub const LINGER: Duration = Duration::from_secs(60);

/// What a channel without publications costs beside its name: itself, its log, and its places in the broker's maps.
const CHANNEL_BYTES: usize = size_of::<Channel>() + size_of::<Log>() + 240;
