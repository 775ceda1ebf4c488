//! How a message to a peer looks on its way: the only place that puts a message into the peer's format.

use super::frame::{self, Opcode, encode_header};
use super::message::ServerMessage;
use crate::close::CloseCode;
use crate::json::{push_line, push_number};

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
    /// Server-Sent Events: each message is one event, in the body of an HTTP response that has no length.
    Events {
        /// Each event is a chunk (RFC 9112 §7.1). Otherwise the end of the connection is the end of the body.
        chunked: bool,
        /// Each update is an event, instead of each batch.
        single: bool,
        /// The stream has one channel, and its reader no other. All such readers get the same events.
        alone: bool,
    },
    /// The same for a session: its client has its positions itself, so there are no ids, and all readers get the same events.
    SessionEvents {
        /// As in [`Wire::Events`].
        chunked: bool,
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
            Self::Events { .. } | Self::SessionEvents { .. } => self,
        }
    }

    /// Whether it is a response over HTTP. The peer says nothing on the same connection.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Self::WebSocket { .. })
    }

    /// Whether its messages have an `id`, by which the client comes back.
    pub const fn has_ids(self) -> bool {
        matches!(self, Self::Events { .. })
    }

    /// Whether readers of this wire that are at the same place of a channel get the same bytes.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Events { alone: false, .. })
    }

    /// Bits of the window that the peer looks back into. `None`: it understands no compression.
    pub const fn window(self) -> Option<u8> {
        match self {
            Self::WebSocket { window } => window,
            Self::Events { .. } | Self::SessionEvents { .. } => None,
        }
    }

    /// Appends a text message without compression. Answers and errors are sent so: if one was compressed together with the
    /// peer's own words, its length would tell what the two have in common.
    pub fn text(self, text: &[u8], out: &mut Vec<u8>) {
        self.message(MessageKind::Text, text, out);
    }

    /// Whether each update is a message, with a name of its own if it has one.
    pub const fn is_single(self) -> bool {
        matches!(self, Self::Events { single: true, .. })
    }

    /// Appends an update as an event, where [`Wire::is_single`] says so.
    pub fn update(self, name: Option<&[u8]>, update: &[u8], id: &[u8], out: &mut Vec<u8>) {
        if let Self::Events { chunked, .. } = self {
            event(name, id, update, chunked, out);
        }
    }

    /// As [`Wire::text`]. After this message the client shows this `id` to come back, where the wire has ids.
    pub fn text_with_id(self, text: &[u8], id: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::WebSocket { .. } => self.text(text, out),
            Self::Events { chunked, .. } => event(name_of(text), id, text, chunked, out),
            Self::SessionEvents { chunked } => event(name_of(text), b"", text, chunked, out),
        }
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
            Self::Events { .. } | Self::SessionEvents { .. } => self.text_with_id(payload, b"", out),
        }
    }

    /// Appends what shows that the connection is alive: a message that the peer has to answer, or a comment, which it ignores.
    pub fn ping(self, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket { .. } => frame::control(Opcode::Ping, b"", out),
            Self::Events { chunked, .. } | Self::SessionEvents { chunked } => {
                chunk(chunked, 3, out, |out| out.extend_from_slice(b":\n\n"))
            }
        }
    }

    /// Appends the time after which the peer connects again by itself, where it can be told.
    pub fn retry(self, millis: u64, out: &mut Vec<u8>) {
        if let Self::Events { chunked, .. } = self {
            let mut line = b"retry: ".to_vec();
            push_number(millis, &mut line);
            chunk(chunked, line.len() + 2, out, |out| out.extend([&*line, b"\n\n"].concat()));
        }
    }

    /// Appends the answer to a ping with this payload.
    pub fn pong(self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::WebSocket { .. } => frame::control(Opcode::Pong, payload, out),
            Self::Events { .. } | Self::SessionEvents { .. } => {}
        }
    }

    /// Appends the last message to a peer. In a frame, a reason of more than 123 bytes is cut, never inside a character.
    ///
    /// Without a code it answers a peer that closed without one (RFC 6455 §5.5.1). There is no reason then.
    pub fn close(self, code: Option<CloseCode>, reason: &str, id: &[u8], out: &mut Vec<u8>) {
        match (self, code) {
            (Self::WebSocket { .. }, Some(code)) => frame::close_frame(code, reason, out),
            (Self::WebSocket { .. }, None) => frame::control(Opcode::Close, b"", out),
            (Self::Events { chunked, .. } | Self::SessionEvents { chunked }, code) => {
                if let Some(code) = code {
                    let mut text = Vec::new();
                    let reconnect = code.comes_back();
                    ServerMessage::Closed { code: code.get(), reason, reconnect }.write(&mut text);
                    self.text_with_id(&text, id, out);
                }
                if chunked {
                    out.extend_from_slice(LAST_CHUNK);
                }
            }
        }
    }

    /// Appends the end of a part of a session's stream.
    pub fn end_part(self, out: &mut Vec<u8>) {
        self.text(br#"{"type":"part_ended"}"#, out);
        if let Self::SessionEvents { chunked: true } = self {
            out.extend_from_slice(LAST_CHUNK);
        }
    }
}

