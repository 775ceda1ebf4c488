//! One channel in memory: its log, and what decides when it is visited, emptied and dropped.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::entries::Held;
use crate::broker::log::Log;
use crate::broker::memory::account::{Cost, MemoryAccount};
use crate::broker::outcomes::Change;
use crate::broker::promises::PATIENCE;
use crate::broker::sight::Sight;
use crate::broker::watcher::{Notify, Watcher};
use crate::change::StateRefusal;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::publication::{Content, Publication, prefix};
use crate::rules::Retention;

/// A channel. It is in the broker's queue, or out of it for a visit, or at rest: empty and watched, or a state without removals, which time does
/// not change. A state that may be dropped rests only while it is watched.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    log: Arc<Log>,
    account: Arc<MemoryAccount>,
    /// Number of the last use. No two uses have the same.
    last_use: AtomicU64,
    /// It is not at rest. Changed before or after the lock of the log was held, so that a use and the visit that sends the
    /// channel to rest see each other.
    queued: AtomicBool,
    /// The lowest bits of the offset up to which an operator has seen it.
    seen: AtomicU32,
    /// The first visit that found it empty and unwatched, and the last use at that time. A use in between makes it void.
    /// Held for a look or a change.
    idle: Mutex<Option<(Moment, u64)>>,
    /// See [`Channel::queue_place`].
    due: AtomicU64,
    number: AtomicU64,
}

