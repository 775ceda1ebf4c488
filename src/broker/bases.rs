//! Values of a state that were replaced. Who decides a conflict may want to know what the losing change was made of.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::publication::Publication;

/// The last values that were replaced, the oldest first.
#[derive(Debug, Default)]
pub struct Bases {
    kept: VecDeque<Base>,
    bytes: usize,
}

#[derive(Debug)]
struct Base {
    offset: u64,
    key: Arc<str>,
    data: Bytes,
}

impl Bases {
    /// Keeps what was replaced, and drops the oldest ones beyond the bounds.
    pub fn push(&mut self, replaced: &Publication, most: usize, most_bytes: usize) {
        let (Some(key), Some(data)) = (&replaced.key, replaced.data()) else { return };
        let base = Base { offset: replaced.offset, key: Arc::clone(key), data: Bytes::copy_from_slice(data) };
        self.bytes += base.size();
        self.kept.push_back(base);
        while self.kept.len() > most || self.bytes > most_bytes {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.size();
        }
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
