//! The log of one channel, as all shards of one process read it. A broker fills it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::broker::watcher::{Notify, Top, Watcher};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::publication::{Publication, prefix};
use crate::rules::{Mode, Retention};

/// An append-only log, bounded in count, bytes and age.
#[derive(Debug)]
pub struct Log {
    epoch: Epoch,
    retention: Retention,
    /// Top offset. Written under the lock, read without it.
    top: Top,
    /// Guards the entries. Held for one append, or for copying one batch: never while anything can wait.
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    update_prefix: Box<[u8]>,
    /// Ascending offsets. Without holes, unless the mode is `Latest`: there a newer entry of a key removes the older.
    kept: VecDeque<Publication>,
    bytes: usize,
    /// Everything up to here was dropped by a bound; a reader below it has a gap.
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

impl LogRead {
    /// Nothing to tell the reader.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.gap.is_none()
    }
}

impl Log {
    /// A log that holds nothing.
    pub fn new(channel: &ChannelName, epoch: Epoch, retention: Retention) -> Self {
        let entries = Entries {
            update_prefix: prefix(channel.as_str()),
            kept: VecDeque::new(),
            bytes: 0,
            trimmed: 0,
            newest: HashMap::new(),
            watchers: SmallVec::new(),
        };
        Self { epoch, retention, top: Top::new(0), entries: Mutex::new(entries) }
    }

    /// The id of this life of the log.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How much it keeps, and how readers get it.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The offset of the newest publication.
    pub fn top(&self) -> u64 {
        self.top.get()
    }

    /// Lets the next append notify a watcher, and returns the top as it is after that: see [`Top::arm`].
    pub fn arm(&self, watcher: &Watcher) -> u64 {
        self.top.arm(watcher)
    }

    /// The position of the newest publication.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top() }
    }

    /// Whether a reader at `offset` can be given everything after it.
    pub fn reaches_back_to(&self, offset: u64) -> bool {
        offset >= self.lock().trimmed && offset <= self.top()
    }

    /// Appends one JSON text at the next offset, and notifies the watchers.
    pub fn append(&self, data: &[u8], key: Option<&str>, now: Moment) -> (Position, Held) {
        let mut entries = self.lock();
        let offset = self.top() + 1;
        let publication = Publication::new(&entries.update_prefix, offset, key, data, now);
        entries.push(publication, self.retention.mode);
        entries.trim(&self.retention, now);
        self.top.advance(offset, &entries.watchers);
        (Position { epoch: self.epoch, offset }, entries.held())
    }

    /// Writes the updates in `(cursor, end]` to `out`, separated by commas, until about `max_bytes` are written (at least
    /// one update is). In mode `Latest` there may be none: what was there has been replaced after `end`.
    pub fn read(&self, cursor: u64, end: u64, max_bytes: usize, out: &mut Vec<u8>) -> LogRead {
        let entries = self.lock();
        let gap = (cursor < entries.trimmed).then_some((cursor, entries.trimmed));
        let mut read = LogRead { to: cursor.max(entries.trimmed), count: 0, cut: false, gap, oldest: None };
        let first = entries.index_after(read.to, self.top());
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
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn room_that_was_needed_once_is_given_back() {
        let retention = Retention { mode: Mode::Latest, ..Retention::default() };
        let log = Log::new(&ChannelName::private("a"), Epoch::new(1), retention);
        let second = |number| Moment::default() + Duration::from_secs(number);
        for number in 0..1000 {
            log.append(b"1", Some(&number.to_string()), second(number / 500));
        }
        log.append(b"1", Some("last"), second(200));
        let room = |now| {
            log.trim(now);
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
