//! Finds the end of a request head that arrives in pieces, and refuses what is wrong as early as possible.

use super::request::{HeadLimits, Request};
use super::response::HttpError;
use super::syntax::is_token_byte;

/// Finds the end of a head that arrives in pieces.
///
/// It keeps its place, so that each byte is looked at once however many reads it takes: a head that was parsed again from the
/// start for every read cost minutes of work (CVE-2023-43669). The caller keeps the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadReader {
    scanned: usize,
    line_start: usize,
    /// Complete lines; the first is the request line.
    lines: usize,
}

impl HeadReader {
    /// Goes on where it stopped. `buffered` is everything that has arrived, from the first byte on.
    ///
    /// Returns the request and the size of its head, or `Ok(None)` when more bytes are needed. What comes after the head in
    /// `buffered` is a body or the first frames. After a request, start with a new reader.
    ///
    /// # Errors
    ///
    /// At the first byte that makes the head wrong or too long. Answer with the error, then close.
    pub fn read(
        &mut self,
        buffered: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(Request, usize)>, HttpError> {
        while let Some(&byte) = buffered.get(self.scanned) {
            if self.scanned >= limits.head_bytes {
                return Err(HttpError::HEAD_TOO_LONG);
            }
            let after_return = self.scanned > self.line_start && buffered[self.scanned - 1] == b'\r';
            match byte {
                b'\n' if !after_return => return Err(HttpError::BARE_LF),
                b'\n' => {
                    if self.end_line(limits)? {
                        let head = &buffered[..self.scanned];
                        return Request::parse(head, limits).map(|request| Some((request, head.len())));
                    }
                    continue;
                }
                _ if after_return => return Err(HttpError::BARE_CR),
                _ if self.lines == 0 => self.check_request_line(byte, buffered, limits)?,
                b' ' | b'\t' if self.scanned == self.line_start => return Err(HttpError::FOLDED_LINE),
                0..=8 | 11 | 12 | 14..=31 | 127 => return Err(HttpError::CONTROL_CHARACTER),
                _ => {}
            }
            self.scanned += 1;
        }
        Ok(None)
    }

    /// Takes an LF that follows a CR. Returns whether the head is complete.
    fn end_line(&mut self, limits: &HeadLimits) -> Result<bool, HttpError> {
        let empty = self.scanned - self.line_start == 1;
        if empty && self.lines == 0 {
            return Err(HttpError::BAD_REQUEST_LINE);
        }
        self.scanned += 1;
        self.line_start = self.scanned;
        if empty {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines - 1 > limits.headers { Err(HttpError::TOO_MANY_HEADERS) } else { Ok(false) }
    }

    /// Refuses what is not HTTP, and a target that is too long, without waiting for the end of the line.
    fn check_request_line(&self, byte: u8, buffered: &[u8], limits: &HeadLimits) -> Result<(), HttpError> {
        if byte < b' ' && byte != b'\r' || byte > b'~' || self.scanned == 0 && byte == b' ' {
            return Err(HttpError::BAD_REQUEST_LINE);
        }
        let start = &buffered[..=self.scanned];
        let in_method = start.len() <= LONGEST_METHOD && !start.contains(&b' ');
        if in_method && (!is_token_byte(byte) || start.len() == LONGEST_METHOD) {
            return Err(HttpError::BAD_REQUEST_LINE);
        }
        if start.len() > limits.target_bytes.saturating_add(LONGEST_METHOD + HTTP_VERSION) {
            return Err(HttpError::TARGET_TOO_LONG);
        }
        Ok(())
    }
}

/// In bytes, the space after it included. There is room for OPTIONS, and to tell an unknown method from garbage.
const LONGEST_METHOD: usize = 24;

/// In bytes: ` HTTP/1.1` and CR.
const HTTP_VERSION: usize = 10;
