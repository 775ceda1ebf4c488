//! How a message to a peer looks on its way: the only place that puts a message into the peer's format.

use super::frame::{self, Opcode, encode_header};
use crate::close::CloseCode;

/// The format in which one peer is spoken to.
///
/// Every method appends to `out`, and every message is whole. Peers of the same wire can be sent the same bytes, so
/// frames are cached per wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Frames of RFC 6455.
    WebSocket {
        /// Window bits, 9 to 15, when permessage-deflate without context takeover was agreed (RFC 7692).
        window: Option<u8>,
    },
}

/// Whether a message is text or binary data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl Wire {
    /// Frames without compression.
    pub const PLAIN_WEBSOCKET: Self = Self::WebSocket { window: None };

    /// The same wire without compression.
    #[must_use]
    pub const fn plain(self) -> Self {
        match self {
            Self::WebSocket { .. } => Self::PLAIN_WEBSOCKET,
        }
    }

    /// Bits of the window that the peer looks back into. `None`: it understands no compression.
    pub const fn window(self) -> Option<u8> {
        match self {
            Self::WebSocket { window } => window,
        }
    }

    /// Appends a text message without compression. Answers and errors are sent so: if one was compressed together with the
    /// peer's own words, its length would tell what the two have in common.
    pub fn text(self, text: &[u8], out: &mut Vec<u8>) {
        self.message(MessageKind::Text, text, out);
    }

    /// Appends a message without compression.
    pub fn message(self, kind: MessageKind, data: &[u8], out: &mut Vec<u8>) {
        self.append(kind, false, data, out);
    }

    /// Appends a message that was compressed before. The wire must have a [`window`](Self::window), and the compressor must
    /// have used that one or a smaller one.
    pub fn compressed(self, kind: MessageKind, packed: &[u8], out: &mut Vec<u8>) {
        self.append(kind, true, packed, out);
    }

    fn append(self, kind: MessageKind, compressed: bool, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::WebSocket { .. } => {
                let opcode = match kind {
                    MessageKind::Text => Opcode::Text,
                    MessageKind::Binary => Opcode::Binary,
                };
                encode_header(opcode, compressed, true, payload.len(), out);
                out.extend_from_slice(payload);
            }
        }
    }

    /// Appends a message that the peer has to answer, so that it shows that it is alive.
    pub fn ping(self, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket { .. } => frame::control(Opcode::Ping, b"", out),
        }
    }

    /// Appends the answer to a ping with this payload.
    pub fn pong(self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::WebSocket { .. } => frame::control(Opcode::Pong, payload, out),
        }
    }

    /// Appends the last message to a peer. A reason of more than 123 bytes is cut, never inside a character.
    ///
    /// Without a code it answers a peer that closed without one (RFC 6455 §5.5.1). There is no reason then.
    pub fn close(self, code: Option<CloseCode>, reason: &str, out: &mut Vec<u8>) {
        match (self, code) {
            (Self::WebSocket { .. }, Some(code)) => frame::close_frame(code, reason, out),
            (Self::WebSocket { .. }, None) => frame::control(Opcode::Close, b"", out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFLATED: Wire = Wire::WebSocket { window: Some(12) };

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn messages_are_whole_frames_and_only_compressed_ones_are_marked() {
        assert_eq!(written(|out| DEFLATED.text(b"hi", out)), b"\x81\x02hi");
        assert_eq!(written(|out| DEFLATED.message(MessageKind::Binary, b"hi", out)), b"\x82\x02hi");
        assert_eq!(written(|out| DEFLATED.compressed(MessageKind::Text, b"hi", out)), b"\xc1\x02hi");
        assert_eq!(written(|out| DEFLATED.compressed(MessageKind::Binary, b"hi", out)), b"\xc2\x02hi");
    }

    #[test]
    fn control_messages_are_those_of_the_rfc() {
        let wire = Wire::PLAIN_WEBSOCKET;
        assert_eq!(written(|out| wire.ping(out)), b"\x89\x00");
        assert_eq!(written(|out| wire.pong(b"x", out)), b"\x8a\x01x");
        assert_eq!(written(|out| wire.close(Some(CloseCode::NORMAL), "bye", out)), b"\x88\x05\x03\xe8bye");
        assert_eq!(written(|out| wire.close(None, "", out)), b"\x88\x00");
    }

    #[test]
    fn the_plain_wire_has_no_window() {
        assert_eq!((DEFLATED.window(), DEFLATED.plain().window()), (Some(12), None));
    }
}
