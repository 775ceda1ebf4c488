//! The JSON messages of the Umbel protocol: those of clients are read strictly, those of the server are written.
//!
//! `docs/protocol.schema.json` describes both for programs; a test compares it with this code.

mod client;
mod server;
mod timestamp;
mod validate;

pub use client::{ClientMessage, EnvelopeError, Id, Kind, MAX_CHANNELS, ParseError, parse};
pub use server::{BATCH_PREFIX, ServerMessage, batch_suffix};
pub use timestamp::Timestamp;
