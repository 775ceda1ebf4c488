//! What a broker does. What it guarantees is in [`crate::broker`].

use std::sync::Arc;

use crate::broker::history::{Found, History, Most, StatePart};
use crate::broker::log::Log;
use crate::broker::receipt::Receipt;
use crate::broker::room::{Act, RoomFor};
use crate::broker::sight::{Sight, Surveyed};
use crate::broker::watcher::{Notify, Watcher};
use crate::change::StateRefusal;
use crate::channel::{ChannelName, Name};
use crate::moment::Moment;
use crate::position::Position;
use crate::publication::Content;
use crate::stats::Totals;

/// Orders and keeps publications. Every method may be called from any thread, and none waits.
pub trait Broker: Send + Sync {
    /// Appends a publication to a channel. The receipt tells its position, at once or later.
    fn append(&self, channel: Name<'_>, content: Content<'_>, now: Moment) -> Receipt;

    /// Appends several changes of a state, so that no reader ends between two of them.
    ///
    /// # Errors
    /// Nothing is changed when there is no room for all of them.
    fn append_all(
        &self,
        channel: &ChannelName,
        contents: &[Content<'_>],
        now: Moment,
    ) -> Result<(), StateRefusal>;

    /// Puts one entry in the place of all that a state has: [`Log::reset`]. There is always room for it.
    fn reset_state(&self, channel: &ChannelName, only: Content<'_>, now: Moment);

    /// The position of the newest publication of a channel, for a reader that will watch the log in a moment. It finds the
    /// same log then, and everything after the position: see [`Log::promise`].
    fn promise(&self, channel: &ChannelName, now: Moment) -> Position;

    /// Opens a channel's log for a reader. `notify` is called when the log has moved (see [`Watcher`]).
    fn watch(&self, channel: &ChannelName, notify: Arc<dyn Notify>) -> (Arc<Log>, Arc<Watcher>);

    /// Drops what the log of a channel kept for readers only, as far as they were offered it ([`Watcher::offered`]). Call it
    /// while the log is crowded ([`Log::is_crowded`]).
    fn trim(&self, channel: &ChannelName, now: Moment);

    /// Whether there is room in a channel. If not, acts once there is, on another thread. The action must not block.
    fn when_room(&self, channel: &ChannelName, who: RoomFor, act: Act) -> bool;

    /// What a channel still has after a position, or its newest publications, the oldest first. Nothing when there is no log: it
    /// makes none.
    fn history(&self, channel: &ChannelName, after: Option<Position>, most: Most) -> History;

    /// The entry of a key of a state, and the value that it had in this version. `None` when there is no log: it makes none.
    fn entry(&self, channel: Name<'_>, key: &str, base: Option<Position>) -> Option<Found>;

    /// A part of a state: what has changed after an offset. `None` when there is no log: it makes none.
    fn state_after(&self, channel: &ChannelName, offset: u64, most: Most) -> Option<StatePart>;

    /// How many readers a channel has in this process. It makes no log.
    fn readers(&self, channel: &ChannelName) -> u64;

    /// Whether nothing more comes in a channel, and a reader at this position has all of it. It makes no log.
    fn is_over(&self, channel: &ChannelName, position: Position) -> bool;

    /// Says that nothing more comes in a channel. A reader that has all of it leaves the channel by itself.
    fn finish(&self, channel: &ChannelName);

    /// Drops a channel that nobody can ask for any more, with all that it keeps. While it has readers, only what it keeps is
    /// dropped, and they get a gap.
    fn forget(&self, channel: &ChannelName, now: Moment);

    /// Ends what [`Broker::watch`] began.
    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>);

    /// Drops publications that are too old and channels that nobody has used for a while, as many as one step allows.
    /// Returns whether there is more to do. Call it every few seconds, and again until it returns `false`; let others
    /// have their turn between two calls.
    fn tidy(&self, now: Moment) -> bool;

    /// What was counted so far.
    fn totals(&self) -> Totals;

    /// Shows some of the channels, and returns where the next ones begin; `None` after the last. It is for one observer, who goes on where it
    /// stopped and lets others have their turn in between. What comes or goes meanwhile may be missed, or shown twice.
    fn survey(&self, _from: Surveyed, _see: &mut dyn FnMut(Sight<'_>)) -> Option<Surveyed> {
        None
    }
}
