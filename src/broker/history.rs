//! What somebody gets who asks for publications that a log still has.

use bytes::Bytes;

use crate::broker::entries::Entries;
use crate::broker::place::Place;
use crate::position::{Epoch, Position};
use crate::publication::Publication;

/// Publications of one log, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The log no longer has everything after the position that was asked for, or is another log since then.
    pub gap: bool,
    /// Where the log stands. `None`: there is none.
    pub top: Option<Position>,
    /// Copies of the publications.
    pub entries: Vec<Publication>,
}

/// How much of a log is copied at most.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Publications.
    pub count: usize,
    /// Their bytes. One publication is given whatever its size, so that a reader comes to the end.
    pub bytes: usize,
}

/// What a state has for a key.
#[derive(Clone, Debug)]
pub struct Found {
    /// The life of the log.
    pub epoch: Epoch,
    /// A copy of the entry, if it is there.
    pub entry: Option<Publication>,
    /// The value that the key had in the version that was asked for, if that is still known.
    pub base: Option<Bytes>,
}

impl Found {
    /// What these entries have for a key, and the value that it had in a version.
    pub fn of(entries: &Entries, key: &str, base: Option<Position>) -> Self {
        let entry = entries.kept.get(key).filter(|entry| !entry.is_removal()).cloned();
        let epoch = entries.epochs.current();
        let base = base.filter(|base| base.epoch == epoch);
        Self { epoch, entry, base: base.and_then(|base| entries.bases.find(key, base.offset)) }
    }

    /// The position of the entry's last change. `None` when it is not there.
    pub fn version(&self) -> Option<Position> {
        self.entry.as_ref().map(|entry| Position { epoch: self.epoch, offset: entry.offset })
    }

    /// Its value: one JSON text.
    pub fn data(&self) -> Option<&[u8]> {
        self.entry.as_ref().and_then(Publication::data)
    }
}

/// A part of a state, read in one step: what has changed after an offset, the oldest change first.
#[derive(Clone, Debug)]
pub struct StatePart {
    /// Where the log stands.
    pub top: Position,
    /// Removals up to this offset are forgotten.
    pub forgotten: u64,
    /// Copies of the publications. Removals are among them.
    pub entries: Vec<Publication>,
}

impl Most {
    /// Copies of the first publications, as many as that allows.
    pub(super) fn of<'a>(self, publications: impl Iterator<Item = &'a Publication>) -> Vec<Publication> {
        let mut left = self.bytes;
        let fits = |publication: &&Publication| {
            let is_first = left == self.bytes;
            let rest = left.checked_sub(publication.size());
            left = rest.unwrap_or(0);
            rest.is_some() || is_first
        };
        publications.take(self.count).take_while(fits).cloned().collect()
    }
}

impl History {
    /// What a log has after a position, or its newest publications. After a position that is gone, what is left.
    pub(super) fn of(entries: &Entries, top: Place, after: Option<Position>, most: Most) -> Self {
        let found = after.map(|position| entries.find_after(position, top));
        let copies = if let Some(place) = found {
            most.of(entries.after(place.map_or(0, Place::offset)))
        } else {
            let mut newest = most.of(entries.kept.newest());
            newest.reverse();
            newest
        };
        let top = Position { epoch: entries.epochs.current(), offset: top.offset() };
        Self { gap: found == Some(None), top: Some(top), entries: copies }
    }
}
