//! The JSON messages inside text frames: strict reading of a client's, writing of a server's.
//!
//! `docs/protocol.schema.json` is the machine-readable form of both; a test compares them.

mod client;
mod server;
mod timestamp;
mod validate;

pub use client::{ClientMessage, EnvelopeError, Id, Kind, MAX_CHANNELS, ParseError, parse};
pub use server::{
    BATCH_PREFIX, ConnectionEstablished, ErrorMessage, Gap, SubscriptionEstablished, batch_suffix,
    connection_established, error, gap, heartbeat_ack, published, reconnect, subscription_ended,
    subscription_established,
};
pub use timestamp::Timestamp;
