//! permessage-deflate (RFC 7692), for a server that compresses once and sends to many.
//!
//! **What is negotiated.** `server_no_context_takeover` is always answered: a compressed frame is shared by many
//! connections, so it can never lean on what one of them was sent before. `client_no_context_takeover` is answered unless
//! [`DeflatePolicy::client_context_takeover`] says otherwise: then a connection keeps the last
//! 2^`client_max_window_bits` bytes that its client sent, and nothing before its first compressed message.
//!
//! **Segments.** Without takeover, the payload of a message may be any concatenation of byte-aligned DEFLATE blocks.
//! [`Compressor::segment`] makes such blocks from a text that many messages share; [`stored`] wraps bytes that are not
//! worth compressing; [`SEGMENTS_END`] makes any concatenation of them a legal payload. A segment refers to nothing
//! before itself, so it may stand anywhere, as often as wanted, in any order.
//!
//! **Inflation.** A message that lies whole in a read goes through the one [`Inflater`] of the shard. A message that goes
//! on takes that one's engine along and is inflated as it arrives, in steps that end at the limit; the text so far is all
//! that is held of it, beside the engine. How a message was cut never decides what is wrong with it.

mod compressor;
mod inflater;
mod offer;
mod parameters;
mod segments;

pub use compressor::Compressor;
pub(crate) use inflater::History;
pub use inflater::Inflater;
pub use offer::{MalformedOffer, negotiate};
pub use parameters::{DeflatePolicy, Parameters};
pub use segments::{finish_segments, stored};
