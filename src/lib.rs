//! Umbel's core.
pub mod channel;
pub mod close;
pub mod config;
pub mod moment;
pub mod position;
pub mod publication;
pub mod stats;

pub mod protocol;

pub mod connection;

pub mod broker;

pub mod hub;

#[cfg(feature = "net")]
pub mod transport;

#[cfg(feature = "net")]
pub mod server;

#[cfg(feature = "python")]
mod bindings;
