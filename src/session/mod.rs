//! One client's conversation, independent of what carries it.
//!
//! A [`Session`] is told what the client says ([`Session::receive`]) and what the application decides
//! ([`Session::decide`]). It answers, asks, subscribes and publishes through a [`Carrier`], which a connection implements. Nothing
//! here has a socket, a clock or a thread, and nothing names a connection.
//!
//! # What a session guarantees
//! - **Order.** Requests about one channel are carried out in the order in which the client made them. A request that comes
//!   while the application decides about an earlier one of the same channel waits for that decision. Requests about different
//!   channels do not wait for each other.
//! - **Once.** A `publish` or a message for the application with the `id` of an earlier one is not done again: it gets the answer of
//!   that one, now or when there is one. A session remembers the requests that run, the [`REMEMBERED_IDS`] that were answered
//!   last, and as many answers as may be missed, up to [`ANSWER_BYTES`]. Each request that was accepted is answered once: a second
//!   answer is not said.
//! - **Bounds.** While [`MAX_PENDING`] requests or more wait for the application or the broker, or [`UNANSWERED`] with an `id`
//!   (more where more may be under way) are unanswered, the session does not want to hear more ([`Session::listens`]). Only the
//!   last message that it heard can bring more, one request for each channel in it.
//! - **Errors.** Each message that leads to an error by the client's fault is counted, once. After 20 the session wants to hear
//!   two per second. Only messages that can't be read end the conversation.

mod access;
mod answers;
mod calls;
mod carrier;
mod changes;
mod conversation;
mod credentials;
mod greeting;
mod limits;
mod memory;
mod posts;
mod presence;
mod renewals;
mod replies;
mod requests;
mod resolver;
mod resumable;
mod runs;
mod streams;
mod subscriptions;

pub use calls::{Call, begin_calls, is_refused, make_call};
pub use carrier::{Answer, Carrier, Conflict, Decision, FoundEntry, Judged, Question, Unpublished, Unseen};
pub use conversation::Session;
pub use credentials::{look_at_credentials, tell_refused};
pub use limits::{ERRORS_BURST, ErrorLimit, RateLimit};
pub use memory::{ANSWER_BYTES, REMEMBERED_IDS, UNANSWERED};
pub use posts::{ListVerdict, begin_parts, judge_list, last_attempt, secret_of, take_list, take_part};
pub use renewals::{forget_renewal, renew_again, waits_to_renew};
pub use replies::{Newcomer, Terms, tell_presence};
pub use requests::{MAX_PENDING, REMEMBERED_ERRORS, StreamChannels};
pub use resumable::{Claim, Proof, Secret, Verdict, Wanted, owner_of};
pub use streams::{begin_stream, greet_stream, show_heartbeat};
