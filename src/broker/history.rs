//! What somebody gets who asks for publications that a log still has.

use crate::broker::entries::Entries;
use crate::broker::place::Place;
use crate::position::Position;
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

impl History {
    /// What a log has after a position, or its newest publications. After a position that is gone, what is left.
    pub(super) fn of(entries: &Entries, top: Place, after: Option<Position>, most: Most) -> Self {
        let found = after.map(|position| entries.find(position, top).ok());
        let mut left = most.bytes;
        let fits = |publication: &&Publication| {
            let is_first = left == most.bytes;
            let rest = left.checked_sub(publication.size());
            left = rest.unwrap_or(0);
            rest.is_some() || is_first
        };
        let copies = if let Some(place) = found {
            let first = place.map_or(0, Place::offset);
            entries.after(first).take(most.count).take_while(fits).cloned().collect()
        } else {
            let mut newest: Vec<_> =
                entries.kept.newest().take(most.count).take_while(fits).cloned().collect();
            newest.reverse();
            newest
        };
        let top = Position { epoch: entries.epochs.current(), offset: top.offset() };
        Self { gap: found == Some(None), top: Some(top), entries: copies }
    }
}
