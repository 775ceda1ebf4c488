//! Where publications are ordered and kept.
//!
//! # What a broker guarantees
//! - **Order.** The publications of a channel have the offsets 1, 2, 3, … within an epoch. Publications of one thread are
//!   in the log in the order of its calls, however late they are confirmed. There is no order between channels.
//! - **Atomicity.** A publication is in the log with its offset, or it is not there. A reader never sees half of one.
//! - **One meaning per position.** Two different publications never have the same position. When offsets can have gone
//!   back, the log goes on in a new epoch ([`Log::begin`]), and each reader is told before it gets anything else
//!   ([`LogRead::gap`]). Up to some offset the new epoch is the same log as before: positions of that part stay good.
//! - **No silence.** What is appended after [`Broker::watch`] reaches the reader, or is in a gap that it is told.
//! - **Bounds.** The log of a channel is bounded in number, bytes and age ([`Retention`](crate::rules::Retention)): the oldest
//!   publications are dropped, and a reader that still wanted them is told the exact range. The bytes of all logs together are
//!   bounded, too: beyond that the least recently used channels lose their oldest publications.
//! - **Bursts.** A reader that keeps up loses nothing by the bounds of its channel. What it has not been offered stays, until the
//!   log has more than [`Retention::burst`](crate::rules::Retention::burst) bytes. A reader keeps up while everything that it was
//!   not offered is younger than [`PATIENCE`]. A reader that is late counts again when it has been level for as long. So a reader
//!   that has stalled keeps nothing, and overload ends in gaps instead of a queue.
//! - **No waiting.** Appending never waits for a reader. It waits for another append only in the same channel. A producer that
//!   wants to wait for readers asks for it ([`Broker::when_room`]).
//! - **States.** A channel of mode `State` keeps the newest publication of each key until it is removed. It does not age, and gives
//!   way to nothing: a change for which there is no room is refused ([`PublishError::Refused`]). Removals are dropped by the bounds of
//!   the history. A reader that still needed one gets all of the state anew ([`End::Anew`]).
//! - **Life.** A log that holds nothing and has no readers stays for a minute, unless its memory is needed. So a client that
//!   reconnects within that time finds the same epoch, and knows that it lost nothing.
//!
//! # What a receipt promises
//! [`Broker::append`] returns a [`Receipt`] at once. Its outcome becomes known once, and then does not change:
//! - **Confirmed**, with the position. The publication is in the log.
//! - **Not published.** No reader has got it, and none ever will.
//! - **Maybe published.** The broker can't find out. Readers may have got it, may get it later, or may never get it.
//!
//! The receipts of one thread's appends to one channel become known in the order of the calls. None stays pending for ever:
//! a broker has a time limit, and a receipt that it drops is a *maybe*. The broker in memory confirms before `append` returns.

mod bases;
mod entries;
mod epochs;
mod history;
mod interface;
mod kept;
mod log;
pub mod memory;
mod outcomes;
mod place;
mod promises;
mod receipt;
mod room;
mod sight;
mod state;
mod sync;
mod watcher;
mod whole;

pub use entries::Held;
pub use history::{Found, History, Most, StatePart};
pub use interface::Broker;
pub use log::Log;
pub use outcomes::{Change, End, Evicted, LogRead, Seat};
pub use place::Place;
pub use promises::PATIENCE;
pub use receipt::{Confirmation, Outcome, PublishError, Receipt};
pub use room::{Act, RoomFor};
pub use sight::{Sight, Surveyed};
pub use state::{change_state, read_state};
pub use watcher::{Notify, Watcher};
