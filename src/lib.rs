//! Umbel's core.
pub mod close;
pub mod protocol;
