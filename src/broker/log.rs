//! The log of one channel, as all shards of one process read it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use crate::broker::ledger::Ledger;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::publication::{Publication, prefix};
use crate::rules::{Mode, Retention};

/// An append-only log, bounded in count, bytes and age.
#[derive(Debug)]
pub struct Log {
    name: ChannelName,
    epoch: Epoch,
    retention: Retention,
    /// Top offset, readable without the lock. Written under it.
    top: AtomicU64,
    /// Guards the entries. Held for one append, or for copying one batch: never while anything can wait.
    entries: Mutex<Entries>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Entries {
    update_head: Box<[u8]>,
    /// Ascending offsets. Without holes, unless the mode is `Latest`: there a newer entry of a key removes the older.
    kept: VecDeque<Publication>,
    bytes: usize,
    /// Everything up to here was dropped by a bound; a reader below it has a gap.
    trimmed: u64,
    /// Mode `Latest`: offset of the newest entry of each key.
    newest: HashMap<Box<str>, u64>,
    watchers: SmallVec<[Arc<Watcher>; 2]>,
    /// It is in the broker's queue, or was taken out of it for a visit that is under way. False only while it is empty
    /// and watched, which time does not change.
    queued: bool,
    /// The visit that first found it empty and unwatched. Every use forgets it.
    idle: Option<Moment>,
    /// Number of the last use.
    used: u64,
}

/// What is next for a log that the broker's queue gave out for a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Next {
    /// Back into the queue, for a visit at this time.
    Again(Moment),
    /// It is empty and watched: whoever uses it next enters it.
    Rest,
    /// It has been idle for long enough to be dropped, or its room is needed.
    Drop,
}

/// Called when a log moved that a reader watches. Must not block, and must not call the log.
pub trait Alarm: Send + Sync {
    fn ring(&self);
}

/// One reader's interest in a log. After it has rung it stays silent until it is armed again, so that a burst of
/// publications costs one wake-up.
pub struct Watcher {
    silent: AtomicBool,
    alarm: Arc<dyn Alarm>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watcher").field("silent", &self.silent).finish_non_exhaustive()
    }
}

impl Watcher {
    /// Lets the next append ring. Compare [`Log::top`] with what you know *after* this call, else a publication that
    /// came in between is missed.
    pub fn arm(&self) {
        self.silent.store(false, Ordering::SeqCst);
    }

    fn moved(&self) {
        if !self.silent.swap(true, Ordering::SeqCst) {
            self.alarm.ring();
        }
    }
}

/// What [`Log::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Read {
    /// The reader's position afterwards.
    pub to: u64,
    /// Updates that were written.
    pub count: u32,
    /// More updates were asked for than the bytes allowed.
    pub cut: bool,
    /// `(from, to]`: publications that will never come. They lie before everything that was written.
    pub gap: Option<(u64, u64)>,
    /// When the oldest publication that was written had been appended.
    pub oldest: Option<Moment>,
}

impl Read {
    /// Nothing to tell the reader.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.gap.is_none()
    }
}

impl Log {
    pub(super) fn new(name: &ChannelName, epoch: Epoch, retention: Retention, ledger: Arc<Ledger>) -> Self {
        let entries = Entries {
            update_head: prefix(name.as_str()),
            kept: VecDeque::new(),
            bytes: 0,
            trimmed: 0,
            newest: HashMap::new(),
            watchers: SmallVec::new(),
            queued: false,
            idle: None,
            used: 0,
        };
        ledger.book(0, entries.cost());
        let (name, top) = (name.clone(), AtomicU64::new(0));
        Self { name, epoch, retention, top, entries: Mutex::new(entries), ledger }
    }

    pub(super) fn name(&self) -> &ChannelName {
        &self.name
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The offset of the newest publication.
    pub fn top(&self) -> u64 {
        self.top.load(Ordering::SeqCst)
    }

    /// The position behind the newest publication.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top() }
    }

    /// Whether a reader that stands at `offset` can be given everything after it.
    pub fn reaches_back_to(&self, offset: u64) -> bool {
        offset >= self.lock().trimmed && offset <= self.top()
    }

