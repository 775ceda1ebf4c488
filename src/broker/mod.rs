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
//! - **Bounds.** A log keeps at most so many publications, so many bytes, for so much time. It counts what it drops, and
//!   a reader that still wanted it is told the exact range. All logs together keep at most so many bytes. Beyond that
//!   the least recently used channels lose publications, the oldest first.
//! - **No waiting.** Appending never waits for a reader. It waits for another append only in the same channel.
//! - **Life.** A log that holds nothing and has no readers stays for a minute. So a client that reconnects
//!   finds the same epoch, and knows that it lost nothing.
//!
//! # What a receipt promises
//! [`Broker::append`] returns a [`Receipt`] at once. Its outcome becomes known once, and then does not change:
//! - **Confirmed**, with the position. The publication is in the log.
//! - **Not published.** No reader has got it, and none ever will.
//! - **Maybe published.** The broker can't find out. Readers may have it, get it later, or never get it.
//!
//! The receipts of one thread's appends to one channel become known in the order of the calls. None stays pending for ever:
//! a broker has a time limit, and a receipt that it drops is a *maybe*. The broker in memory confirms before `append` returns.

mod epochs;
mod interface;
mod log;
pub mod memory;
mod place;
mod receipt;
mod sync;
mod watcher;

pub use interface::Broker;
pub use log::{Held, Log, LogRead};
pub use place::Place;
pub use receipt::{Confirmation, Outcome, PublishError, Receipt};
pub use watcher::{Notify, Watcher};
