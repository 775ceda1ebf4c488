//! Who is here: the members of each channel that tells it, and what its readers are told of them.
//!
//! The members of a channel are sessions that are subscribed to it. What others see of them is in a state of its own,
//! [`ChannelName::presence_of`](crate::channel::ChannelName::presence_of): an entry for each member, or where they are too many, their number.
//! So readers get it as they get every state, and nothing here knows of them.
//!
//! # What is promised
//! - **Gathered.** Changes are told once per interval, which grows with the readers. A member that changes more often than
//!   five times a second is told as it is then. Who leaves is removed at once.
//! - **At rest it is exact.** Each member that is here has its entry as it is, and nobody else has one. Then nothing is appended.
//! - **Cuts.** A lost connection is not told for [`UNTOLD`]. Then the member is told as not active, and after the grace it is gone. What
//!   ends a session takes its member out at once.
//! - **Time is an argument.** [`Registry::due`] says when [`Registry::advance`] has something to do.

mod around;
mod count;
mod gathered;
mod member;
mod registry;
mod room;

pub use around::{Bounds, Now, Plan};
pub use gathered::{Gathered, Turn};
pub use member::{MemberId, Present, Presented, UNTOLD};
pub use registry::{Advanced, Registry};

#[cfg(test)]
mod tests;