    /// Appends one JSON text and rings the watchers. Returns also whether the caller has to enter the log in the queue.
    pub(super) fn append(&self, data: &[u8], key: Option<&str>, now: Moment) -> (Position, bool) {
        self.ledger.publish();
        self.change(|entries| {
            let offset = self.top() + 1;
            let publication = Publication::new(&entries.update_head, offset, key, data, now);
            if self.retention.mode == Mode::Latest
                && let Some(key) = key
            {
                entries.supersede(key, offset);
            }
            entries.bytes += publication.size();
            entries.kept.push_back(publication);
            entries.trim(&self.retention, now);
            self.top.store(offset, Ordering::SeqCst);
            for watcher in &entries.watchers {
                watcher.moved();
            }
            (Position { epoch: self.epoch, offset }, entries.note_use(&self.ledger))
        })
    }

    /// Notes that somebody is about to read it. Returns whether the caller has to enter it in the queue.
    pub(super) fn touch(&self) -> bool {
        self.lock().note_use(&self.ledger)
    }

    /// Number of its last use, among those of all logs.
    pub(super) fn used(&self) -> u64 {
        self.lock().used
    }

    /// Writes the updates in `(cursor, end]` to `out`, separated by commas, until about `max_bytes` are written (at least
    /// one update is). In mode `Latest` there may be none: what was there has been replaced behind `end`.
    pub fn read(&self, cursor: u64, end: u64, max_bytes: usize, out: &mut Vec<u8>) -> Read {
        let entries = self.lock();
        let gap = (cursor < entries.trimmed).then_some((cursor, entries.trimmed));
        let mut read = Read { to: cursor.max(entries.trimmed), count: 0, cut: false, gap, oldest: None };
        let first = entries.index_behind(read.to, self.top());
        let start = out.len();
        for entry in entries.kept.range(first..) {
            if entry.offset > end {
                break;
            }
            if read.count > 0 && out.len() - start >= max_bytes {
                read.cut = true;
                break;
            }
            if read.count > 0 {
                out.push(b',');
            }
            entry.write(read.to, out);
            read.to = entry.offset;
            read.count += 1;
            read.oldest = read.oldest.or(Some(entry.appended));
        }
        read
    }

    /// Drops what is too old, and gives back the room that it took. The log was taken out of the queue for this.
    pub(super) fn tidy(&self, now: Moment) -> Next {
        self.change(|entries| {
            entries.trim(&self.retention, now);
            entries.give_back();
            let next = if let Some(oldest) = entries.kept.front() {
                Next::Again(oldest.appended + self.retention.age)
            } else if !entries.watchers.is_empty() {
                Next::Rest
            } else {
                let since = *entries.idle.get_or_insert(now);
                // What is appended meanwhile may be due before the idleness is.
                let due = (since + LINGER).min(now + self.retention.age);
                if now.since(since) >= LINGER { Next::Drop } else { Next::Again(due) }
            };
            entries.queued = next != Next::Rest;
            next
        })
    }

    /// Drops the oldest publications until `excess` bytes are free, and itself when that is not enough; all but the
    /// newest one when it is `in_use`. The log was taken out of the queue for this, where it was `due`.
    pub(super) fn give_way(&self, excess: usize, in_use: bool, due: Moment) -> Next {
        self.change(|entries| {
            let enough = entries.cost().saturating_sub(excess);
            while entries.kept.len() > usize::from(in_use) && entries.cost() > enough {
                entries.drop_oldest();
                self.ledger.trim();
            }
            entries.give_back();
            let next = if !entries.kept.is_empty() {
                Next::Again(due)
            } else if !entries.watchers.is_empty() {
                Next::Rest
            } else if in_use || entries.cost() <= enough {
                Next::Again(Moment::default())
            } else {
                entries.idle.get_or_insert_default();
                Next::Drop
            };
            entries.queued = next != Next::Rest;
            next
        })
    }

    /// Whether it is still idle. Asked while nobody can find it.
    pub(super) fn is_idle(&self) -> bool {
        let entries = self.lock();
        entries.kept.is_empty() && entries.watchers.is_empty() && entries.idle.is_some()
    }

    pub(super) fn watch(&self, alarm: Arc<dyn Alarm>) -> Arc<Watcher> {
        let watcher = Arc::new(Watcher { silent: AtomicBool::new(false), alarm });
        self.change(|entries| entries.watchers.push(Arc::clone(&watcher)));
        watcher
    }

    /// Returns whether the caller has to enter the log in the queue.
    pub(super) fn unwatch(&self, watcher: &Arc<Watcher>) -> bool {
        self.change(|entries| {
            entries.watchers.retain(|other| !Arc::ptr_eq(other, watcher));
            entries.note_use(&self.ledger)
        })
    }