/// In which order channels give way when there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Number of the last use.
    pub last_use: u64,
    /// It is the private channel of a client that is away.
    pub is_away: bool,
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
        let log = Log::new(name, Position { epoch, offset: 0 }, retention);
        let channel = Self {
            name: name.clone(),
            log: Arc::new(log),
            account: Arc::clone(account),
            last_use: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            seen: AtomicU32::new(0),
            idle: Mutex::default(),
            due: AtomicU64::new(0),
            number: AtomicU64::new(0),
        };
        account.charge(Cost::NOTHING, channel.cost(channel.log.held()));
        channel
    }

    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Appends a publication. Returns also for when the caller has to put the channel into the queue, if it has to.
    ///
    /// # Errors
    /// When a state does not take the change.
    pub fn append(
        &self,
        content: &Content<'_>,
        now: Moment,
    ) -> Result<(Position, Option<Moment>), StateRefusal> {
        self.check_states(content)?;
        let (position, change) = self.log.append(content, now);
        self.charge(change);
        let position = position?;
        let number = self.account.count_published();
        let mut enqueue = if self.is_away(change.after) {
            // That is no use: of clients that are away, the one that left first gives way first.
            self.has_to_be_queued()
        } else {
            self.note_use(number)
        };
        // It may be in the queue as one that has nothing to give.
        enqueue |= self.name.is_private() && change.before.is_empty;
        enqueue |= self.is_state() && state_gives(change.after) && !state_gives(change.before);
        let due = if change.after.is_crowded && !change.before.is_crowded {
            Some(now + PATIENCE)
        } else {
            enqueue.then(|| now + self.log.retention().shortest())
        };
        Ok((position, due))
    }

    /// As [`Log::append_all`](crate::broker::Log::append_all). Returns also for when the caller has to put the channel into the queue, if
    /// it has to.
    pub fn append_all(&self, contents: &[Content<'_>], now: Moment) -> Result<Option<Moment>, StateRefusal> {
        let prefix = prefix(self.name.as_str());
        let more = contents.iter().filter(|content| !content.is_removal());
        let more = more.map(|content| Publication::size_of(&prefix, content)).sum();
        let (excess, most) = self.account.state_excess(more);
        if excess > 0 {
            return Err(StateRefusal::AllBytes(most));
        }
        let (outcome, change) = self.log.append_all(contents, now);
        let due = self.note_change(change, now);
        outcome.map(|()| due)
    }

    /// As [`Log::reset`](crate::broker::Log::reset). Returns for when the caller has to put the channel into the queue, if it has to.
    pub fn reset(&self, only: Content<'_>, now: Moment) -> Option<Moment> {
        self.note_change(self.log.reset(&only, now), now)
    }

    fn note_change(&self, change: Change, now: Moment) -> Option<Moment> {
        self.charge(change);
        let number = self.account.count_published();
        let gives = state_gives(change.after) && !state_gives(change.before);
        (self.note_use(number) | gives).then(|| now + self.log.retention().shortest())
    }

    /// Notes that somebody is about to read it. Returns whether the caller has to put it into the queue.
    pub fn touch(&self) -> bool {
        self.note_use(self.account.count_other_use())
    }

    /// The log, for somebody who asks what it has. A state is not idle then. Such a state is in the queue, or its readers put it in when
    /// they go.
    pub fn read(&self) -> &Arc<Log> {
        if self.log.retention().idle.is_some() {
            self.last_use.store(self.account.count_other_use(), Relaxed);
        }
        &self.log
    }

    pub fn watch(&self, notify: Arc<dyn Notify>) -> Arc<Watcher> {
        let (watcher, change) = self.log.watch(notify);
        self.charge(change);
        watcher
    }

    /// Returns whether the caller has to put the channel into the queue.
    pub fn unwatch(&self, watcher: &Arc<Watcher>) -> bool {
        self.charge(self.log.unwatch(watcher));
        // A private channel, and an empty state, has another rank then.
        self.touch() || self.name.is_private() || self.is_state()
    }

    /// Drops what is too much or too old, and was offered to all readers that keep up.
    pub fn trim(&self, now: Moment) -> Held {
        self.charge(self.log.trim(now))
    }

    /// Drops what is too old, and the channel when it has been idle for `linger`, or for [`Retention::idle`] if it has something. It was taken out of the queue for this visit.
    pub fn visit(&self, now: Moment, linger: Duration) -> AfterVisit {
        let last_use = self.last_use();
        let held = self.trim(now);
        if held.is_crowded {
            self.log.ask_offered();
        }
        self.after_visit(held, now, || {
            let since = self.idle_since(last_use, now);
            let retention = self.log.retention();
            let has_something = !held.is_empty || held.oldest.is_some();
            let linger = retention.idle.filter(|_| has_something).unwrap_or(linger);
            // What is appended meanwhile may be due before the channel has been idle for long enough.
            let due = (since + linger).min(held.oldest.unwrap_or(now) + retention.age);
            if now.since(since) >= linger { AfterVisit::Drop } else { AfterVisit::Again(due) }
        })
    }

    /// Drops the oldest publications until `excess` bytes are free, and the channel when that is not enough. A private one stays, so
    /// that its client is told what it has lost. Of a channel that is `in_use` the newest publication stays. Readers may be spared at
    /// a moment ([`Log::evict`]). `None`: the rest is theirs, and not enough is free. The channel was taken out of the queue for this
    /// visit.
    pub fn evict(&self, excess: usize, in_use: bool, spare: Option<Moment>) -> Option<AfterVisit> {
        let last_use = self.last_use();
        let (evicted, change) = self.log.evict(excess, usize::from(in_use), spare);
        self.account.count_evicted(evicted.count);
        let enough = self.cost(change.before).all.saturating_sub(excess);
        let held = self.charge(change);
        if evicted.spared {
            return None;
        }
        let next = self.after_visit(held, Moment::default(), || {
            if in_use || !held.is_empty || self.name.is_private() || self.cost(held).all <= enough {
                return AfterVisit::Again(Moment::default());
            }
            self.idle_since(last_use, Moment::default());
            AfterVisit::Drop
        });
        Some(next)
    }

    /// Drops all publications, or removes all keys.
    pub fn empty(&self, now: Moment) {
        self.charge(match self.is_state() {
            true => self.log.clear(now),
            false => self.log.evict(usize::MAX, 0, None).1,
        });
    }

    /// Its place in the queue, by which it can be taken out. Read and written under the lock of the queue.
    pub fn queue_place(&self) -> (Moment, u64) {
        let [due, number] = [&self.due, &self.number].map(|part| part.load(Relaxed));
        (Moment::from_nanos(due), number)
    }

    /// As [`Channel::queue_place`].
    pub fn set_queue_place(&self, due: Moment, number: u64) {
        self.due.store(due.as_nanos(), Relaxed);
        self.number.store(number, Relaxed);
    }

    /// As an operator sees it, for whom it has nothing new afterwards.
    pub fn sight(&self) -> Sight<'_> {
        let published = self.log.top().offset();
        let news = (published as u32).wrapping_sub(self.seen.swap(published as u32, Relaxed));
        Sight { name: &self.name, readers: self.log.readers(), published, news, bytes: self.log.held().bytes }
    }

    /// Whether it is still idle. Asked while nobody can find it.
    pub fn is_idle(&self) -> bool {
        let held = self.log.held();
        let may_go = (held.is_empty || self.log.retention().idle.is_some()) && !held.is_watched;
        may_go && self.idle().is_some_and(|(_, last_use)| last_use == self.last_use())
    }

    /// Number of its last use, among those of all channels.
    pub fn last_use(&self) -> u64 {
        self.last_use.load(Relaxed)
    }

    /// Bytes that count for the limits of all channels. What a channel without publications costs counts only while nobody
    /// watches it: watched ones can't be dropped, and the limit on subscriptions bounds them. Neither can private ones, which end with
    /// their clients.
    #[inline]
    pub fn cost(&self, held: Held) -> Cost {
        let stays = held.is_watched || self.name.is_private();
        let own = if stays { 0 } else { CHANNEL_BYTES + 2 * self.name.as_str().len() };
        Cost {
            all: held.bytes + held.bases + own,
            away: if self.is_away(held) { held.bytes } else { 0 },
            // The name counts, too: a state that is not empty can't be dropped.
            state: match self.is_state() {
                true => held.bytes + if held.is_empty { 0 } else { own },
                false => 0,
            },
        }
    }

    /// When it gives way. `None`: it has nothing to give.
    pub fn rank(&self) -> Option<Rank> {
        let held = self.log.held();
        let is_away = self.is_away(held);
        let gives = if self.is_state() { state_gives(held) } else { !is_away || held.oldest.is_some() };
        gives.then(|| Rank { last_use: self.last_use(), is_away })
    }

    fn is_state(&self) -> bool {
        self.log.retention().is_state()
    }

    /// Whether there is room for a change in all states together. Removals of its own give way first, and to remove something is always
    /// possible.
    fn check_states(&self, content: &Content<'_>) -> Result<(), StateRefusal> {
        if !self.is_state() || content.is_removal() || self.account.state_excess(content.data.len()).0 == 0 {
            return Ok(());
        }
        // What takes the place of as much needs no room.
        let Some(known) = content.key.map(|key| self.log.find(key, None)) else { return Ok(()) };
        if !content.expected.holds(known.version()) {
            return Ok(()); // the log refuses it
        }
        let older = known.data().map_or(0, <[u8]>::len);
        let Some(more) = content.data.len().checked_sub(older).filter(|&more| more > 0) else {
            return Ok(());
        };
        // What would be refused all the same takes no removals from readers.
        let (excess, most) = self.account.state_excess(more);
        if excess <= self.log.removal_bytes() {
            // Values that were replaced do not count here, and are dropped before removals.
            self.charge(self.log.evict(excess + self.log.held().bases, 0, None).1);
            if self.account.state_excess(more).0 == 0 {
                return Ok(());
            }
        }
        Err(StateRefusal::AllBytes(most))
    }

    /// Whether it is the private channel of a client that is away.
    fn is_away(&self, held: Held) -> bool {
        self.name.is_private() && !held.is_watched
    }

    fn charge(&self, change: Change) -> Held {
        self.account.charge(self.cost(change.before), self.cost(change.after));
        change.after
    }

    /// Returns whether the channel has to be put into the queue now.
    fn note_use(&self, number: u64) -> bool {
        self.last_use.store(number, Relaxed);
        self.has_to_be_queued()
    }

    fn has_to_be_queued(&self) -> bool {
        !self.queued.load(Relaxed) && !self.queued.swap(true, Relaxed)
    }

    fn after_visit(&self, held: Held, now: Moment, when_idle: impl FnOnce() -> AfterVisit) -> AfterVisit {
        match held {
            // It ends with its readers, which do not ask for a visit.
            Held { is_crowded: true, .. } => AfterVisit::Again(now + PATIENCE),
            Held { is_watched: false, .. } if self.log.retention().idle.is_some() => when_idle(),
            Held { oldest: Some(oldest), .. } => AfterVisit::Again(oldest + self.log.retention().age),
            Held { is_watched: true, .. } => self.rest(),
            Held { is_empty: false, .. } => self.rest(),
            _ => when_idle(),
        }
    }

    /// Sends it to rest, unless it was used a moment ago: that use found it queued, and left it to this visit.
    fn rest(&self) -> AfterVisit {
        self.queued.store(false, Relaxed);
        let held = self.log.held();
        let stays = !held.is_empty && self.log.retention().idle.is_none();
        let rests = held.oldest.is_none() && (held.is_watched || stays);
        if rests || self.queued.swap(true, Relaxed) {
            AfterVisit::Rest
        } else {
            AfterVisit::Again(Moment::default())
        }
    }

    /// Since when it has been idle: since now, if it was used since a visit last found it idle.
    fn idle_since(&self, last_use: u64, now: Moment) -> Moment {
        let mut idle = self.idle();
        let (since, _) = idle.take_if(|(_, other)| *other == last_use).unwrap_or((now, last_use));
        *idle = Some((since, last_use));
        since
    }

    /// A panic under the lock could only come from the allocator; what the lock guards is then still whole.
    fn idle(&self) -> MutexGuard<'_, Option<(Moment, u64)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.account.charge(self.cost(self.log.held()), Cost::NOTHING);
    }
}

/// Whether a state has something to give: removals, or itself.
fn state_gives(held: Held) -> bool {
    held.oldest.is_some() || (held.is_empty && !held.is_watched)
}

/// What a channel without publications costs beside its name: itself, its log, and its places in the broker's maps.
const CHANNEL_BYTES: usize = size_of::<Channel>() + size_of::<Log>() + 240;
