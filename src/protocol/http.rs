//! HTTP/1.1 request heads, strictly: nothing is repaired (RFC 9112).
//!
//! Every leniency of one parser that another lacks is a way to smuggle a request past a proxy. So a bare LF, a bare CR, a
//! folded line, a space before a colon, a doubled or odd length, or any transfer coding ends the connection with a status
//! that says why. Parsing itself is httparse's; what it tolerates and we do not is refused before it looks.

mod request;
mod response;

pub(crate) use request::trim;
pub use request::{Method, Request};
pub use response::{HttpError, InvalidHeader, response};

/// How large a request head may be. A peer that has not said who it is gets no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of request line and headers together; more is answered 431.
    pub head_bytes: usize,
    /// Header lines; more are answered 431.
    pub headers: usize,
    /// Bytes of path and query; more are answered 414.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    /// 16 KiB, 64 headers, 8 KiB: what proxies allow (nginx: four buffers of 8 KiB, one line in each).
    fn default() -> Self {
        Self { head_bytes: 16 * 1024, headers: 64, target_bytes: 8 * 1024 }
    }
}

/// Finds the end of a head that arrives in pieces.
///
/// Keeps its place, so that each byte is looked at once however many reads it takes: a head that was parsed again from the
/// start for every read cost minutes of work (CVE-2023-43669). The bytes stay with the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadReader {
    scanned: usize,
    line_start: usize,
    /// Complete lines; the first is the request line.
    lines: usize,
}

impl HeadReader {
    /// Goes on where it stopped. `buffered` holds everything that has arrived, from the first byte on.
    ///
    /// `Ok(None)` means that more bytes are needed. Otherwise returns the request and the size of its head; what follows
    /// the head in `buffered` is a body or the first frames. After a request, start with a new reader.
    ///
    /// # Errors
    ///
    /// At the first byte that makes the head wrong or too long. Answer with the error and close.
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

    /// Refuses what is not HTTP, and a long target, without waiting for the end of the line.
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

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

/// In bytes, the space after it included: room for OPTIONS, and for telling an unknown method from garbage.
const LONGEST_METHOD: usize = 24;

/// In bytes: ` HTTP/1.1` and CR.
const HTTP_VERSION: usize = 10;
