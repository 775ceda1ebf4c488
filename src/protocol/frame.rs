//! Frame headers (RFC 6455 §5.2): strict reading of a client's, writing of a server's.

use super::error::ProtocolError;
use crate::close::CloseCode;

/// What a frame is. The reserved opcodes have no value here: they never get past [`decode_header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// Control frames may stand between the fragments of a message (RFC 6455 §5.4).
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
    pub opcode: Opcode,
    /// The last fragment of its message.
    pub fin: bool,
    /// The message is compressed (RFC 7692 §6). Never set on a control frame or a continuation.
    pub rsv1: bool,
    /// Bytes of payload: what the peer declared, not what has arrived. Below 2⁶³.
    pub length: u64,
    pub mask: [u8; 4],
}

/// In bytes: two, eight of extended length, four of mask.
pub const LONGEST_HEADER: usize = 14;

/// In bytes (RFC 6455 §5.5).
pub const LONGEST_CONTROL: usize = 125;

/// In bytes: what a close frame leaves for the reason after its code.
pub const LONGEST_REASON: usize = LONGEST_CONTROL - 2;

/// Reads the header at the front of `bytes`, and says how many bytes it took. `Ok(None)` means that more are needed.
///
/// # Errors
///
/// Each as soon as the byte that breaks the rule is there, without waiting for the rest of the header.
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

/// Appends a whole close frame. A reason over [`LONGEST_REASON`] bytes is cut, never inside a character.
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

/// Appends a close frame without a code: the answer to one that had none (RFC 6455 §5.5.1).
pub(super) fn empty_close_frame(out: &mut Vec<u8>) {
    encode_header(Opcode::Close, false, true, 0, out);
}

/// Appends a whole ping. What is over [`LONGEST_CONTROL`] bytes is cut.
pub(super) fn ping(payload: &[u8], out: &mut Vec<u8>) {
    control(Opcode::Ping, payload, out);
}

/// Appends a whole pong. The payload of a ping always fits; what is over [`LONGEST_CONTROL`] bytes is cut.
pub(super) fn pong(payload: &[u8], out: &mut Vec<u8>) {
    control(Opcode::Pong, payload, out);
}

fn control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
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
