//! One connection as the hub sees it: a wire, and a cursor in each of its channels.

use smallvec::SmallVec;

use crate::broker::Place;
use crate::hub::keys::FeedKey;
use crate::moment::Moment;
use crate::protocol::wire::Wire;

/// A connection that reads channels.
#[derive(Debug)]
pub(super) struct Reader {
    pub wire: Wire,
    /// Its socket takes nothing at the moment.
    pub blocked: bool,
    /// It is in the hub's queue.
    pub queued: bool,
    /// It came back with a position of its own, and has not yet reached the position of the others.
    pub returning: bool,
    /// It does not keep up: the logs keep nothing for it beyond their bounds.
    pub late: bool,
    /// When it was last seated; while it is late, when it was last found behind.
    pub judged: Moment,
    pub cursors: SmallVec<[Cursor; 1]>,
}

impl Reader {
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            blocked: false,
            queued: false,
            returning: false,
            late: false,
            judged: Moment::default(),
            cursors: SmallVec::new(),
        }
    }
}

/// How far a reader has been served in one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub feed: FeedKey,
    /// The reader's index in the feed's list of readers.
    pub seat: u32,
    /// The place of the last publication that was put into the socket's write.
    pub place: Place,
}