/// Appends one event. The text is on one line afterwards. Names and ids are our own, and have no line ends.
fn event(name: Option<&[u8]>, id: &[u8], text: &[u8], chunked: bool, out: &mut Vec<u8>) {
    let field = |name: &[u8], value: &[u8]| name.len() + value.len() + 1;
    let name_bytes = name.map_or(0, |name| field(EVENT, name));
    let id_bytes = if id.is_empty() { 0 } else { field(ID, id) };
    let bytes = name_bytes + id_bytes + field(DATA, text) + 1;
    out.reserve(bytes + 16);
    chunk(chunked, bytes, out, |out| {
        if let Some(name) = name {
            out.extend_from_slice(EVENT);
            out.extend_from_slice(name);
            out.push(b'\n');
        }
        if !id.is_empty() {
            out.extend_from_slice(ID);
            out.extend_from_slice(id);
            out.push(b'\n');
        }
        out.extend_from_slice(DATA);
        push_line(text, out);
        out.extend_from_slice(b"\n\n");
    });
}

/// The name of the event for a message. Batches have none, so that a page gets them as its ordinary messages. An error has
/// another name than its type, because a page hears `error` when its connection breaks.
fn name_of(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"{\"type\":\"")?;
    let name = &rest[..memchr::memchr(b'"', rest)?];
    match name {
        b"batched_updates" => None,
        b"error" => Some(b"server_error"),
        name => Some(name),
    }
}

/// Appends so many bytes as one chunk, or as they are.
fn chunk(chunked: bool, bytes: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if !chunked {
        return write(out);
    }
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[bytes >> (4 * place) & 15]));
    out.extend_from_slice(b"\r\n");
    let start = out.len();
    write(out);
    debug_assert_eq!(out.len() - start, bytes);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112 §7.1: the body ends.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

const EVENT: &[u8] = b"event: ";
const ID: &[u8] = b"id: ";
const DATA: &[u8] = b"data: ";

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
        assert_eq!(
            written(|out| wire.close(Some(CloseCode::NORMAL), "bye", b"", out)),
            b"\x88\x05\x03\xe8bye"
        );
        assert_eq!(written(|out| wire.close(None, "", b"", out)), b"\x88\x00");
    }

    #[test]
    fn the_plain_wire_has_no_window() {
        assert_eq!((DEFLATED.window(), DEFLATED.plain().window()), (Some(12), None));
    }

    const CHUNKED: Wire = Wire::Events { chunked: true, single: false, alone: true };
    const BARE: Wire = Wire::Events { chunked: false, single: true, alone: true };

    #[test]
    fn messages_are_events_with_the_name_of_their_type_and_batches_have_none() {
        let text =
            |text: &[u8]| String::from_utf8(written(|out| BARE.text_with_id(text, b"x", out))).unwrap();
        assert_eq!(text(b"{\"type\":\"gap\"}"), "event: gap\nid: x\ndata: {\"type\":\"gap\"}\n\n");
        assert_eq!(
            text(b"{\"type\":\"batched_updates\"}"),
            "id: x\ndata: {\"type\":\"batched_updates\"}\n\n"
        );
        assert!(text(b"{\"type\":\"error\"}").starts_with("event: server_error\n"));
        assert_eq!(written(|out| BARE.text(b"1", out)), b"data: 1\n\n");
        assert_eq!(written(|out| BARE.text(b"[1,\r\n2]", out)), b"data: [1,  2]\n\n");
        let named = written(|out| BARE.update(Some(b"task_update"), b"{}", b"x", out));
        assert_eq!(named, b"event: task_update\nid: x\ndata: {}\n\n");
        assert_eq!(written(|out| DEFLATED.text_with_id(b"hi", b"x", out)), b"\x81\x02hi");
    }

    #[test]
    fn chunks_have_their_length_and_the_last_one_ends_the_body() {
        assert_eq!(written(|out| CHUNKED.ping(out)), b"3\r\n:\n\n\r\n");
        assert_eq!(written(|out| CHUNKED.retry(1500, out)), b"d\r\nretry: 1500\n\n\r\n");
        assert_eq!(written(|out| BARE.retry(1500, out)), b"retry: 1500\n\n");
        for length in [1, 7, 8, 9, 247, 248, 249, 4095, 70_000] {
            let text = vec![b'7'; length];
            let chunk = written(|out| CHUNKED.text(&text, out));
            let (head, rest) = chunk.split_at(chunk.windows(2).position(|it| it == b"\r\n").unwrap());
            let declared = usize::from_str_radix(str::from_utf8(head).unwrap(), 16).unwrap();
            assert_eq!(rest.len(), declared + 4, "{length}");
        }
        let closed = written(|out| CHUNKED.close(Some(CloseCode::RESTART), "later", b"x", out));
        assert!(closed.ends_with(b"\n\n\r\n0\r\n\r\n"));
        let text = String::from_utf8(closed).unwrap();
        assert!(text.contains("event: closed\nid: x\ndata: {"), "{text}");
        assert!(text.contains(r#""code":1012,"reason":"later","reconnect":true}"#), "{text}");
        assert_eq!(written(|out| BARE.close(None, "", b"", out)), b"");
    }
}
