//! What a connection and the server say to each other, for people.

use crate::load::connection::Role;
use crate::load::frame;
use crate::printable::shown;

/// The opcodes and payloads of frames of a client.
pub fn parts(mut frames: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let header = frame::parse(frames)?;
        let start = header.header_bytes + MASK_BYTES;
        let payload = frames.get(start..start + header.payload_bytes)?;
        frames = &frames[start + header.payload_bytes..];
        Some((header.opcode, payload))
    })
}

/// A frame as people read it.
pub fn line(role: Role, arrow: &str, opcode: u8, payload: &[u8], tokens: &[String]) -> String {
    let who = if role == Role::Publisher { "publisher" } else { "reader" };
    let text = match opcode {
        frame::PING => "ping".into(),
        frame::PONG => "pong".into(),
        frame::CLOSE => format!("close {}", frame::close_code(payload)),
        _ => without_secrets(&String::from_utf8_lossy(payload), tokens),
    };
    format!("{who:<9} {arrow} {}", shown(&text, SHOWN))
}

/// A text without tokens: those of the connections, and what JSON calls so. The token of a session is `session` in a `resume`.
fn without_secrets(text: &str, tokens: &[String]) -> String {
    let mut shown = text.to_owned();
    for token in tokens {
        shown = shown.replace(token, HIDDEN);
    }
    for name in [r#""token":"#, r#""session":"#] {
        let mut at = 0;
        while let Some(found) = shown[at..].find(name) {
            at += found + name.len();
            at += shown[at..].len() - shown[at..].trim_start().len();
            if let Some(value) = shown[at..].strip_prefix('"') {
                let end = at + 1 + value.find('"').unwrap_or(value.len());
                shown.replace_range(at + 1..end, HIDDEN);
            }
        }
    }
    shown
}

/// Frames of clients are masked.
const MASK_BYTES: usize = 4;

/// Characters of a message that are shown.
pub const SHOWN: usize = 200;

const HIDDEN: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_never_shown() {
        let text = r#"{"type":"x","session":{"token": "secret","ttl":1},"n":"token"} {"session":"secret"} Bearer other"#;
        let shown = without_secrets(text, &["other".into()]);
        let expected =
            r#"{"type":"x","session":{"token": "…","ttl":1},"n":"token"} {"session":"…"} Bearer …"#;
        assert_eq!(shown, expected);
        assert_eq!(without_secrets(r#"{"token":"cut"#, &[]), r#"{"token":"…"#);
    }
}
