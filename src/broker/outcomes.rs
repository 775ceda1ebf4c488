//! How far a log is read, and what it says of what was done with it.

use crate::broker::entries::Held;
use crate::broker::place::Place;
use crate::moment::Moment;
use crate::position::{Epoch, Gap, Position, Unrecovered};

/// What a log held before it was changed, and holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it was.
    pub before: Held,
    /// As it is.
    pub after: Held,
}

/// What [`Log::evict`](crate::broker::Log::evict) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Publications that were dropped.
    pub count: u64,
    /// More was wanted, and stays for readers that were not offered it.
    pub spared: bool,
}

/// Where [`Log::seat`](crate::broker::Log::seat) has put a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The reader's place.
    pub place: Place,
    /// The same, in words for the client.
    pub position: Position,
    /// The place of the newest publication.
    pub top: Place,
    /// Whether it is the position that the client asked for, if it did ask for one.
    pub recovered: Option<Result<(), Unrecovered>>,
}

/// How far a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// To a place.
    At(Place),
    /// To where the log ends.
    Top,
    /// All of a state from its beginning, to where the log ends, wherever the reader is. It is told so.
    Anew,
}

/// What [`Log::read`](crate::broker::Log::read) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LogRead {
    /// The reader's place afterwards.
    pub to: Place,
    /// The epoch of that place.
    pub epoch: Epoch,
    /// Updates that were written.
    pub count: u32,
    /// Bytes of them, with the commas between.
    pub bytes: usize,
    /// More updates were asked for than the bytes allowed.
    pub cut: bool,
    /// What the reader has to be told before everything that was written.
    pub gap: Option<Gap>,
    /// When the oldest publication that was written had been appended.
    pub oldest: Option<Moment>,
    /// Where the log ended.
    pub top: Place,
    /// Of a state: removals up to here were forgotten.
    pub forgotten: Place,
}

impl LogRead {
    /// Nothing to tell the reader.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.gap.is_none()
    }

    /// Where the reader is afterwards.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.to.offset() }
    }

    /// What the reader has lost, if it has.
    pub fn loss(&self) -> Option<Gap> {
        self.gap.filter(|gap| gap.reason.is_loss())
    }
}
