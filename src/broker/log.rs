//! The log of one channel, as all shards of one process read it. A broker fills it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::entries::{Entries, Held};
use crate::broker::history::{Found, History, Most, StatePart};
use crate::broker::outcomes::{Change, End, Evicted, LogRead, Seat};
use crate::broker::place::Place;
use crate::broker::room::{Act, RoomFor};
use crate::broker::watcher::{Notify, Top, Watcher};
use crate::change::StateRefusal;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, GapReason, Position, Start};
use crate::publication::{Content, Publication};
use crate::rules::Retention;

/// An append-only log, bounded in count, bytes and age.
///
/// Either it numbers its entries itself ([`Log::append`]), or it is a copy of a log elsewhere ([`Log::extend`],
/// [`Log::begin`]).
///
/// Its bounds are for readers that are behind. What a reader that keeps up has not been offered yet stays, up to
/// [`Retention::burst`]. See [`Log::trim`].
#[derive(Debug)]
pub struct Log {
    retention: Retention,
    /// Place of the newest entry. Written under the lock, read without it.
    pub(super) top: Top,
    /// It keeps more than its bounds, for readers that keep up. Written under the lock.
    crowded: AtomicBool,
    /// Nothing more comes.
    finished: AtomicBool,
    /// Bits of a place. Of a state: removals up to here are forgotten. Written under the lock.
    forgotten: AtomicU64,
    /// Guards the entries. Held for one append, or for copying one batch: never while anything can wait.
    entries: Mutex<Entries>,
}