    /// Changes the entries, and books what that changes for the memory.
    fn change<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> T {
        let mut entries = self.lock();
        let before = entries.cost();
        let outcome = act(&mut entries);
        self.ledger.book(before, entries.cost());
        outcome
    }

    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        self.lock().cost()
    }

    /// A panic under the lock could only come from the allocator; what the lock guards is then still whole.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Bytes that count for the limit of all logs. What a log itself costs does not while it has readers: their
    /// subscriptions are bounded, and it could not give way.
    fn cost(&self) -> usize {
        let unused = (self.kept.capacity() - self.kept.len()) * size_of::<Publication>();
        let own = if self.watchers.is_empty() { LOG_BYTES + 2 * self.update_head.len() } else { 0 };
        self.bytes + unused + own
    }

    /// Returns whether the log has to be entered in the queue now.
    fn note_use(&mut self, ledger: &Ledger) -> bool {
        self.idle = None;
        self.used = ledger.next_use();
        let may_drop = !self.kept.is_empty() || self.watchers.is_empty();
        may_drop && !std::mem::replace(&mut self.queued, true)
    }

    /// Where the entries behind an offset begin. Counted, where there are no holes: a search through the log of a channel that
    /// was not read for a while is a dozen cache misses, 0.6 µs, as much as all else that reading it costs.
    fn index_behind(&self, offset: u64, top: u64) -> usize {
        if self.kept.len() as u64 == top - self.trimmed {
            self.kept.len().min((offset - self.trimmed) as usize)
        } else {
            self.kept.partition_point(|entry| entry.offset <= offset)
        }
    }

    /// Mode `Latest`: forgets the older entry of a key. It is not lost: the newer one stands for it.
    fn supersede(&mut self, key: &str, offset: u64) {
        let Some(newest) = self.newest.get_mut(key) else {
            self.newest.insert(key.into(), offset);
            return;
        };
        let older = std::mem::replace(newest, offset);
        if let Ok(index) = self.kept.binary_search_by_key(&older, |entry| entry.offset)
            && let Some(entry) = self.kept.remove(index)
        {
            self.bytes -= entry.size();
        }
    }

    /// Gives back room that is mostly empty. It comes in halves, so that a log of steady length does not move to and fro.
    fn give_back(&mut self) {
        if self.kept.len() <= self.kept.capacity() / 4 {
            self.kept.shrink_to(self.kept.len() * 2);
        }
        if self.newest.len() <= self.newest.capacity() / 4 {
            self.newest.shrink_to(self.newest.len() * 2);
        }
    }

    /// The newest publication always stays, whatever the bounds: a log that could not hold it would lose every one.
    fn trim(&mut self, retention: &Retention, now: Moment) {
        while let Some(oldest) = self.kept.front() {
            let aged = now.since(oldest.appended) > retention.age;
            let over = self.kept.len() > retention.count || self.bytes > retention.bytes;
            if !aged && (!over || self.kept.len() == 1) {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        self.trimmed = oldest.offset;
        self.bytes -= oldest.size();
        if let Some(key) = &oldest.key
            && self.newest.get(key) == Some(&oldest.offset)
        {
            self.newest.remove(key);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let entries = self.entries.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.ledger.book(entries.cost(), 0);
    }
}

/// How long at least a log outlives its last publication, its last reader and its last use; at most twice as long, since it is
/// counted from the visit that finds it idle. A client that reconnects is back within seconds, rarely later than this; so
/// long its position means something.
pub const LINGER: Duration = Duration::from_secs(60);

/// What a log without publications costs beside its name: itself, and its places in the broker's maps.
const LOG_BYTES: usize = size_of::<Log>() + 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_needed_once_is_given_back() {
        let retention = Retention { mode: Mode::Latest, ..Retention::default() };
        let log =
            Log::new(&ChannelName::private("a"), Epoch::new(1), retention, Arc::new(Ledger::new(1 << 20)));
        let second = |number| Moment::default() + Duration::from_secs(number);
        for number in 0..1000 {
            log.append(b"1", Some(&number.to_string()), second(number / 500));
        }
        log.append(b"1", Some("last"), second(200));
        let room = |now| {
            assert_ne!(log.tidy(now), Next::Drop);
            let entries = log.lock();
            [entries.kept.capacity(), entries.newest.capacity()]
        };
        for now in [0, 301] {
            let kept = room(second(now));
            assert!(kept.iter().all(|&room| room >= 1000), "half of them are more than a quarter: {kept:?}");
        }
        let little = room(second(302));
        assert!(little.iter().all(|&room| (1..10).contains(&room)), "{little:?}");
        assert_eq!(room(second(600)), [0, 0]);
    }
}
