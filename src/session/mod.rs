//! One client's conversation, whatever carries it.
//!
//! A [`Session`] is told what the client says ([`Session::receive`]) and what the application decides
//! ([`Session::decide`]). It answers, asks, subscribes and publishes through a [`Carrier`], which is the connection of today and
//! may be another one tomorrow. Nothing here has a socket, a clock or a thread, and nothing names a connection.
//!
//! # What a session guarantees
//! - **Order.** Requests about one channel are carried out in the order in which the client made them. A request that comes
//!   while the application decides about an earlier one of the same channel waits for that decision. Requests about different
//!   channels do not wait for each other.
//! - **Once.** A `publish` whose `id` is among the last [`REMEMBERED_PUBLISHES`] is answered again and not published again.
//! - **Bounds.** At most [`MAX_PENDING`] requests wait for the application or the broker; with so many the session does not
//!   want to hear more ([`Session::listens`]).
//! - **Errors.** Each error that is the client's fault is counted. Too many of them end the conversation.

mod carrier;
mod conversation;
mod limits;
mod requests;

pub use carrier::{Carrier, Decision, Question};
pub use conversation::{Greeting, Session};
pub use limits::{ErrorLimit, RateLimit};
pub use requests::{MAX_PENDING, REMEMBERED_PUBLISHES};