impl Log {
    /// A log that has nothing up to a position, and goes on from there.
    pub fn new(channel: &ChannelName, start: Position, retention: Retention) -> Self {
        let entries = Entries::new(channel, start, retention.mode);
        let top = Top::new(Place::default().with_offset(start.offset));
        Self {
            retention,
            top,
            crowded: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            forgotten: AtomicU64::new(0),
            entries: Mutex::new(entries),
        }
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

    /// Whether it keeps more than its bounds, for readers that keep up. Their hub says how far they are
    /// ([`Watcher::offered`]), then calls [`Broker::trim`](crate::broker::Broker::trim).
    pub fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Says that nothing more comes, and notifies the watchers.
    pub fn finish(&self) {
        let entries = self.lock();
        self.finished.store(true, Ordering::Release);
        entries.notify();
    }

    /// Whether nothing more comes.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Seats a reader. What comes after its place stays until the watcher says that it was offered. A reader that is seated
    /// before something that is gone gets a gap with its next read.
    pub fn seat(&self, watcher: &Watcher, start: Start) -> Seat {
        let entries = self.lock();
        let top = self.top();
        let (place, recovered) = entries.begin(start, self.retention.replay, top);
        watcher.hold(place);
        let position = Position { epoch: entries.epochs.current(), offset: place.offset() };
        Seat { place, position, top, recovered }
    }

    /// The position of the newest publication, for a reader that will be seated there in a moment. What comes after it stays
    /// for [`PATIENCE`](crate::broker::PATIENCE).
    pub fn promise(&self, now: Moment) -> Position {
        self.lock().promises.add(self.top(), now);
        self.position()
    }

    /// The newest publication that is older than this. `None` when there is none.
    pub fn older_than(&self, age: Duration, now: Moment) -> Option<Place> {
        let entries = self.lock();
        entries.kept.last_before(now - age).map(|offset| self.top().with_offset(offset))
    }

    /// Appends a publication at the next offset, and notifies the watchers. To remove from a state what is not there is to do nothing:
    /// then the position is where the log stands.
    ///
    /// The outcome is an error when a state does not take the change.
    pub fn append(&self, content: &Content<'_>, now: Moment) -> (Result<Position, StateRefusal>, Change) {
        self.change(|entries| {
            let top = self.top();
            let position = Position { epoch: entries.epochs.current(), offset: top.offset() };
            if !self.retention.is_state() {
                content.op.check_without_state()?;
            } else if !entries.admit(content, &self.retention)? {
                return Ok(position);
            }
            let place = top.with_offset(top.offset() + 1);
            self.push(entries, place, content, now);
            Ok(position.at(place.offset()))
        })
    }

    /// Of a state: removals up to here are forgotten. A read that ended before does not count any more.
    pub fn forgotten(&self) -> Place {
        Place::from_bits(self.forgotten.load(Ordering::Acquire))
    }

    /// Of a state: what could be free without its removals.
    pub fn removal_bytes(&self) -> usize {
        self.lock().kept.removals().1
    }

    /// See [`Found`].
    pub fn find(&self, key: &str, base: Option<Position>) -> Found {
        Found::of(&self.lock(), key, base)
    }

    /// A part of a state: what has changed after an offset.
    pub fn state_after(&self, offset: u64, most: Most) -> StatePart {
        let entries = self.lock();
        let top = Position { epoch: entries.epochs.current(), offset: self.top().offset() };
        let after = most.of(entries.after(offset));
        StatePart { top, forgotten: entries.forgotten, entries: after }
    }

    /// Adds an entry that was numbered elsewhere, and notifies the watchers. When it does not follow the newest one, the
    /// entries between will never come: everything before it becomes a gap. What is not of the present epoch, or not
    /// newer than the newest entry, is ignored.
    pub fn extend(&self, position: Position, content: &Content<'_>, now: Moment) -> Change {
        let extend = |entries: &mut Entries| {
            let top = self.top();
            if position.epoch == entries.epochs.current() && position.offset > top.offset() {
                if position.offset > top.offset() + 1 {
                    entries.clear(position.offset - 1);
                }
                self.push(entries, top.with_offset(position.offset), content, now);
            }
        };
        self.change(extend).1
    }

    /// Goes on in another epoch, and notifies the watchers. Up to the offset of `start` the log is the same as before; what it
    /// has after that is gone. Every reader is told with its next read.
    pub fn begin(&self, start: Position) -> Change {
        let begin = |entries: &mut Entries| {
            let top = self.top();
            let offset = top.offset().min(start.offset);
            let mut common = start.offset;
            if offset < top.offset() {
                entries.cut_off(offset, self.retention.mode);
                if self.retention.mode.is_keyed() {
                    // What is dropped had replaced older entries, which count again. A reader may have passed those without
                    // getting them, wherever it is now.
                    common = 0;
                }
            }
            entries.epochs.begin(start.epoch, common);
            self.top.advance(top.in_next_turn(offset), &entries.watchers);
        };
        self.change(begin).1
    }

    pub(super) fn push(&self, entries: &mut Entries, place: Place, content: &Content<'_>, now: Moment) {
        let anonymous;
        let content = if content.sender.is_some() && !self.retention.sender {
            anonymous = Content { sender: None, ..*content };
            &anonymous
        } else {
            content
        };
        let publication = Publication::new(&entries.update_prefix, place.offset(), content, now);
        let older = entries.push(publication);
        if let Some(older) = older.filter(|_| self.retention.bases) {
            entries.bases.push(&older, self.retention.count, self.retention.bytes, now);
        }
        self.drop_old(entries, place, now);
        self.top.advance(place, &entries.watchers);
    }

    /// Writes the updates in `(cursor, end]` to `out`, separated by commas, until about `max_bytes` are written (at least
    /// one update is). In a keyed log there may be none: what was there has been replaced after `end`.
    ///
    /// In a state, the last update says where the log ends, if that is not there.
    pub fn read(&self, cursor: Place, end: End, max_bytes: usize, out: &mut Vec<u8>) -> LogRead {
        let entries = self.lock();
        let top = self.top();
        let gap = match end {
            End::Anew => Some(entries.gap_anew(cursor, top)),
            End::At(_) | End::Top => entries.gap(cursor, top),
        };
        let end = if let End::At(end) = end { end } else { top };
        let to = gap.map_or(cursor, |gap| top.with_offset(gap.to));
        let epoch = entries.epochs.current();
        let forgotten = top.with_offset(entries.forgotten);
        let mut read =
            LogRead { to, epoch, count: 0, bytes: 0, cut: false, gap, oldest: None, top, forgotten };
        let start = out.len();
        let mut last = None;
        for entry in entries.after(to.offset()) {
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
            last = Some((out.len(), read.to.offset(), entry));
            entry.write(read.to.offset(), None, out);
            read.to = place;
            read.count += 1;
            read.oldest = read.oldest.or(Some(entry.appended));
        }
        if let Some((start, from, entry)) = last.filter(|_| self.retention.is_state() && read.to < top) {
            out.truncate(start);
            entry.write(from, Some(top.offset()), out);
        }
        read.bytes = out.len() - start;
        read
    }

    /// A copy of what it has after a position, or of its newest publications: see [`History`].
    pub fn history(&self, after: Option<Position>, most: Most) -> History {
        History::of(&self.lock(), self.top(), after, most)
    }

    /// Readers of all its watchers.
    pub fn readers(&self) -> u64 {
        self.lock().watchers.iter().map(|watcher| watcher.readers()).sum()
    }

    fn drop_old(&self, entries: &mut Entries, top: Place, now: Moment) {
        entries.trim(&self.retention, top, now);
        self.crowded.store(entries.is_crowded || !entries.waiters.is_empty(), Ordering::Relaxed);
    }

    /// Drops what its bounds do not allow, and gives back the room that it took. What a reader that keeps up was not offered
    /// stays.
    pub fn trim(&self, now: Moment) -> Change {
        let trim = |entries: &mut Entries| {
            self.drop_old(entries, self.top(), now);
            entries.kept.give_back();
        };
        let change = self.change(trim).1;
        self.release_waiters();
        change
    }

    /// Whether little enough waits for readers. If not, acts once it is so, on the thread that finds it.
    pub fn when_room(&self, who: RoomFor, act: Act) -> bool {
        let mut entries = self.lock();
        if entries.has_room(who, &self.retention, self.top()) {
            return true;
        }
        entries.waiters.add(who, act);
        // The hubs look at their readers while it is crowded.
        self.crowded.store(true, Ordering::Relaxed);
        entries.notify();
        false
    }

    /// Asks the hubs how far their readers are. While it is within its bounds, a log is not told, so that it may keep for them
    /// what they have had for long.
    pub fn ask_offered(&self) {
        self.lock().notify();
    }

    fn release_waiters(&self) {
        let mut entries = self.lock();
        if entries.waiters.is_empty() {
            return;
        }
        let mut waiters = std::mem::take(&mut entries.waiters);
        let ready = waiters.take(|who| entries.has_room(who, &self.retention, self.top()));
        entries.waiters = waiters;
        drop(entries);
        for act in ready {
            act();
        }
    }

    /// Drops the oldest publications until `excess` bytes are free, but keeps the newest `keep` of them. If it is to `spare`
    /// readers at this moment, a log beyond its bounds also keeps what those that keep up were not offered. (Within its bounds a
    /// log is not told how far they are: they are there in a moment.) Returns what it dropped.
    pub fn evict(&self, excess: usize, keep: usize, spare: Option<Moment>) -> (Evicted, Change) {
        self.change(|entries| {
            let bytes = |entries: &Entries| entries.held().bytes + entries.bases.bytes();
            let enough = bytes(entries).saturating_sub(excess);
            while bytes(entries) > enough && entries.bases.drop_oldest() {}
            let spare = spare.filter(|_| entries.is_crowded);
            let offered = spare.map_or(Place::MAX, |now| entries.offered(now));
            let mut evicted = Evicted { count: 0, spared: false };
            while (entries.kept.len() > keep || self.retention.is_state())
                && bytes(entries) > enough
                && let Some(oldest) = entries.oldest()
            {
                if self.top().with_offset(oldest.offset) > offered {
                    evicted.spared = true;
                    break;
                }
                entries.drop_oldest(GapReason::Memory);
                evicted.count += 1;
            }
            entries.kept.give_back();
            evicted
        })
    }

    /// Begins to notify a reader when the log moves.
    pub fn watch(&self, notify: Arc<dyn Notify>) -> (Arc<Watcher>, Change) {
        let watcher = Arc::new(Watcher::new(notify));
        let ((), change) = self.change(|entries| entries.watchers.push(Arc::clone(&watcher)));
        (watcher, change)
    }

    /// Ends what [`Log::watch`] began.
    pub fn unwatch(&self, watcher: &Arc<Watcher>) -> Change {
        let change = self.change(|entries| entries.watchers.retain(|other| !Arc::ptr_eq(other, watcher))).1;
        self.release_waiters();
        change
    }

    /// What it holds now.
    pub fn held(&self) -> Held {
        self.lock().held()
    }

    pub(super) fn change<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> (T, Change) {
        let mut entries = self.lock();
        let before = entries.held();
        let outcome = act(&mut entries);
        if self.retention.is_state() {
            let forgotten = self.top().with_offset(entries.forgotten);
            self.forgotten.store(forgotten.to_bits(), Ordering::Release);
        }
        (outcome, Change { before, after: entries.held() })
    }

    /// A panic under the lock could only come from the allocator; what the lock guards is then still whole.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
