//! Frame headers (RFC 6455 §5.2): those of clients are read strictly, those of the server are written.

use super::error::ProtocolError;
use crate::close::CloseCode;

/// What a frame is. [`decode_header`] refuses the reserved opcodes, so they have no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A fragment of a message, but not the first one.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The last frame in its direction.
    Close = 8,
    /// The other end answers it with a pong.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

impl Opcode {
    /// Whether it is a control frame. These may come between the fragments of a message (RFC 6455 §5.4).
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    const fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: Opcode,
    /// It is the last fragment of its message.
    pub fin: bool,
    /// The message is compressed (RFC 7692 §6). Never set on a control frame or a continuation.
    pub rsv1: bool,
    /// Bytes of payload that the peer declared, whether they have arrived or not. Below 2⁶³.
    pub length: u64,
    /// See [`unmask`](super::mask::unmask).
    pub mask: [u8; 4],
}

/// In bytes: two, eight of extended length, and four of mask.
pub const LONGEST_HEADER: usize = 14;

/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const LONGEST_CONTROL: usize = 125;

/// Longest reason in a close frame, in bytes: the code takes two of the payload.
pub const LONGEST_REASON: usize = LONGEST_CONTROL - 2;

/// Reads the header at the front of `bytes`. Returns it with its length; `Ok(None)` when more bytes are needed.
///
/// # Errors
///
/// At the first byte that breaks a rule, without waiting for the rest of the header.
pub fn decode_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (opcode, fin, rsv1) = decode_first(first)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(ProtocolError::Unmasked);
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > LONGEST_CONTROL {
        return Err(ProtocolError::LongControl);
    }
    let Some((length, used)) = decode_length(short, &bytes[2..])? else { return Ok(None) };
    let Some(&mask) = bytes[2 + used..].first_chunk::<4>() else { return Ok(None) };
    Ok(Some((Header { opcode, fin, rsv1, length, mask }, 2 + used + 4)))
}

/// Reads headers that may arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    /// The part of a header that arrived without its rest.
    bytes: [u8; LONGEST_HEADER],
    length: u8,
}

impl HeaderReader {
    /// Whether no part of a header waits for its rest.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The part of a header that has arrived.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes[..usize::from(self.length)].to_vec()
    }

    /// Reads a header from what arrived before and the front of `input`. Returns it, and how many bytes of `input` belong to
    /// it; `Ok(None)` when all of `input` was taken and more is needed.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<(Header, usize)>, ProtocolError> {
        let before = usize::from(self.length);
        if before == 0
            && let Some(found) = decode_header(input)?
        {
            return Ok(Some(found));
        }
        let end = before + input.len().min(LONGEST_HEADER - before);
        self.bytes[before..end].copy_from_slice(&input[..end - before]);
        let found = decode_header(&self.bytes[..end])?;
        self.length = if found.is_some() { 0 } else { end as u8 };
        Ok(found.map(|(header, used)| (header, used - before)))
    }
}

fn decode_first(first: u8) -> Result<(Opcode, bool, bool), ProtocolError> {
    let fin = first & 0x80 != 0;
    let rsv1 = first & 0x40 != 0;
    if first & 0x30 != 0 {
        return Err(ProtocolError::ReservedBits(first >> 4 & 7));
    }
    let opcode = Opcode::new(first & 0x0f).ok_or(ProtocolError::ReservedOpcode(first & 0x0f))?;
    if opcode.is_control() && !fin {
        return Err(ProtocolError::FragmentedControl);
    }
    if rsv1 && (opcode.is_control() || opcode == Opcode::Continuation) {
        return Err(ProtocolError::MisplacedCompression);
    }
    Ok((opcode, fin, rsv1))
}

/// Returns the length and how many bytes of `extended` hold it.
fn decode_length(short: u8, extended: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match short {
        126 => {
            let Some(&bytes) = extended.first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(bytes);
            if length < 126 { Err(ProtocolError::NonMinimalLength) } else { Ok(Some((length.into(), 2))) }
        }
        127 => {
            if extended.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(ProtocolError::LengthOverflow);
            }
            let Some(&bytes) = extended.first_chunk::<8>() else { return Ok(None) };
            let length = u64::from_be_bytes(bytes);
            if length <= 0xffff { Err(ProtocolError::NonMinimalLength) } else { Ok(Some((length, 8))) }
        }
        _ => Ok(Some((short.into(), 0))),
    }
}

/// Appends the header of a server's frame, which is not masked.
pub fn encode_header(opcode: Opcode, rsv1: bool, fin: bool, payload_length: usize, out: &mut Vec<u8>) {
    out.push(opcode as u8 | u8::from(fin) << 7 | u8::from(rsv1) << 6);
    match payload_length {
        0..=125 => out.push(payload_length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(payload_length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_length as u64).to_be_bytes());
        }
    }
}

/// Appends a whole frame of a client. Its mask changes nothing.
pub fn client_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    encode_header(opcode, false, true, payload.len(), out);
    out[start + 1] |= 0x80;
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a whole close frame. A reason of more than [`LONGEST_REASON`] bytes is cut, never inside a character.
pub(super) fn close_frame(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    let mut end = reason.len().min(LONGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    encode_header(Opcode::Close, false, true, 2 + reason.len(), out);
    out.extend_from_slice(&code.get().to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a whole control frame. A payload of more than [`LONGEST_CONTROL`] bytes is cut; that of a legal ping never is.
pub(super) fn control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(LONGEST_CONTROL)];
    encode_header(opcode, false, true, payload.len(), out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_shortest_form_of_its_length() {
        for (length, expected) in [(0, 2), (125, 2), (126, 4), (0xffff, 4), (0x10000, 10), (usize::MAX, 10)] {
            let mut out = Vec::new();
            encode_header(Opcode::Text, false, true, length, &mut out);
            assert_eq!(out.len(), expected);
        }
    }

    #[test]
    fn a_frame_of_a_client_has_a_mask_that_changes_nothing() {
        let mut out = Vec::new();
        client_frame(Opcode::Text, b"hi", &mut out);
        assert_eq!(out, b"\x81\x82\0\0\0\0hi");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        close_frame(CloseCode::POLICY, &"€".repeat(60), &mut out);
        assert_eq!(out[..4], [0x88, 2 + 123, 0x03, 0xf0]);
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), "€".repeat(41));
    }

    #[test]
    fn an_incomplete_header_asks_for_more() {
        let header = [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for length in 0..header.len() {
            assert_eq!(decode_header(&header[..length]), Ok(None));
        }
        let (decoded, used) = decode_header(&header).unwrap().unwrap();
        assert_eq!((decoded.length, decoded.mask, used), (65536, [1, 2, 3, 4], LONGEST_HEADER));
    }
}
