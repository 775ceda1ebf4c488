//! One connection as the hub sees it: a form, and a cursor in each of its channels.

use smallvec::SmallVec;

use crate::hub::FeedKey;
use crate::hub::prepared::Form;

/// A connection that reads channels.
#[derive(Debug)]
pub struct Reader {
    pub form: Form,
    /// Its socket does not take any more.
    pub blocked: bool,
    /// It stands in the hub's queue.
    pub queued: bool,
    /// It comes back from an offset of its own, and has not arrived where the others are.
    pub returning: bool,
    pub cursors: SmallVec<[Cursor; 1]>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { form: Form::Plain, blocked: false, queued: false, returning: false, cursors: SmallVec::new() }
    }
}

/// How far a reader has been served in one channel.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    pub feed: FeedKey,
    /// Where this reader stands in the feed's list.
    pub seat: u32,
    /// The last offset that was put into the socket's write.
    pub offset: u64,
}
