//! The log of one channel, as all shards of one process read it. A broker fills it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::broker::epochs::Epochs;
use crate::broker::place::Place;
use crate::broker::watcher::{Notify, Top, Watcher};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Gap, GapReason, Position};
use crate::publication::{Publication, prefix};
use crate::rules::{Mode, Retention};

/// An append-only log, bounded in count, bytes and age.
///
/// Either it numbers its entries itself ([`Log::append`]), or it is a copy of a log elsewhere ([`Log::extend`],
/// [`Log::begin`]).
#[derive(Debug)]
pub struct Log {
    retention: Retention,
    /// Place of the newest entry. Written under the lock, read without it.
    top: Top,
    /// Guards the entries. Held for one append, or for copying one batch: never while anything can wait.
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    update_prefix: Box<[u8]>,
    epochs: Epochs,
    /// Ascending offsets. Without holes, unless the mode is `Latest`: there a newer entry of a key removes the older.
    kept: VecDeque<Publication>,
    bytes: usize,
    /// Everything up to here was dropped, or never came. A reader below it has a gap.
    trimmed: u64,
    /// Mode `Latest`: offset of the newest entry of each key.
    newest: HashMap<Box<str>, u64>,
    watchers: SmallVec<[Arc<Watcher>; 2]>,
}

/// What a log holds after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of the entries, and of the room that was made for more.
    pub bytes: usize,
    /// When the oldest entry was appended; `None` when there is none.
    pub oldest: Option<Moment>,
    /// Somebody watches it.
    pub is_watched: bool,
}

/// What [`Log::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LogRead {
    /// The reader's place afterwards.
    pub to: Place,
    /// Updates that were written.
    pub count: u32,
    /// More updates were asked for than the bytes allowed.
    pub cut: bool,
    /// What the reader has to be told before everything that was written.
    pub gap: Option<Gap>,
    /// When the oldest publication that was written had been appended.
    pub oldest: Option<Moment>,
}

impl LogRead {
    /// Nothing to tell the reader.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.gap.is_none()
    }

    /// The reader has lost something.
    pub fn is_loss(&self) -> bool {
        self.gap.is_some_and(|gap| gap.reason.is_loss())
    }
}

impl Log {
    /// A log that has nothing up to a position, and goes on from there.
    pub fn new(channel: &ChannelName, start: Position, retention: Retention) -> Self {
        let entries = Entries {
            update_prefix: prefix(channel.as_str()),
            epochs: Epochs::new(start.epoch),
            kept: VecDeque::new(),
            bytes: 0,
            trimmed: start.offset,
            newest: HashMap::new(),
            watchers: SmallVec::new(),
        };
        let top = Top::new(Place::default().with_offset(start.offset));
        Self { retention, top, entries: Mutex::new(entries) }
    }

    /// The id of this life of the log.
    pub fn epoch(&self) -> Epoch {
        self.lock().epochs.current()
    }

    /// How much it keeps, and how readers get it.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The place of the newest publication.
    pub fn top(&self) -> Place {
        self.top.get()
    }

    /// Lets the next append notify a watcher, and returns the top as it is after that: see [`Top::arm`].
    pub fn arm(&self, watcher: &Watcher) -> Place {
        self.top.arm(watcher)
    }

    /// The position of the newest publication.
    pub fn position(&self) -> Position {
        self.position_of(self.top())
    }

    /// The position that a reader at this place knows. Its epoch is not the present one until it was told of the change.
    pub fn position_of(&self, place: Place) -> Position {
        let entries = self.lock();
        let age = self.top().turn() - place.turn();
        Position { epoch: entries.epochs.of_age(age), offset: place.offset() }
    }

    /// The place of a position, when a reader there can be given everything after it.
    pub fn find(&self, position: Position) -> Option<Place> {
        let entries = self.lock();
        let top = self.top();
        let common = entries.epochs.common_since(entries.epochs.age(position.epoch)?);
        let is_here = (entries.trimmed..=top.offset().min(common)).contains(&position.offset);
        is_here.then(|| top.with_offset(position.offset))
    }

    /// Appends one JSON text at the next offset, and notifies the watchers.
    pub fn append(&self, data: &[u8], key: Option<&str>, now: Moment) -> (Position, Held) {
        let mut entries = self.lock();
        let top = self.top();
        let place = top.with_offset(top.offset() + 1);
        self.push(&mut entries, place, data, key, now);
        (Position { epoch: entries.epochs.current(), offset: place.offset() }, entries.held())
    }

    /// Adds an entry that was numbered elsewhere, and notifies the watchers. When it does not follow the newest one, the
    /// entries between will never come: everything before it becomes a gap. What is not of the present epoch, or not
    /// newer than the newest entry, is ignored.
    pub fn extend(&self, position: Position, data: &[u8], key: Option<&str>, now: Moment) -> Held {
        let mut entries = self.lock();
        let top = self.top();
        if position.epoch == entries.epochs.current() && position.offset > top.offset() {
            if position.offset > top.offset() + 1 {
                entries.clear(position.offset - 1);
            }
            self.push(&mut entries, top.with_offset(position.offset), data, key, now);
        }
        entries.held()
    }

    /// Goes on in another epoch, and notifies the watchers. Up to the offset of `start` the log is the same as before; what it
    /// has after that is gone. Every reader is told with its next read.
    pub fn begin(&self, start: Position) -> Held {
        let mut entries = self.lock();
        let top = self.top();
        let offset = top.offset().min(start.offset);
        if offset < top.offset() {
            entries.cut_off(offset, self.retention.mode);
        }
        entries.epochs.begin(start.epoch, start.offset);
        self.top.advance(top.in_next_turn(offset), &entries.watchers);
        entries.held()
    }

