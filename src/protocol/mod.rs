//! Sans-IO codecs: bytes go in; bytes and events come out. No sockets, no clock, no Python.
//!
//! In the order in which a connection meets them:
//!
//! | module | what it turns into what |
//! |---|---|
//! | [`http`] | the bytes of a request head into a [`http::Request`]; a refusal into a response |
//! | [`handshake`] | a request and a policy into the `101` response, or a refusal |
//! | [`websocket`] | masked frames into [`websocket::Incoming`]s: the state machine of one connection |
//! | [`frame`], [`mask`], [`utf8`], [`assembler`], [`deflate`], `unfinished`, [`close_wait`] | the parts of that machine, one concept each |
//! | [`message`] | the JSON text of an event into a [`message::ClientMessage`]; answers into JSON text |
//! | [`wire`] | a message to a peer into the bytes of that peer's format |
//!
//! Three rules hold in every file here. Nothing a peer sends may panic: what is wrong becomes an error that says what
//! was wrong, with the status or close code to answer. No memory is reserved from a declared length; it grows by what
//! has arrived. Every rule is strict: nothing is repaired, no draft version is spoken.

pub mod assembler;
pub mod close_wait;
pub mod deflate;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod mask;
pub mod message;
mod unfinished;
pub mod utf8;
pub mod websocket;
pub mod wire;

pub use error::ProtocolError;
