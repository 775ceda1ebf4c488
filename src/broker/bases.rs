//! Values of a state that were replaced. Who decides a conflict may want to know what the losing change was made of.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::moment::Moment;
use crate::publication::Publication;

/// The last values that were replaced, the oldest first. They are of use, but nobody needs them: they are the first to give way.
#[derive(Debug, Default)]
pub struct Bases {
    kept: VecDeque<Base>,
    bytes: usize,
}

#[derive(Debug)]
struct Base {
    offset: u64,
    key: Box<str>,
    data: Bytes,
    replaced: Moment,
}

impl Bases {
    /// Keeps what was replaced now, and drops the oldest ones beyond the bounds.
    pub fn push(&mut self, older: &Publication, most: usize, most_bytes: usize, now: Moment) {
        let (Some(key), Some(data)) = (older.key(), older.data()) else { return };
        let data = Bytes::copy_from_slice(data);
        let base = Base { offset: older.offset, key: key.into(), data, replaced: now };
        self.bytes += base.size();
        self.kept.push_back(base);
        while self.kept.len() > most || self.bytes > most_bytes {
            self.drop_oldest();
        }
    }

    /// Drops what was replaced before this moment.
    pub fn drop_before(&mut self, moment: Moment) {
        while self.oldest().is_some_and(|oldest| oldest < moment) {
            self.drop_oldest();
        }
    }

    /// Returns whether there was one.
    pub fn drop_oldest(&mut self) -> bool {
        let oldest = self.kept.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, Base::size);
        if self.kept.is_empty() {
            *self = Self::default();
        }
        oldest.is_some()
    }

    /// When the oldest of them was replaced.
    pub fn oldest(&self) -> Option<Moment> {
        self.kept.front().map(|base| base.replaced)
    }

    /// The value that a key had since this offset, if it is still known.
    pub fn find(&self, key: &str, offset: u64) -> Option<Bytes> {
        let index = self.kept.iter().rposition(|base| base.offset == offset && *base.key == *key)?;
        Some(self.kept[index].data.clone())
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Base {
    fn size(&self) -> usize {
        size_of::<Self>() + self.data.len() + self.key.len()
    }
}
