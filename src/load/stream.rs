//! Event streams: the request for one, and its chunks as frames.

use crate::load::config::Config;
use crate::load::connection::AGENT;
use crate::load::frame::{Header, TEXT};

/// Asks for a stream of these channels.
pub fn request(config: &Config, channels: &[String]) -> Vec<u8> {
    let mut request = String::from("GET /api/v1/stream?");
    for channel in channels {
        request.extend(["channel=", channel, "&"]);
    }
    request
        .push_str(&format!("heartbeat=event HTTP/1.1\r\nHost: {}\r\nUser-Agent: {AGENT}\r\n", config.host));
    for header in &config.headers {
        request.extend([header, "\r\n"]);
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// Reads the head of the response: its length, or `None` when it has not arrived in full.
pub fn read_head(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if !head.starts_with("HTTP/1.1 200") || !head.contains("Transfer-Encoding: chunked") {
        return Err(format!("refused: {}", head.lines().next().unwrap_or_default()));
    }
    Ok(Some(end + 4))
}

/// Reads the header of a chunk; `None` when more bytes are needed. The line end after the chunk counts as its payload.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<Header> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().take(LONGEST_LENGTH + 1) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => {
                bytes.get(at + 1)?;
                return Some(Header {
                    fin: true,
                    compressed: false,
                    masked: false,
                    opcode: TEXT,
                    header_bytes: at + 2,
                    payload_bytes: length + 2,
                });
            }
        };
        length = length << 4 | usize::from(digit);
    }
    None
}

/// The message of an event. Nothing for the other lines of a stream.
#[inline]
pub fn message(event: &[u8]) -> &[u8] {
    let mut rest = event;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        if let Some(data) = rest[..end].strip_prefix(b"data: ") {
            return data;
        }
        rest = &rest[end + 1..];
    }
    b""
}

/// Digits of a chunk's length: 256 MiB.
const LONGEST_LENGTH: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_when_their_header_is_whole_and_events_have_one_message() {
        let chunk = b"1a\r\nevent: a\nid: b\ndata: {}x\n\n\r\n";
        for short in 0..4 {
            assert!(parse(&chunk[..short]).is_none());
        }
        let header = parse(chunk).unwrap();
        assert_eq!((header.header_bytes, header.payload_bytes), (4, 26 + 2));
        assert_eq!(message(&chunk[4..]), b"{}x");
        assert_eq!(message(b":\n\n"), b"");
        assert_eq!(parse(b"0\r\n\r\n").map(|last| last.payload_bytes), Some(2));
    }
}