    fn push(&self, entries: &mut Entries, place: Place, data: &[u8], key: Option<&str>, now: Moment) {
        let publication = Publication::new(&entries.update_prefix, place.offset(), key, data, now);
        entries.push(publication, self.retention.mode);
        entries.trim(&self.retention, now);
        self.top.advance(place, &entries.watchers);
    }

    /// Writes the updates in `(cursor, end]` to `out`, separated by commas, until about `max_bytes` are written (at least
    /// one update is). In mode `Latest` there may be none: what was there has been replaced after `end`.
    pub fn read(&self, cursor: Place, end: Place, max_bytes: usize, out: &mut Vec<u8>) -> LogRead {
        let entries = self.lock();
        let top = self.top();
        let gap = entries.gap(cursor, top);
        let to = gap.map_or(cursor, |gap| top.with_offset(gap.to));
        let mut read = LogRead { to, count: 0, cut: false, gap, oldest: None };
        let first = entries.index_after(to.offset(), top.offset());
        let start = out.len();
        for entry in entries.kept.range(first..) {
            let place = top.with_offset(entry.offset);
            if place > end {
                break;
            }
            if read.count > 0 && out.len() - start >= max_bytes {
                read.cut = true;
                break;
            }
            if read.count > 0 {
                out.push(b',');
            }
            entry.write(read.to.offset(), out);
            read.to = place;
            read.count += 1;
            read.oldest = read.oldest.or(Some(entry.appended));
        }
        read
    }

    /// Drops what is too old, and gives back the room that it took.
    pub fn trim(&self, now: Moment) -> Held {
        let mut entries = self.lock();
        entries.trim(&self.retention, now);
        entries.give_back();
        entries.held()
    }

    /// Drops the oldest publications until `excess` bytes are free, but keeps the newest `keep` of them. Returns also how
    /// many it dropped.
    pub fn evict(&self, excess: usize, keep: usize) -> (u64, Held) {
        let mut entries = self.lock();
        let enough = entries.held().bytes.saturating_sub(excess);
        let mut dropped = 0;
        while entries.kept.len() > keep && entries.held().bytes > enough {
            entries.drop_oldest();
            dropped += 1;
        }
        entries.give_back();
        (dropped, entries.held())
    }

    /// Begins to notify a reader when the log moves.
    pub fn watch(&self, notify: Arc<dyn Notify>) -> (Arc<Watcher>, Held) {
        let watcher = Arc::new(Watcher::new(notify));
        let mut entries = self.lock();
        entries.watchers.push(Arc::clone(&watcher));
        (watcher, entries.held())
    }

    /// Ends what [`Log::watch`] began.
    pub fn unwatch(&self, watcher: &Arc<Watcher>) -> Held {
        let mut entries = self.lock();
        entries.watchers.retain(|other| !Arc::ptr_eq(other, watcher));
        entries.held()
    }

    /// A panic under the lock could only come from the allocator; what the lock guards is then still whole.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn held(&self) -> Held {
        let unused = (self.kept.capacity() - self.kept.len()) * size_of::<Publication>();
        let oldest = self.kept.front().map(|entry| entry.appended);
        Held { bytes: self.bytes + unused, oldest, is_watched: !self.watchers.is_empty() }
    }

    fn push(&mut self, publication: Publication, mode: Mode) {
        if mode == Mode::Latest
            && let Some(key) = &publication.key
        {
            self.supersede(key, publication.offset);
        }
        self.bytes += publication.size();
        self.kept.push_back(publication);
    }

    /// What a reader at `cursor` has to be told first.
    fn gap(&self, cursor: Place, top: Place) -> Option<Gap> {
        let (from, age) = (cursor.offset(), top.turn() - cursor.turn());
        if age == 0 && from >= self.trimmed {
            return None;
        }
        let common = self.epochs.common_since(age);
        let (to, reason) = if from > common {
            (common.max(self.trimmed), GapReason::Reset)
        } else if from < self.trimmed {
            (self.trimmed, GapReason::Overrun)
        } else {
            (from, GapReason::Turn)
        };
        Some(Gap { from, to, epoch: self.epochs.current(), reason })
    }

    /// Drops everything. Up to here nothing will come.
    fn clear(&mut self, trimmed: u64) {
        self.kept.clear();
        self.newest.clear();
        (self.bytes, self.trimmed) = (0, trimmed);
    }

    /// Drops what is newer than this offset.
    fn cut_off(&mut self, offset: u64, mode: Mode) {
        if mode == Mode::Latest {
            // Entries that what is dropped had replaced are gone too, so nothing before can be given completely.
            return self.clear(offset);
        }
        self.trimmed = self.trimmed.min(offset);
        while let Some(newest) = self.kept.pop_back_if(|newest| newest.offset > offset) {
            self.bytes -= newest.size();
        }
    }

    /// Index of the first entry after an offset. Counted where there are no holes: a search through a log that was not read
    /// for a while is a dozen cache misses, 0.6 µs, as much as the rest of reading it.
    fn index_after(&self, offset: u64, top: u64) -> usize {
        if self.kept.len() as u64 == top - self.trimmed {
            self.kept.len().min((offset - self.trimmed) as usize)
        } else {
            self.kept.partition_point(|entry| entry.offset <= offset)
        }
    }

    /// Mode `Latest`: drops the older entry of a key. It is not lost: the newer one replaces it.
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

#[cfg(test)]
mod tests;
