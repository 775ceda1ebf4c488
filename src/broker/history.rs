//! What the application gets when it asks for publications that a log still has.

use std::sync::Arc;

use crate::broker::entries::Entries;
use crate::broker::place::Place;
use crate::moment::Moment;
use crate::position::Position;
use crate::publication::Publication;

/// Publications of one log, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The log no longer has everything after the position that was asked for, or is another log since then.
    pub gap: bool,
    /// The publications.
    pub entries: Vec<Entry>,
}

/// A copy of one publication.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it is.
    pub position: Position,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// JSON text.
    pub data: Box<[u8]>,
    /// JSON text that says which client published it, in channels that tell it.
    pub sender: Option<Box<[u8]>>,
    /// When it was appended.
    pub appended: Moment,
}

impl History {
    /// What a log has after a position, or its newest publications: at most `limit`. After a position that is gone, what is
    /// left.
    pub(super) fn of(entries: &Entries, top: Place, after: Option<Position>, limit: usize) -> Self {
        let found = after.map(|position| entries.find(position, top).ok());
        let first = match found {
            None => entries.kept.len().saturating_sub(limit),
            Some(None) => 0,
            Some(Some(place)) => entries.index_after(place.offset(), top.offset()),
        };
        let epoch = entries.epochs.current();
        let copy = |publication: &Publication| Entry {
            position: Position { epoch, offset: publication.offset },
            key: publication.key.clone(),
            data: publication.data().into(),
            sender: publication.sender().map(Box::from),
            appended: publication.appended,
        };
        let entries = entries.kept.range(first..).take(limit).map(copy).collect();
        Self { gap: found == Some(None), entries }
    }
}
