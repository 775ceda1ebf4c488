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

pub use compressor::{Compressor, SEGMENTS_END, finish_segments, stored};
pub use inflater::{History, Inflater};
pub use offer::{MalformedOffer, negotiate};

/// What both sides agreed on (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The server starts every message with an empty window. Always set by [`negotiate`].
    pub server_no_context_takeover: bool,
    /// The client starts every message with an empty window.
    pub client_no_context_takeover: bool,
    /// The server's window is at most 2^this bytes: 9 to 15. A compressor with a smaller window is always allowed.
    pub server_max_window_bits: u8,
    /// The client's window is at most 2^this bytes: 9 to 15.
    pub client_max_window_bits: u8,
}

impl Default for Parameters {
    /// The answer of a [`DeflatePolicy`] that was left alone to a client that asked for nothing in particular.
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}

/// What the server is willing to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// Let clients refer back to their earlier messages, unless they offer not to.
    ///
    /// Default: no. Small messages that resemble each other get smaller, but every connection that sends a compressed
    /// message then holds up to 2^`client_max_window_bits` bytes.
    pub client_context_takeover: bool,
    /// The largest window the server announces when a client asks it to name one: 9 to 15, default 15.
    pub server_max_window_bits: u8,
    /// The largest window clients may use, where they let the server choose: 9 to 15, default 15. Smaller saves memory
    /// only with `client_context_takeover`.
    pub client_max_window_bits: u8,
}

impl Default for DeflatePolicy {
    fn default() -> Self {
        Self { client_context_takeover: false, server_max_window_bits: 15, client_max_window_bits: 15 }
    }
}

/// What a sync flush ends with: the length fields of an empty stored block. A sender strips it from the end of a
/// message, a receiver puts it back (RFC 7692 §7.2.1, §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
