//! Complete HTTP responses, and refusals that say why.

use super::syntax::is_header;

/// A request that cannot be served. The text goes into the body of the response: it is ours, never the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {}: {reason}", status_text(*.status))]
pub struct HttpError {
    pub status: u16,
    /// For people: what was wrong.
    pub reason: &'static str,
    /// What the status demands, for example `Allow`.
    pub headers: &'static [(&'static str, &'static str)],
}

impl HttpError {
    pub const BARE_LF: Self = Self::new(400, "a line ends with LF instead of CR LF");
    pub const BARE_CR: Self = Self::new(400, "a CR stands without an LF");
    pub const FOLDED_LINE: Self = Self::new(400, "a header line begins with white space");
    pub const CONTROL_CHARACTER: Self = Self::new(400, "a header holds a control character");
    pub const NOT_UTF8: Self = Self::new(400, "the request head is not UTF-8");
    pub const BAD_REQUEST_LINE: Self = Self::new(400, "malformed request line");
    pub const BAD_HEADER: Self = Self::new(400, "malformed header");
    pub const BAD_TARGET: Self = Self::new(400, "malformed or misleading request target");
    pub const BAD_HOST: Self = Self::new(400, "Host must stand once and name a host");
    pub const BAD_LENGTH: Self = Self::new(400, "Content-Length must stand once and be a plain number");
    pub const TRANSFER_ENCODING: Self =
        Self::new(400, "Transfer-Encoding is not accepted, send Content-Length");
    pub const HEAD_TOO_LONG: Self = Self::new(431, "the request head is too long");
    pub const TOO_MANY_HEADERS: Self = Self::new(431, "too many headers");
    pub const TARGET_TOO_LONG: Self = Self::new(414, "the request target is too long");
    pub const UNKNOWN_METHOD: Self = Self::new(501, "unknown method");
    pub const VERSION: Self = Self::new(505, "only HTTP/1.1 is spoken here");
    /// For the caller, who keeps the deadline of a head.
    pub const TIMEOUT: Self = Self::new(408, "the request head did not arrive in time");
    /// For the caller, who knows how long a body may be.
    pub const BODY_TOO_LONG: Self = Self::new(413, "the body is too long");
    /// For the caller, in whom something broke.
    pub const INTERNAL: Self = Self::new(500, "internal error");
    /// For the caller, who routes.
    pub const NOT_FOUND: Self = Self::new(404, "nothing is served here");

    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason, headers: &[] }
    }

    /// Adds headers. They are constants of the program, so a mistake in one shows in the first test.
    #[must_use]
    pub const fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// The complete response: plain text that says why, and the end of the connection.
    pub fn to_response(self) -> Vec<u8> {
        let body = format!("{}\n", self.reason);
        let headers: Vec<_> = [("Content-Type", "text/plain; charset=utf-8")]
            .into_iter()
            .chain(self.headers.iter().copied())
            .collect();
        write_response(self.status, &headers, body.as_bytes())
    }
}

/// A header of a response that would break its framing. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid response header {name:?}")]
pub struct InvalidHeader {
    pub name: String,
}

/// A complete response: status line, `headers`, `Content-Length`, `Connection: close`, body.
///
/// # Errors
///
/// When a name is not a token or a value holds a control character: whoever can put CR LF into a header can write the
/// rest of the response (row A13 of the fault checklist).
pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>, InvalidHeader> {
    for (name, value) in headers {
        if !is_header(name, value) {
            return Err(InvalidHeader { name: (*name).to_owned() });
        }
    }
    Ok(write_response(status, headers, body))
}

fn write_response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", status_text(status));
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    // RFC 9110 §8.6: a response that cannot have a body has no Content-Length.
    if status >= 200 && status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

const fn status_text(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // RFC 9112 §4: the phrase may be empty; the space before it may not.
        _ => "",
    }
}
