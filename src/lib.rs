//! Umbel's core: channels that are logs, subscribers that are cursors, and the sockets between them.
//!
//! # The one idea
//! Everything that is delivered is a publication in a channel, and a channel is an append-only log. A subscriber has no
//! queue. It has a cursor: the offset up to which it has been served. A flush reads the log from the cursor to the top, and
//! writes one frame. Batching, slow readers, conflation and recovery are all this same read.
//!
//! # Layers
//! ```text
//! vocabulary ─┬─► protocol ─┬► load ───────────────────────────────────────► bindings
//!             │             ├► session ────────┐
//!             │             └► jwt ─► ticket ──┤
//!             └─► broker ─┬─► hub ─────────────┼─► transport ──► server ──► bindings ──► python/umbel
//!                         └─► presence ────────┘
//! ```
//! `A ─► B`: B may import A, and everything to the left of A on its way; the hub and presence may also import the protocol. No layer imports
//! to its right, and no file imports in a circle. `tests/rust/layering.rs` reads every import and compares it with this picture.
//!
//! | layer | modules | owns |
//! |---|---|---|
//! | vocabulary | [`channel`] [`close`] [`config`] [`error_code`] [`hidden`] [`identity`] [`json`] [`moment`] [`network`] [`own_path`] [`pattern`] [`position`] [`publication`] [`rights`] [`rules`] [`stats`] [`token_error`] | words with one meaning each |
//! | protocol | [`protocol`] | sans-IO codecs: bytes in; messages and bytes out |
//! | load | `load` | the other side: connections that publish, listen, ask and check |
//! | session | [`session`] | one client's conversation, whatever carries it; sans-IO |
//! | jwt | `jwt` | tokens: whether one counts, and whom it names; sans-IO |
//! | ticket | `ticket` | credentials for one event stream each, in its URL; sans-IO |
//! | broker | [`broker`] | where publications are ordered and kept, and what that guarantees |
//! | hub | [`hub`] | which reader wants which channel, what is due, frames made once |
//! | presence | [`presence`] | who is in which channel, and what others are told of it; time is an argument |
//! | transport | `transport` | moves bytes: listeners, shards, connections, TLS; the only clock |
//! | server | `server` `subjects` | puts the layers together, starts the threads, stops them |
//! | bindings | `bindings` | the only place that knows Python |
//!
//! Without features the crate ends with the hub and presence, and needs no sockets, no clock and no Python. The feature `net` adds transport and
//! server, `load` the load generator, `python` adds the bindings.
//!
//! # Threads
//! A shard is a thread with its own event loop, its connections and its part of the subscriptions. Nothing of it is shared, so
//! nothing of it is locked. All threads share the logs. `publish` appends to a log on the thread that calls it, and notifies each
//! shard that watches the log, at most once for each tick. Python is woken once for each batch of events from clients. It takes no
//! part in a delivery.
//!
//! `docs/architecture.md` follows a publication through the files, and says why.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod change;
pub mod channel;
pub mod close;
pub mod config;
pub mod error_code;
pub mod hidden;
pub mod identity;
pub mod json;
pub mod merge_patch;
pub mod moment;
pub mod network;
pub mod own_path;
pub mod pattern;
pub mod position;
pub mod printable;
pub mod publication;
pub mod refusal;
pub mod rights;
pub mod rules;
pub mod stats;
pub mod token_error;

pub mod protocol;

pub mod session;

pub mod broker;

pub mod hub;

pub mod presence;

#[cfg(feature = "load")]
pub mod load;

#[cfg(feature = "net")]
pub mod jwt;

#[cfg(feature = "net")]
pub mod ticket;

#[cfg(feature = "net")]
pub mod transport;

#[cfg(feature = "net")]
pub mod server;

#[cfg(feature = "net")]
mod subjects;

#[cfg(feature = "python")]
mod bindings;
