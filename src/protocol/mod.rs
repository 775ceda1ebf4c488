//! Sans-IO codecs: bytes go in; messages and bytes come out. There are no sockets, no clock and no Python here.
//!
//! In the order in which a connection needs them:
//!
//! | module | what it turns into what |
//! |---|---|
//! | [`http`] | the bytes of a request head into a [`http::Request`]; a refusal into a response |
//! | [`handshake`], [`origins`], [`hosts`] | a request and a policy into the `101` response or a refusal |
//! | [`call`] | the request of a program into what it wants; its body into publications |
//! | [`list`] | the messages that a client posts into frames, as a WebSocket would bring them |
//! | [`event_stream`] | the request for a stream into channels and positions; positions into the `id` of an event |
//! | [`websocket`] | masked frames into [`websocket::Incoming`]s: the receiving state of one connection |
//! | [`frame`], [`mask`], [`utf8`], [`assembler`], [`deflate`], `unfinished`, [`close_wait`], [`read_ahead`](ReadAhead) | the parts of it, one idea each |
//! | [`message`] | the JSON text of a client into a [`message::ClientMessage`]; a [`message::ServerMessage`] into JSON text |
//! | [`wire`] | a message to a peer into the bytes of that peer's format |
//!
//! Three rules hold in every file here:
//! - Nothing that a peer sends causes a panic. It causes an error, which says what is wrong and with which status or close code
//!   to answer.
//! - No memory is reserved for a declared length. Memory grows with what has arrived.
//! - Everything is read strictly. Nothing is repaired, and no draft of a standard is accepted.

pub mod assembler;
pub mod call;
pub mod close_wait;
pub mod deflate;
pub mod error;
pub mod event_stream;
pub mod forwarded;
pub mod frame;
pub mod handshake;
pub mod hosts;
pub mod http;
pub mod list;
pub mod mask;
pub mod message;
pub mod origins;
mod read_ahead;
mod unfinished;
pub mod utf8;
pub mod websocket;
pub mod wire;

pub use error::ProtocolError;
pub use read_ahead::ReadAhead;
