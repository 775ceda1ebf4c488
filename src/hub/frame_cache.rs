//! The prepared reads of one channel that are in use.

use smallvec::SmallVec;

use crate::broker::log::Log;
use crate::hub::encoder::FrameEncoder;
use crate::hub::prepared_read::PreparedRead;
use crate::hub::read_plan::ReadPlan;

/// Holds the frames that readers of a channel share. Nearly all readers are at a few offsets, so few entries are enough.
/// Where they are not, a read is prepared again.
#[derive(Debug, Default)]
pub(super) struct FrameCache(SmallVec<[PreparedRead; 1]>);

impl FrameCache {
    /// What a reader with this plan gets next.
    pub fn next(
        &mut self,
        log: &Log,
        plan: ReadPlan,
        max_bytes: usize,
        encoder: &mut FrameEncoder,
    ) -> &mut PreparedRead {
        let ReadPlan { from, step, end } = plan;
        let mut index = self.find(log, (from, step), max_bytes, encoder);
        if step < end {
            if self.0[index].read.is_empty() {
                // Newer publications have replaced all in the step.
                index = self.find(log, (from, end), max_bytes, encoder);
            } else {
                self.0[index].is_step = true;
            }
        }
        &mut self.0[index]
    }

    fn find(
        &mut self,
        log: &Log,
        (from, end): (u64, u64),
        max_bytes: usize,
        encoder: &mut FrameEncoder,
    ) -> usize {
        let found = self.0.iter().position(|prepared| prepared.from == from && prepared.end == end);
        found.unwrap_or_else(|| {
            if self.0.len() >= CACHED_READS {
                self.0.remove(0);
            }
            self.0.push(PreparedRead::new(log, from, end, max_bytes, encoder));
            self.0.len() - 1
        })
    }

    /// Drops the reads that end where no reader stops any more.
    pub fn keep_ends(&mut self, ends: [u64; 2]) {
        self.0.retain(|prepared| prepared.is_step || ends.contains(&prepared.end));
    }
}

/// Prepared reads that a channel keeps at once. Enough for a pass through the queue that takes 16 ticks, and for the
/// steps of readers that come back to a history of a thousand publications.
const CACHED_READS: usize = 64;
