//! What a log keeps: its newest publications, and for whom.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::bases::Bases;
use crate::broker::epochs::Epochs;
use crate::broker::kept::Kept;
use crate::broker::place::Place;
use crate::broker::promises::Promises;
use crate::broker::room::{RoomFor, Waiters};
use crate::broker::watcher::Watcher;
use crate::change::{ENTRY_BYTES, StateRefusal};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Gap, GapReason, Position, Start, Unrecovered};
use crate::publication::{Content, Publication, prefix};
use crate::rules::{Mode, Replay, Retention};

/// The entries of a log, under its lock.
#[derive(Debug)]
pub struct Entries {
    pub update_prefix: Box<[u8]>,
    pub epochs: Epochs,
    pub kept: Kept,
    /// Values that were replaced, of a state whose conflicts are resolved.
    pub bases: Bases,
    is_state: bool,
    bytes: usize,
    /// Everything up to here was dropped, or never came. A reader below it has a gap.
    pub trimmed: u64,
    /// Why the newest of those was dropped.
    cause: GapReason,
    /// Of a state, which drops nothing else: removals up to here were dropped.
    pub forgotten: u64,
    /// Of a state: the offset at which a number took the place of all entries.
    pub counted: u64,
    pub watchers: SmallVec<[Arc<Watcher>; 2]>,
    pub promises: Promises,
    pub waiters: Waiters,
    /// Something stayed at the last [`Entries::trim`], for readers that keep up.
    pub is_crowded: bool,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of the entries, and of the room that was made for more.
    pub bytes: usize,
    /// Bytes of values that were replaced, which count beside these.
    pub bases: usize,
    /// Since when the oldest is there that time can drop; `None` when there is none. Of a state that are removals, and values that were
    /// replaced.
    pub oldest: Option<Moment>,
    /// It has no entries, or of a state nothing but removals.
    pub is_empty: bool,
    /// Somebody watches it.
    pub is_watched: bool,
    /// It keeps more than its bounds allow.
    pub is_crowded: bool,
}

impl Entries {
    /// Nothing up to a position.
    pub fn new(channel: &ChannelName, start: Position, mode: Mode) -> Self {
        Self {
            update_prefix: prefix(channel.as_str()),
            epochs: Epochs::new(start.epoch),
            kept: Kept::new(mode.is_keyed()),
            bases: Bases::default(),
            is_state: mode == Mode::State,
            bytes: 0,
            trimmed: start.offset,
            cause: GapReason::Overrun,
            forgotten: 0,
            counted: 0,
            watchers: SmallVec::new(),
            promises: Promises::default(),
            waiters: Waiters::default(),
            is_crowded: false,
        }
    }

    #[inline]
    pub fn held(&self) -> Held {
        let oldest = self.oldest().map(|entry| entry.appended);
        Held {
            bytes: self.bytes + self.kept.room(),
            bases: self.bases.bytes(),
            oldest: self.bases.oldest().map_or(oldest, |base| Some(oldest.map_or(base, |it| it.min(base)))),
            is_empty: self.kept.live() == 0,
            is_watched: !self.watchers.is_empty(),
            is_crowded: self.is_crowded,
        }
    }

