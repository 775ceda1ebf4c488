//! What a log keeps: its newest publications, and for whom.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::broker::epochs::Epochs;
use crate::broker::kept::Kept;
use crate::broker::place::Place;
use crate::broker::promises::Promises;
use crate::broker::room::{RoomFor, Waiters};
use crate::broker::watcher::Watcher;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Gap, GapReason, Position, Start, Unrecovered};
use crate::publication::{Publication, prefix};
use crate::rules::{Mode, Replay, Retention};

/// The entries of a log, under its lock.
#[derive(Debug)]
pub struct Entries {
    pub update_prefix: Box<[u8]>,
    pub epochs: Epochs,
    pub kept: Kept,
    bytes: usize,
    /// Everything up to here was dropped, or never came. A reader below it has a gap.
    pub trimmed: u64,
    /// Why the newest of those was dropped.
    cause: GapReason,
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
    /// When the oldest entry was appended; `None` when there is none.
    pub oldest: Option<Moment>,
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
            kept: Kept::new(mode == Mode::Latest),
            bytes: 0,
            trimmed: start.offset,
            cause: GapReason::Overrun,
            watchers: SmallVec::new(),
            promises: Promises::default(),
            waiters: Waiters::default(),
            is_crowded: false,
        }
    }

    pub fn held(&self) -> Held {
        Held {
            bytes: self.bytes + self.kept.room(),
            oldest: self.kept.front().map(|entry| entry.appended),
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
            offset if offset < self.trimmed => Err(Unrecovered::Trimmed),
            offset => Ok(top.with_offset(offset)),
        }
    }

    /// Where a reader begins, and whether that is the position that it asked for, if it did.
    pub fn begin(
        &self,
        start: Start,
        replay: Replay,
        top: Place,
    ) -> (Place, Option<Result<(), Unrecovered>>) {
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

    pub fn push(&mut self, publication: Publication) {
        self.bytes += publication.size();
        if let Some(older) = self.kept.push(publication) {
            self.bytes -= older.size();
        }
    }

    /// What a reader at `cursor` has to be told first.
    pub fn gap(&self, cursor: Place, top: Place) -> Option<Gap> {
        let (from, age) = (cursor.offset(), top.turn() - cursor.turn());
        if age == 0 && from >= self.trimmed {
            return None;
        }
        let common = self.epochs.common_since(age);
        let (to, reason) = if from > common {
            (common.max(self.trimmed), GapReason::Reset)
        } else if from < self.trimmed {
            (self.trimmed, self.cause)
        } else {
            (from, GapReason::Turn)
        };
        Some(Gap { from, to, epoch: self.epochs.current(), reason })
    }

    /// Drops everything. Up to here nothing will come.
    pub fn clear(&mut self, trimmed: u64) {
        self.kept.clear();
        (self.bytes, self.trimmed, self.cause) = (0, trimmed, GapReason::Overrun);
    }

    /// Drops what is newer than this offset.
    pub fn cut_off(&mut self, offset: u64, mode: Mode) {
        if mode == Mode::Latest {
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
        while let Some(oldest) = self.kept.front() {
            let aged = now.since(oldest.appended) > retention.age;
            let over = self.kept.len() > retention.count || self.bytes > retention.bytes;
            if !aged && (!over || self.kept.len() == 1) {
                break;
            }
            let cause = if top.with_offset(oldest.offset) <= self.offered(now) {
                GapReason::Overrun
            } else if self.bytes > retention.burst {
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
        let Some(oldest) = self.kept.pop_front() else { return };
        (self.trimmed, self.cause) = (oldest.offset, cause);
        self.bytes -= oldest.size();
    }
}
