//! Umbel's core: channels that are logs, subscribers that are cursors, and the sockets between them.
//!
//! # The one idea
//! Everything that is delivered is a publication in a channel, and a channel is an append-only log. A subscriber has no
//! queue: it has a cursor, the offset up to which it has been served. A flush reads the log from the cursor to the
//! head and writes one frame. Batching, slow readers, conflation and recovery are all that same read.
//!
//! # Layers
//! ```text
//! vocabulary ─┬─► protocol ──► connection ─┐
//!             │                            ├─► hub ──► transport ──► server ──► bindings ──► python/umbel
//!             └─► broker ──────────────────┘
//! ```
//! `A ─► B`: B may import A, and all that lies to the left of A on its way; never the other way round, never
//! sideways. `tests/rust/layering.rs` reads every import and compares it with this picture.
//!
//! | layer | modules | owns |
//! |---|---|---|
//! | vocabulary | [`channel`] [`close`] [`config`] [`error_code`] [`json`] [`moment`] [`pattern`] [`position`] [`publication`] [`rules`] [`stats`] | words with one meaning each |
//! | protocol | [`protocol`] | sans-IO codecs: bytes in; bytes and events out |
//! | connection | [`connection`] | one client's deadlines and limits, whatever the transport |
//! | broker | [`broker`] | where publications are ordered and kept, and what that guarantees |
//! | hub | [`hub`] | who wants what, what is due, frames made once |
//! | transport | `transport` | moves bytes: listeners, shards, connections, TLS; the only clock |
//! | server | `server` | puts the layers together, starts the threads, stops them |
//! | bindings | `bindings` | the only place that knows Python |
//!
//! Without features the crate ends with the hub and needs neither sockets nor a clock nor Python; `net` adds transport
//! and server, `python` the bindings.
//!
//! # Threads
//! A shard is a thread with its own event loop, its connections and its part of the subscriptions; nothing of it is
//! shared, so nothing of it is locked. What all threads share are the logs. `publish` appends to a log from whatever
//! thread calls it, and rings each shard that watches it, once per tick at most. Python is woken once per batch of
//! inbound events and never takes part in a delivery.
//!
//! `docs/architecture.md` follows a publication through the files, and says why.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod channel;
pub mod close;
pub mod config;
pub mod error_code;
pub mod json;
pub mod moment;
pub mod pattern;
pub mod position;
pub mod publication;
pub mod rules;
pub mod stats;

pub mod protocol;

pub mod session;

pub mod broker;

pub mod hub;

#[cfg(feature = "net")]
pub mod transport;

#[cfg(feature = "net")]
pub mod server;

#[cfg(feature = "python")]
mod bindings;
