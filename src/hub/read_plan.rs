//! How much of a log one reader is given at once.

use crate::broker::Place;

/// What a reader is to get of a channel: everything after `from`, up to `end`, and in this turn up to `step`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadPlan {
    pub from: Place,
    pub step: Place,
    pub end: Place,
}

impl ReadPlan {
    /// Everything in one turn.
    pub fn whole(from: Place, end: Place) -> Self {
        Self { from, step: end, end }
    }

    /// For a reader that comes back. A reader that is far behind is served in steps. Each step ends at a multiple of a
    /// block size. Blocks grow from step to step, and shrink again near the end, which may move meanwhile. So readers
    /// that come back from any offset soon reach the same few offsets, and share the frames that follow.
    pub fn returning(from: Place, end: Place) -> Self {
        if from.turn() != end.turn() || end.offset().saturating_sub(from.offset()) < NEAR {
            return Self::whole(from, end);
        }
        Self { from, step: end.with_offset(first_step(from.offset(), end.offset())), end }
    }
}

/// Where the first step from an offset to another one ends.
fn first_step(from: u64, end: u64) -> u64 {
    let mut block = BLOCK;
    while from.is_multiple_of(block) && block <= end {
        block *= GROWTH;
    }
    let mut step = (from / block + 1) * block;
    while step > end || step == from {
        block /= GROWTH;
        step = end / block * block;
    }
    step
}

/// In publications: a reader that comes back and misses fewer gets all at once. Four blocks.
const NEAR: u64 = 64;

/// Publications in the smallest block. A reader that comes back needs on average half of it made for itself alone.
const BLOCK: u64 = 16;

/// How many times larger the next block is.
const GROWTH: u64 = 8;
