//! What serving a reader means: how far it is served, and what is counted.

use std::time::Duration;

use crate::broker::LogRead;
use crate::hub::feed::Feed;
use crate::hub::outbound::Outbound;
use crate::hub::read_plan::ReadPlan;
use crate::moment::Moment;
use crate::position::{Gap, GapReason};
use crate::stats::Counters;

/// Counts what a reader was given of a channel.
pub(super) fn count(counters: &Counters, feed: &Feed, read: &LogRead, now: Moment, out: &mut impl Outbound) {
    counters.delivered.add(u64::from(read.count));
    counters.payload_sent.add(read.bytes as u64);
    if let Some(Gap { from, to, reason, .. }) = read.loss() {
        counters.gaps.add(1);
        counters.lost.add(to.saturating_sub(from));
        match reason {
            GapReason::Overrun => counters.gaps_overrun.add(1),
            GapReason::Burst => counters.gaps_burst.add(1),
            GapReason::Memory => counters.gaps_memory.add(1),
            GapReason::Turn | GapReason::Reset | GapReason::Count => {}
        }
        out.lost(&feed.name, reason);
    }
    if let Some(oldest) = read.oldest {
        counters.lateness.record(now.since(oldest));
    }
}

/// How far a reader is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// To where many readers are served alike: readers of one channel to the top of its log, readers of several to the
    /// tops of the last tick. With ten channels each, every reader of a pass would otherwise be at an offset of its own
    /// in each of them, and nothing could be shared.
    Shared,
    /// To the tops of the logs.
    Tops,
}

/// What serving a reader has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    pub bytes: usize,
    /// One frame was not enough for all of it.
    pub unfinished: bool,
}

/// One channel in which a reader is behind: the index of its cursor, and what it is to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    pub index: usize,
    pub plan: ReadPlan,
}

/// Bytes of updates of one channel that do not go into a frame with others.
pub(super) const LARGE: usize = 16 * 1024;

/// How long frames of a feed at rest are kept. Readers that lost their connections together come back within seconds,
/// and share them.
pub(super) const WARM: Duration = Duration::from_secs(1);
