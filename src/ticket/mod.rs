//! Tickets: credentials for clients that can send nothing but a URL, as an `EventSource` does.
//!
//! A ticket is given to somebody whose identity is known already, and stands in the URL of an event stream. URLs are read by others, in
//! logs and histories, so a ticket alone is worth nothing soon: each opening of its stream gets a secret of its own, which is part of the
//! `id` of every event. From then on the ticket counts only with the secret of the last opening, which browsers send as `Last-Event-ID`.
//! Who shows an older one proves that two have the ticket. Then it counts for nobody.
//!
//! A response can be lost on its way. Therefore a credential that was shown, the ticket alone or a secret, may be shown again for
//! [`GRACE`], until the secret that it was answered with is shown.
//!
//! Nothing here has a clock or a socket.
//!
//! | module | what |
//! |---|---|
//! | `keys` | what proves that a ticket or a secret was given here |
//! | `entry` | one ticket: who may open its stream again |
//! | `past` | tickets of the process before this one |
//! | `table` | all tickets, and which of them give way |
//! | `tickets` | the texts, and the lock around the table |

mod entry;
mod keys;
mod past;
mod table;
mod tickets;

#[cfg(test)]
mod tests;

pub use entry::GRACE;
pub use table::{End, IssueError, LINGER, Limits};
pub use tickets::{Opening, Refusal, Shown, Tickets};
