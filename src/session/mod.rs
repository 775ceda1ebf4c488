//! One client's conversation, independent of what carries it.
//!
//! A [`Session`] is told what the client says ([`Session::receive`]) and what the application decides
//! ([`Session::decide`]). It answers, asks, subscribes and publishes through a [`Carrier`], which is a connection. Nothing here has a socket, a clock or a thread, and nothing names a connection.
//!
//! # What a session guarantees
//! - **Order.** Requests about one channel are carried out in the order in which the client made them. A request that comes
//!   while the application decides about an earlier one of the same channel waits for that decision. Requests about different
//!   channels do not wait for each other.
//! - **Once.** A `publish` with the `id` of an earlier one in the same channel is not published again: it gets the same answer,
//!   even while the broker has not confirmed the earlier one. The last [`REMEMBERED_PUBLISHES`] that succeeded are remembered.
//!   One that failed is forgotten, so the client may try again.
//! - **Bounds.** While [`MAX_PENDING`] requests or more wait for the application or the broker, the session does not want to
//!   hear more ([`Session::listens`]). Only the last message that it heard can bring more, one request for each channel in it.
//! - **Errors.** Each error that is the client's fault is counted. Too many of them end the conversation.

mod carrier;
mod conversation;
mod limits;
mod requests;

pub use carrier::{Carrier, Decision, Question};
pub use conversation::{Greeting, Session};
pub use limits::{ErrorLimit, RateLimit};
pub use requests::{MAX_PENDING, REMEMBERED_PUBLISHES};
