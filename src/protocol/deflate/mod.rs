//! permessage-deflate (RFC 7692), for a server that compresses a text once and sends it to many connections.
//!
//! **What is negotiated.** The server always answers `server_no_context_takeover`: many connections share a compressed frame, so
//! it can't refer to what one of them was sent before. It also answers `client_no_context_takeover`, unless
//! [`DeflatePolicy::client_context_takeover`] allows takeover. Then a connection keeps the last 2^`client_max_window_bits` bytes
//! that its client sent, from the first compressed message on.
//!
//! **Segments.** Without takeover, the payload of a message may be any concatenation of byte-aligned DEFLATE blocks.
//! [`Compressor::segment`] makes such blocks of a text that many messages share. [`stored`] wraps bytes that are not worth
//! compressing. [`finish_segments`] makes any concatenation of the two a legal payload. A segment does not refer to anything
//! before it, so it may be at any place, in any order, as often as wanted.
//!
//! **Inflation.** The one [`Inflater`] of the shard inflates messages that arrive whole. A message that arrives in pieces gets an
//! inflater of its own, which takes the engine of the shard's. It is inflated as it arrives, in steps that end at the limit;
//! only its text so far and the engine are held. What is wrong with a message never depends on how it is cut.

mod compressor;
pub(super) mod history;
mod inflater;
mod offer;
mod parameters;
mod segments;

pub use compressor::Compressor;
pub use inflater::Inflater;
pub use offer::{MalformedOffer, negotiate};
pub use parameters::{DeflatePolicy, Parameters};
pub use segments::{finish_segments, stored};
