//! Where publications are ordered and kept.
//!
//! # What a broker guarantees
//! - **Order.** The publications of a channel have the offsets 1, 2, 3, … within an epoch. Publications of one thread are
//!   in the log in the order of its calls. There is no order between channels.
//! - **Atomicity.** A publication is in the log with its offset, or it is not there. A reader never sees half of one.
//! - **Exactly one meaning per position.** The epoch changes whenever the top offset can have gone back, so two
//!   different publications never have the same position.
//! - **Receipts.** Every append returns a [`Receipt`] at once. It becomes known once, as exactly one of three: *confirmed* with
//!   the position, *not published* (nobody will ever get it), or *maybe published* (the broker can't know). The receipts of a
//!   channel become known in the order of its appends. A broker leaves none pending for ever: it has a time limit, and a
//!   receipt that the broker drops is a *maybe*.
//! - **Bounds.** A log keeps at most so many publications, so many bytes, for so much time. It counts what it drops, and
//!   a reader that still wanted it learns the exact range ([`LogRead::gap`]). All logs together keep at most so many
//!   bytes. Beyond that the least recently used channels lose publications, the oldest first.
//! - **No waiting.** Appending never waits for a reader. It waits for another append only in the same channel.
//! - **Life.** A log that holds nothing and has no readers stays for a minute. So a client that reconnects
//!   finds the same epoch, and knows that it lost nothing.

mod interface;
mod log;
pub mod memory;
mod receipt;
mod sync;
mod watcher;

pub use interface::Broker;
pub use log::{Held, Log, LogRead};
pub use receipt::{Confirmation, Outcome, PublishError, Receipt};
pub use watcher::{Notify, Watcher};
