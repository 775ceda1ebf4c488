//! One request head, after all checks.

use smallvec::SmallVec;

use super::response::HttpError;
use super::syntax::{is_token_byte, trim};

/// How large a request head may be. No more is held for a peer that nothing is known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes of request line and headers together. A longer head is answered with 431.
    pub head_bytes: usize,
    /// Most header lines. More are answered with 431.
    pub headers: usize,
    /// Most bytes of path and query. A longer target is answered with 414.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    /// 16 KiB, 64 headers, 8 KiB: as proxies allow (nginx: four buffers of 8 KiB, one line in each).
    fn default() -> Self {
        Self { head_bytes: 16 * 1024, headers: 64, target_bytes: 8 * 1024 }
    }
}

/// The methods that a resource may answer. All others get 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 9110 §9 says what they mean")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// A request head that has passed all checks. It owns its bytes in one piece.
#[derive(Clone, Debug)]
pub struct Request {
    head: Box<str>,
    /// Percent-decoded, once.
    path: Box<str>,
    query: Option<Span>,
    method: Method,
    http_1_0: bool,
    content_length: Option<u64>,
    fields: SmallVec<[Field; 16]>,
}

/// A part of the head, in bytes from its start.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

impl Request {
    /// Parses a whole head, up to its empty line. The caller has refused bare CR and LF, control characters and folded lines.
    pub(super) fn parse(head: &[u8], limits: &HeadLimits) -> Result<Self, HttpError> {
        // Cookies sometimes have raw UTF-8. Two parsers do not agree about any other bytes above ASCII.
        let head = std::str::from_utf8(head).map_err(|_| HttpError::NOT_UTF8)?;
        let mut headers = vec![httparse::EMPTY_HEADER; limits.headers];
        let mut parsed = httparse::Request::new(&mut headers);
        let (method, target, version) = match parsed.parse(head.as_bytes()) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {
                match (parsed.method, parsed.path, parsed.version) {
                    (Some(method), Some(target), Some(version)) => (method, target, version),
                    _ => return Err(HttpError::BAD_REQUEST_LINE),
                }
            }
            Ok(_) => return Err(HttpError::BAD_REQUEST_LINE),
            Err(error) => return Err(refusal(error)),
        };
        if target.len() > limits.target_bytes {
            return Err(HttpError::TARGET_TOO_LONG);
        }
        let method = parse_method(method)?;
        let (path, query) = split_target(target)?;
        let mut request = Self {
            path: decode_path(path)?.into_boxed_str(),
            query: query.map(|query| span(head, query.as_bytes())),
            method,
            http_1_0: version == 0,
            content_length: None,
            fields: parsed
                .headers
                .iter()
                .map(|header| Field {
                    name: span(head, header.name.as_bytes()),
                    value: span(head, header.value),
                })
                .collect(),
            head: head.into(),
        };
        request.check_host()?;
        request.content_length = request.check_length()?;
        Ok(request)
    }

    /// Bytes that are held on the heap for it.
    pub fn size(&self) -> usize {
        self.head.len() + self.path.len()
    }

    /// What the client wants of the resource.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The path, percent-decoded exactly once. It begins with `/`, and has no `.` or `..` segment and no control character.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What comes after the first `?`, as it was sent: visible ASCII.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|query| self.text(query))
    }

    /// The value of a header that occurs once. `None` when there is none, and also when there are two: readers would not agree
    /// which one counts. Names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// All values of a header, in their order. Names are compared without case.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all_headers().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All names and values, in their order.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (self.text(field.name), self.text(field.value)))
    }

    /// Whether a header that is a list of tokens has this one. Tokens are compared without case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers(name)
            .flat_map(|value| value.split(','))
            .any(|item| trim(item).eq_ignore_ascii_case(token))
    }

    /// Whether a body comes after the head.
    pub fn has_body(&self) -> bool {
        self.content_length.is_some_and(|length| length > 0)
    }

    /// The declared length of the body, in bytes.
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The host, maybe with a port. HTTP/1.1 always has it.
    pub fn host(&self) -> Option<&str> {
        self.header("host")
    }

    /// Whether the request is HTTP/1.0. nginx speaks that to its upstreams, unless it is configured otherwise.
    pub const fn is_http_1_0(&self) -> bool {
        self.http_1_0
    }

    fn text(&self, span: Span) -> &str {
        self.head.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// RFC 9112 §3.2: HTTP/1.1 has exactly one.
    fn check_host(&self) -> Result<(), HttpError> {
        match (self.headers("host").count(), self.host()) {
            (1, Some(host)) if is_host(host) => Ok(()),
            (0, _) if self.http_1_0 => Ok(()),
            _ => Err(HttpError::BAD_HOST),
        }
    }

    /// RFC 9112 §6: the length is one plain number, or there is no body.
    fn check_length(&self) -> Result<Option<u64>, HttpError> {
        if self.headers("transfer-encoding").next().is_some() {
            return Err(HttpError::TRANSFER_ENCODING);
        }
        let mut values = self.headers("content-length");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                value.parse().map(Some).map_err(|_| HttpError::BAD_LENGTH)
            }
            _ => Err(HttpError::BAD_LENGTH),
        }
    }
}

fn refusal(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::Version => HttpError::VERSION,
        httparse::Error::TooManyHeaders => HttpError::TOO_MANY_HEADERS,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HttpError::BAD_HEADER,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            HttpError::BAD_REQUEST_LINE
        }
    }
}

/// Names of methods are compared with case (RFC 9110 §9.1).
fn parse_method(name: &str) -> Result<Method, HttpError> {
    Ok(match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ if name.bytes().all(is_token_byte) => return Err(HttpError::UNKNOWN_METHOD),
        _ => return Err(HttpError::BAD_REQUEST_LINE),
    })
}

/// Accepts the origin form only. The other forms name a host for the second time, or no resource.
fn split_target(target: &str) -> Result<(&str, Option<&str>), HttpError> {
    if !target.starts_with('/') || target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(HttpError::BAD_TARGET);
    }
    Ok(match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    })
}

/// Refuses a path that another reader could understand differently (dot segments, backslash).
fn decode_path(path: &str) -> Result<String, HttpError> {
    let decoded = percent_decode(path).ok_or(HttpError::BAD_TARGET)?;
    let misleading =
        decoded.contains('\\') || decoded.split('/').any(|segment| matches!(segment, "." | ".."));
    if misleading { Err(HttpError::BAD_TARGET) } else { Ok(decoded) }
}

/// Decodes once. `None` for a broken escape, for bytes that are not UTF-8 (overlong forms are none), and for control characters.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// `uri-host [":" port]` (RFC 9110 §7.2). Escapes are refused: host names and addresses need none.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port))
                if address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.') =>
            {
                (address, port)
            }
            _ => return false,
        },
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
            {
                return false;
            }
            (name, port)
        }
    };
    !name.is_empty() && (port.is_empty() || is_port(port))
}

fn is_port(port: &str) -> bool {
    let digits = port.strip_prefix(':').unwrap_or_default();
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

/// The place of `part` in `whole`, of which it is a slice. A head is far smaller than 4 GiB.
fn span(whole: &str, part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    Span { start: start as u32, end: (start + part.len()) as u32 }
}
