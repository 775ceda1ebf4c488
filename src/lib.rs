//! Umbel's core.
pub mod channel;
pub mod close;
pub mod config;
pub mod moment;
pub mod position;
pub mod publication;
pub mod stats;

pub mod broker;
pub mod protocol;
