//! WebSocket frames for a client: parse unmasked frames, write masked ones.

/// The header of one frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    pub compressed: bool,
    /// Only clients may mask.
    pub masked: bool,
    pub opcode: u8,
    pub header_bytes: usize,
    pub payload_bytes: usize,
}

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Reads a frame header; `None` when more bytes are needed.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<Header> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (header_bytes, payload_bytes) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(rest.get(..8)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    Some(Header {
        fin: first & 0x80 != 0,
        compressed: first & 0x40 != 0,
        masked: second & 0x80 != 0,
        opcode: first & 0x0f,
        header_bytes,
        payload_bytes,
    })
}

/// What a close frame says, or that it says nothing (RFC 6455 section 7.4.1).
pub fn close_code(payload: &[u8]) -> u16 {
    payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))
}

/// Appends one masked client frame. The mask is zero: legal, and it costs the client nothing.
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

fn write_header(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    match payload_bytes {
        0..=125 => out.push(mask_bit | payload_bytes as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_server_header(out: &mut Vec<u8>, payload_bytes: usize) {
        write_header(out, TEXT, payload_bytes, 0);
    }

    #[test]
    fn headers_of_all_three_lengths_are_read_back() {
        for payload_bytes in [0, 125, 126, 65_535, 65_536] {
            let mut bytes = Vec::new();
            write_server_header(&mut bytes, payload_bytes);
            let header = parse(&bytes).unwrap();
            assert_eq!((header.payload_bytes, header.header_bytes), (payload_bytes, bytes.len()));
            assert!((0..bytes.len()).all(|short| parse(&bytes[..short]).is_none()));
        }
    }
}