    /// The place of a position, when a reader there can be given everything after it.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn find(&self, position: Position, top: Place) -> Result<Place, Unrecovered> {
        let age = self.epochs.age(position.epoch).ok_or(Unrecovered::Epoch)?;
        match position.offset {
            offset if offset > self.epochs.common_since(age) => Err(Unrecovered::Epoch),
            offset if offset > top.offset() => Err(Unrecovered::Ahead),
            offset if offset < self.trimmed.max(self.forgotten) => Err(Unrecovered::Trimmed),
            offset => Ok(top.with_offset(offset)),
        }
    }

    /// As [`Entries::find`]. The beginning of a state is always there.
    pub fn find_after(&self, position: Position, top: Place) -> Option<Place> {
        let is_begin = self.is_state && position.offset == 0 && position.epoch == self.epochs.current();
        if is_begin { Some(top.with_offset(0)) } else { self.find(position, top).ok() }
    }

    /// Where a reader begins, and whether that is the position that it asked for, if it did.
    pub fn begin(
        &self,
        start: Start,
        replay: Replay,
        top: Place,
    ) -> (Place, Option<Result<(), Unrecovered>>) {
        if self.is_state {
            return self.begin_state(start, top);
        }
        let oldest = top.with_offset(self.trimmed);
        let newcomer = match replay {
            Replay::Head => top,
            Replay::Start => oldest,
        };
        match start {
            Start::Newcomer => (newcomer, None),
            Start::Foreign => (newcomer, Some(Err(Unrecovered::Epoch))),
            Start::Unknown => (newcomer, Some(Err(Unrecovered::Unknown))),
            Start::After(position) => match self.find(position, top) {
                Ok(place) => (place, Some(Ok(()))),
                Err(Unrecovered::Trimmed) => (oldest, Some(Err(Unrecovered::Trimmed))),
                Err(reason) => (newcomer, Some(Err(reason))),
            },
            Start::Promised(position) => match self.find(position, top) {
                Ok(_) | Err(Unrecovered::Trimmed) => (top.with_offset(position.offset), None),
                // The log was made after the promise: all of it was promised, and nobody knows what was before it.
                Err(reason) => (top.with_offset(0), Some(Err(reason))),
            },
        }
    }

    /// Who can't go on after a position of its own gets all of a state.
    fn begin_state(&self, start: Start, top: Place) -> (Place, Option<Result<(), Unrecovered>>) {
        let found = match start {
            Start::Newcomer | Start::Promised(_) => Err(Unrecovered::New),
            Start::Foreign => Err(Unrecovered::Epoch),
            Start::Unknown => Err(Unrecovered::Unknown),
            Start::After(position) => self.find(position, top),
        };
        match found {
            // From its beginning everything is there, whatever is forgotten.
            Ok(place) if place.offset() > 0 => (place, Some(Ok(()))),
            Ok(_) => (top.with_offset(0), Some(Err(Unrecovered::New))),
            Err(reason) => (top.with_offset(0), Some(Err(reason))),
        }
    }

    /// What time, or a lack of room, can drop first. The newest entry of a state stays, also when it is a removal.
    pub fn oldest(&self) -> Option<&Publication> {
        if self.is_state { self.kept.oldest_removal() } else { self.kept.front() }
    }

    /// Whether a state takes a change, for which removals give way. `Ok(false)`: it is so already.
    pub fn admit(&mut self, content: &Content<'_>, retention: &Retention) -> Result<bool, StateRefusal> {
        let key = content.key.ok_or(StateRefusal::NoKey)?;
        let known = self.kept.get(key);
        let is_live = known.is_some_and(|entry| !entry.is_removal());
        if content.is_removal() && !is_live {
            return Ok(false); // it is as it should be, whatever was there before
        }
        // Before the version: a conflict about what would not be taken is none.
        if !content.is_removal() && content.data.len() > ENTRY_BYTES {
            return Err(StateRefusal::Large);
        }
        let version = known.filter(|_| is_live).map(|entry| entry.offset);
        let epoch = self.epochs.current();
        if !content.expected.holds(version.map(|offset| Position { epoch, offset })) {
            return Err(StateRefusal::Conflict);
        }
        if content.is_removal() {
            return Ok(true);
        }
        if !is_live && self.kept.live() >= retention.max_keys {
            return Err(StateRefusal::Keys(retention.max_keys));
        }
        let older = known.filter(|_| is_live).map_or(0, Publication::size);
        let more = Publication::size_of(&self.update_prefix, content);
        let (_, removal_bytes) = self.kept.removals();
        if self.bytes - removal_bytes - older + more > retention.state_bytes {
            return Err(StateRefusal::Bytes(retention.state_bytes));
        }
        while self.bytes - older + more > retention.state_bytes && self.kept.oldest_removal().is_some() {
            self.drop_oldest(GapReason::Memory);
        }
        Ok(true)
    }

    /// Whether a state has room for all of these at once, whatever gives way for them.
    pub fn admit_all(&self, contents: &[Content<'_>], retention: &Retention) -> Result<(), StateRefusal> {
        let more = contents.iter().filter(|content| !content.is_removal());
        let sizes = more.map(|content| Publication::size_of(&self.update_prefix, content));
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        if self.kept.live() + count > retention.max_keys {
            return Err(StateRefusal::Keys(retention.max_keys));
        }
        let own = self.bytes - self.kept.removals().1;
        if own + bytes > retention.state_bytes {
            return Err(StateRefusal::Bytes(retention.state_bytes));
        }
        Ok(())
    }

    /// Drops everything in one step. `only` is the newest entry, and the only one.
    pub fn clear_state(&mut self, only: Publication) {
        self.kept.clear();
        (self.bytes, self.forgotten, self.bases) = (0, only.offset, Bases::default());
        self.push(only);
    }

    pub fn push(&mut self, publication: Publication) -> Option<Publication> {
        self.bytes += publication.size();
        let older = self.kept.push(publication)?;
        self.bytes -= older.size();
        Some(older)
    }

    /// What a reader at `cursor` has to be told first.
    pub fn gap(&self, cursor: Place, top: Place) -> Option<Gap> {
        let (from, age) = (cursor.offset(), top.turn() - cursor.turn());
        if age == 0 && from >= self.trimmed {
            return None;
        }
        if self.is_state {
            return Some(self.gap_anew(cursor, top));
        }
        let common = self.epochs.common_since(age);
        let (to, reason) = if from > common {
            (common.max(self.trimmed), GapReason::Reset)
        } else if from < self.trimmed {
            (self.trimmed, self.cause)
        } else {
            (from, GapReason::Turn)
        };
        Some(Gap { from, to, epoch: self.epochs.current(), reason, top: None })
    }

    /// What a reader is told to which all of a state is given anew.
    pub fn gap_anew(&self, cursor: Place, top: Place) -> Gap {
        let (epoch, top) = (self.epochs.current(), Some(top.offset()));
        let is_counted = self.counted > 0 && self.counted == self.forgotten;
        let reason = if is_counted { GapReason::Count } else { GapReason::Reset };
        Gap { from: cursor.offset(), to: 0, epoch, reason, top }
    }

    /// Drops everything. Up to here nothing will come.
    pub fn clear(&mut self, trimmed: u64) {
        self.kept.clear();
        (self.bytes, self.trimmed, self.cause) = (0, trimmed, GapReason::Overrun);
        self.bases = Bases::default();
    }

    /// Drops what is newer than this offset.
    pub fn cut_off(&mut self, offset: u64, mode: Mode) {
        if mode.is_keyed() {
            self.forgotten = offset;
            // Entries that what is dropped had replaced are gone too, so nothing before can be given completely.
            return self.clear(offset);
        }
        self.trimmed = self.trimmed.min(offset);
        self.bytes -= self.kept.cut_off(offset);
    }

    /// The entries after an offset, the oldest first.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = &Publication> {
        self.kept.after(offset, self.trimmed)
    }

    /// Drops what the bounds do not allow, but not what a reader that keeps up has not been offered, unless that is more than a
    /// burst may be. Notes whether something stays for that reason.
    ///
    /// The newest publication stays until it is too old, however many bytes it has: otherwise the log would lose every one.
    pub fn trim(&mut self, retention: &Retention, top: Place, now: Moment) {
        self.is_crowded = false;
        self.bases.drop_before(now - retention.age);
        while let Some(oldest) = self.oldest() {
            let aged = now.since(oldest.appended) > retention.age;
            let (count, bytes) =
                if self.is_state { self.kept.removals() } else { (self.kept.len(), self.bytes) };
            let over = count > retention.count || (bytes > retention.bytes && !self.is_state);
            if !aged && (!over || count == 1) {
                break;
            }
            let cause = if top.with_offset(oldest.offset) <= self.offered(now) {
                GapReason::Overrun
            } else if bytes > retention.burst {
                GapReason::Burst
            } else {
                self.is_crowded = true;
                break;
            };
            self.drop_oldest(cause);
        }
    }

    /// Notifies all watchers that are armed.
    pub fn notify(&self) {
        for watcher in &self.watchers {
            watcher.moved();
        }
    }

    /// Up to here everything was offered to all readers that keep up.
    pub fn offered(&self, now: Moment) -> Place {
        let offered = self.watchers.iter().map(|watcher| watcher.is_offered());
        offered.chain(self.promises.first(now)).min().unwrap_or(Place::MAX)
    }

    /// Whether little enough waits for readers.
    pub fn has_room(&self, who: RoomFor, retention: &Retention, top: Place) -> bool {
        let places = self.watchers.iter().map(|watcher| match who {
            RoomFor::KeepingUp => watcher.is_offered(),
            RoomFor::Everybody => watcher.slowest(),
        });
        let Some(place) = places.min() else { return true };
        if place >= top {
            return true;
        }
        let offset = if place.turn() == top.turn() { place.offset() } else { 0 };
        let waiting = self.after(offset).map(Publication::size);
        let (count, bytes) = waiting.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        match who {
            RoomFor::KeepingUp => bytes == 0 || bytes < retention.burst / 2,
            RoomFor::Everybody => count <= retention.count / 2 && bytes <= retention.bytes / 2,
        }
    }

    pub fn drop_oldest(&mut self, cause: GapReason) {
        let dropped = if self.is_state { self.kept.pop_removal() } else { self.kept.pop_front() };
        let Some(oldest) = dropped else { return };
        self.bytes -= oldest.size();
        if self.is_state {
            self.forgotten = oldest.offset;
            // What a state holds counts against all states: nobody else waits until it is visited.
            self.kept.give_back();
        } else {
            (self.trimmed, self.cause) = (oldest.offset, cause);
        }
    }
}
