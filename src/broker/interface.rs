//! What a broker does. What it guarantees is in [`crate::broker`].

use std::sync::Arc;

use crate::broker::log::Log;
use crate::broker::receipt::Receipt;
use crate::broker::watcher::{Notify, Watcher};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::Position;
use crate::stats::Totals;

/// Orders and keeps publications. Every method may be called from any thread, and none waits.
pub trait Broker: Send + Sync {
    /// Appends one JSON text to a channel. The receipt tells its position, at once or later.
    fn append(&self, channel: &ChannelName, data: &[u8], key: Option<&str>, now: Moment) -> Receipt;

    /// The position of the newest publication of a channel. It counts as use of the channel: a reader that asks for
    /// it and watches the log a moment later finds the same log.
    fn position(&self, channel: &ChannelName) -> Position;

    /// Opens a channel's log for a reader. `notify` is called when the log has moved (see [`Watcher`]).
    fn watch(&self, channel: &ChannelName, notify: Arc<dyn Notify>) -> (Arc<Log>, Arc<Watcher>);

    /// Ends what [`Broker::watch`] began.
    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>);

    /// Drops publications that are too old and channels that nobody has used for a while, as many as one step allows.
    /// Returns whether there is more to do. Call it every few seconds, and again until it returns `false`; let others
    /// have their turn between two calls.
    fn tidy(&self, now: Moment) -> bool;

    /// What was counted so far.
    fn totals(&self) -> Totals;
}
