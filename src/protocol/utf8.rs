//! UTF-8 validation of text that arrives in pieces.
//!
//! RFC 6455 §8.1 asks for valid UTF-8 over the whole message, however it is cut into frames and reads. Invalid text is refused
//! at the first byte that can't be right, not at the end, so that the memory of a bad peer is free early (Autobahn cases
//! 6.4.*).

/// The text so far can't be the beginning of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid UTF-8")]
pub struct InvalidUtf8;

/// Validates one text, piece by piece. Holds at most the three bytes of an incomplete code point.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validator {
    carried: [u8; 3],
    count: u8,
}

impl Validator {
    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// When a byte of this piece is impossible at its place, also in the middle of a code point.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        while self.count > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.complete(byte)?;
        }
        let (body, tail) = piece.split_at(piece.len() - incomplete_tail(piece));
        simdutf8::basic::from_utf8(body).map_err(|_| InvalidUtf8)?;
        if !tail.is_empty() {
            check_prefix(tail)?;
            self.carried[..tail.len()].copy_from_slice(tail);
            self.count = tail.len() as u8;
        }
        Ok(())
    }

    /// Checks that the text may end here.
    ///
    /// # Errors
    ///
    /// When the last code point is incomplete.
    pub fn finish(self) -> Result<(), InvalidUtf8> {
        if self.count == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Adds one byte to the incomplete code point.
    fn complete(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let mut point = [0; 4];
        let count = usize::from(self.count);
        point[..count].copy_from_slice(&self.carried[..count]);
        point[count] = byte;
        if check_prefix(&point[..=count])? {
            self.count = 0;
        } else {
            self.carried[count] = byte;
            self.count += 1;
        }
        Ok(())
    }
}

/// Returns whether `bytes` are a complete code point, or only its beginning. Fails when they are neither.
fn check_prefix(bytes: &[u8]) -> Result<bool, InvalidUtf8> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(true),
        Err(error) if error.error_len().is_none() => Ok(false),
        Err(_) => Err(InvalidUtf8),
    }
}

/// The number of bytes at the end of `piece` that begin a code point and do not complete it: 0 to 3.
///
/// Looks at lead bytes only. The other bytes are checked where they are used.
fn incomplete_tail(piece: &[u8]) -> usize {
    for back in 1..=piece.len().min(3) {
        let needed = match piece[piece.len() - back] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            0x00..=0x7f => 1,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(pieces: &[&[u8]]) -> bool {
        let mut validator = Validator::default();
        pieces.iter().all(|piece| validator.push(piece).is_ok()) && validator.finish().is_ok()
    }

    #[test]
    fn a_code_point_may_be_cut_anywhere() {
        let text = "aé€😀".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                assert!(accepts(&[&text[..first], &text[first..second], &text[second..]]));
            }
        }
    }

    #[test]
    fn fails_at_the_byte_that_cannot_be_right() {
        // Autobahn 6.4.1: U+110000 is wrong at its second byte.
        let mut validator = Validator::default();
        assert_eq!(validator.push(b"\xce\xba\xf4"), Ok(()));
        assert_eq!(validator.push(b"\x90"), Err(InvalidUtf8));
    }

    #[test]
    fn text_may_not_end_inside_a_code_point() {
        assert!(!accepts(&[b"\xe2\x82"]));
        assert!(!accepts(&[b"\xf0\x9f", b"\x98"]));
    }
}
