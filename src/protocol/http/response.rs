//! Whole HTTP responses, and refusals that say why.

use super::syntax::is_header;

/// A request that is not served. The reason goes into the body of the response, and never repeats the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {}: {reason}", status_text(*.status))]
pub struct HttpError {
    /// The status code.
    pub status: u16,
    /// For people: what is wrong.
    pub reason: &'static str,
    /// Headers that the status demands, such as `Allow`.
    pub headers: &'static [(&'static str, &'static str)],
    /// The setting that decides about it. It is for the log: the response does not have it.
    pub setting: Option<&'static str>,
}

#[expect(missing_docs, reason = "the text of each constant says what it is for")]
impl HttpError {
    pub const BARE_LF: Self = Self::new(400, "a line ends with LF instead of CR LF");
    pub const BARE_CR: Self = Self::new(400, "a CR is not followed by an LF");
    pub const FOLDED_LINE: Self = Self::new(400, "a header line begins with white space");
    pub const CONTROL_CHARACTER: Self = Self::new(400, "a header has a control character");
    pub const NOT_UTF8: Self = Self::new(400, "the request head is not UTF-8");
    pub const BAD_REQUEST_LINE: Self = Self::new(400, "malformed request line");
    pub const BAD_HEADER: Self = Self::new(400, "malformed header");
    pub const BAD_TARGET: Self = Self::new(400, "malformed or misleading request target");
    pub const BAD_HOST: Self = Self::new(400, "there must be one Host header that names a host");
    pub const BAD_LENGTH: Self = Self::new(400, "Content-Length must be one plain number");
    pub const TRANSFER_ENCODING: Self =
        Self::new(400, "Transfer-Encoding is not accepted, send Content-Length");
    pub const HEAD_TOO_LONG: Self =
        Self::new(431, "the request head is too long").with_setting("max_head_bytes");
    pub const TOO_MANY_HEADERS: Self = Self::new(431, "too many headers").with_setting("max_headers");
    pub const TARGET_TOO_LONG: Self =
        Self::new(414, "the request target is too long").with_setting("max_head_bytes");
    pub const UNKNOWN_METHOD: Self = Self::new(501, "unknown method");
    pub const VERSION: Self = Self::new(505, "this server speaks HTTP/1.1 only");

    // The others are for the caller, which keeps deadlines, knows how long a body may be, and has the pages.
    pub const TIMEOUT: Self =
        Self::new(408, "the request head did not arrive in time").with_setting("handshake_timeout");
    pub const BODY_TOO_LONG: Self = Self::new(413, "the body is too long");
    pub const INTERNAL: Self = Self::new(500, "internal error");
    pub const NOT_FOUND: Self = Self::new(404, "nothing is served here");
}

impl HttpError {
    /// A refusal without headers of its own.
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason, headers: &[], setting: None }
    }

    /// Names the setting that decides about it.
    #[must_use]
    pub const fn with_setting(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    /// Adds headers. They are constants, so a test finds a mistake in one.
    #[must_use]
    pub const fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// The whole response: plain text that says why, and the end of the connection.
    pub fn to_response(self) -> Vec<u8> {
        self.to_response_with([])
    }

    /// The same with more headers, which are known to be legal.
    pub fn to_response_with<'a>(self, more: impl IntoIterator<Item = (&'static str, &'a str)>) -> Vec<u8> {
        let body = format!("{}\n", self.reason);
        let headers: Vec<(&str, &str)> = [("Content-Type", "text/plain; charset=utf-8")]
            .into_iter()
            .chain(self.headers.iter().copied())
            .chain(more)
            .collect();
        write_response(self.status, &headers, body.as_bytes())
    }
}

/// A whole response: status line, `headers`, `Content-Length`, `Connection: close`, body.
///
/// `None` when a name is not a token or a value has a control character. If a header could contain CR LF, the one who chooses its
/// value could write the rest of the response.
pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Option<Vec<u8>> {
    let legal = headers.iter().all(|(name, value)| is_header(name, value));
    legal.then(|| write_response(status, headers, body))
}

/// The same for a connection that is kept for the next request.
pub fn kept_response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Option<Vec<u8>> {
    let legal = headers.iter().all(|(name, value)| is_header(name, value));
    legal.then(|| write(status, headers, body, "keep-alive"))
}

/// What a client waits for that sends no body before (RFC 9110 §10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The head of a response whose body has no length: it is chunked, or ends with the connection.
pub fn endless_head(headers: &[(&str, &str)], chunked: bool) -> Vec<u8> {
    let mut head = String::from("HTTP/1.1 200 OK\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    head.into_bytes()
}

fn write_response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    write(status, headers, body, "close")
}

fn write(status: u16, headers: &[(&str, &str)], body: &[u8], connection: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", status_text(status));
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    // RFC 9110 §8.6: a response without content has no length.
    if status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.extend(["Connection: ", connection, "\r\n\r\n"]);
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

const fn status_text(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // RFC 9112 §4: the phrase may be empty, but the space before it must be there.
        _ => "",
    }
}
