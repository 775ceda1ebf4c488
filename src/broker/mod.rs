//! Where publications are ordered and kept.
//!
//! # What a broker guarantees
//! - **Order.** The publications of a channel have the offsets 1, 2, 3, … within an epoch, in the order in which their
//!   appends returned. There is no order between channels.
//! - **Atomicity.** A publication is in the log with its offset, or it is not there. A reader never sees half of one.
//! - **Exactly one meaning per position.** The epoch changes whenever the top offset can have gone back, so two
//!   different publications never carry one position.
//! - **Bounds.** A log keeps at most so many publications, so many bytes, so much time. What it drops it counts, and
//!   a reader that still wanted it learns the exact range ([`log::Read::gap`]). All logs together keep at most so many
//!   bytes: beyond that, those that were appended to least recently give way, their oldest publications first.
//! - **No waiting.** Appending never waits for a reader, and no longer for the others' logs than one is looked up.
//! - **Life.** A log that holds nothing and has no readers stays for a minute, so that an ordinary reconnect finds its
//!   epoch, and that nothing was lost.

mod ledger;
pub mod log;
pub mod memory;
mod queue;

use std::sync::Arc;

use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::Position;
use crate::stats::Totals;
use log::{Alarm, Log, Watcher};

/// Orders and keeps publications. Every method may be called from any thread.
pub trait Broker: Send + Sync {
    /// Appends one JSON text to a channel and returns where it stands.
    fn append(&self, channel: &ChannelName, data: &[u8], key: Option<&str>, now: Moment) -> Position;

    /// The position behind the newest publication of a channel. It counts as use of the channel: whoever asks for it
    /// and watches the log a moment later (a letter to a shard later) finds the same log.
    fn position(&self, channel: &ChannelName) -> Position;

    /// Opens a channel's log for a reader, who is rung through `alarm` when the log moves (see [`Watcher`]).
    fn watch(&self, channel: &ChannelName, alarm: Arc<dyn Alarm>) -> (Arc<Log>, Arc<Watcher>);

    /// Ends what [`Broker::watch`] began.
    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>);

    /// Does a part of what time asks for: drops publications that are too old, and channels that have held nothing, had
    /// no reader and not been used for [`log::LINGER`]. Returns whether there is more to do. Call it every few seconds
    /// until there is not; between two calls others have their turn.
    fn tidy(&self, now: Moment) -> bool;

    /// What was counted so far.
    fn totals(&self) -> Totals;
}
