//! Reads what the server sends, in the simplest way that can be right.

use std::io::Read;

use flate2::read::DeflateDecoder;
use serde_json::Value;

/// The JSON messages in a run of complete text frames, compressed or not.
pub fn messages(mut bytes: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        assert!(matches!(bytes[0], 0x81 | 0xc1), "a final text frame, and not {:#x}", bytes[0]);
        let (length, header) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = &bytes[header..header + length];
        let text = if bytes[0] & 0x40 == 0 { payload.to_vec() } else { inflated(payload) };
        messages.push(serde_json::from_slice(&text).expect("the server sends JSON"));
        bytes = &bytes[header + length..];
    }
    messages
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    // RFC 7692 §7.2.2, and a final empty block so that the decoder knows the end.
    let whole = [payload, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::new();
    DeflateDecoder::new(&whole[..]).read_to_end(&mut text).expect("the server compresses rightly");
    text
}
