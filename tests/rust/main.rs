//! One binary for all Rust tests that need more than one module.
mod broker;
mod hub;
mod hub_bursts;
#[cfg(feature = "net")]
mod jwt;
#[cfg(feature = "net")]
mod jwt_attacks;
#[cfg(feature = "net")]
mod jwt_sets;
#[cfg(feature = "net")]
mod jwt_signing;
mod layering;
mod protocol_client;
mod protocol_deflate;
mod protocol_forwarded;
mod protocol_fuzz;
mod protocol_handshake;
mod protocol_http;
mod protocol_inflate;
mod protocol_message;
mod protocol_websocket;
mod protocol_websocket_properties;
#[cfg(feature = "net")]
mod server_endings;
#[cfg(feature = "net")]
mod server_lines;
#[cfg(feature = "net")]
mod server_names;
#[cfg(feature = "net")]
mod server_running;
mod session;
#[cfg(feature = "net")]
mod settings;
mod state;
