//! One binary for all Rust tests that need more than one module.
mod protocol_websocket;
