//! One request head, after all checks.

use smallvec::SmallVec;

use super::form::hex_digit;
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
    pub(super) head: Box<str>,
    /// Percent-decoded, once.
    path: Box<str>,
    /// The same where a `%2F` is [`INNER_SLASH`]. `None` when there is none, as nearly always.
    segments: Option<Box<str>>,
    /// The host in the target, which counts more than the header.
    authority: Option<Span>,
    pub(super) query: Option<Span>,
    method: Method,
    http_1_0: bool,
    content_length: Option<u64>,
    pub(super) fields: SmallVec<[Field; 16]>,
}

/// A part of the head, in bytes from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub name: Span,
    pub value: Span,
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
        let Target { authority, path, query } = split_target(target)?;
        let path = decode_path(path)?;
        let mut request = Self {
            segments: path.contains(INNER_SLASH).then(|| path.clone().into_boxed_str()),
            path: path.replace(INNER_SLASH, "/").into_boxed_str(),
            authority: authority.map(|authority| span(head, authority.as_bytes())),
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
        request.prefer_authority();
        request.content_length = request.check_length()?;
        Ok(request)
    }

    /// Bytes that are held on the heap for it.
    pub fn size(&self) -> usize {
        self.head.len() + self.path.len() + self.segments.as_ref().map_or(0, |it| it.len())
    }

    /// What the client wants of the resource.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The path, percent-decoded exactly once. It begins with `/`, and has no `.` or `..` segment and no control character.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path for comparing it segment by segment: a slash that was sent as `%2F` belongs to its segment, and is [`INNER_SLASH`]
    /// here.
    pub fn segments(&self) -> &str {
        self.segments.as_deref().unwrap_or(&self.path)
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
        self.authority.map(|authority| self.text(authority)).or_else(|| self.header("host"))
    }

    /// Whether the request is HTTP/1.0. nginx speaks that to its upstreams, unless it is configured otherwise.
    pub const fn is_http_1_0(&self) -> bool {
        self.http_1_0
    }

    pub(super) fn text(&self, span: Span) -> &str {
        self.head.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// RFC 9112 §3.2: HTTP/1.1 has exactly one.
    fn check_host(&self) -> Result<(), HttpError> {
        match (self.headers("host").count(), self.header("host")) {
            (1, Some(host)) if is_host(host) => Ok(()),
            (0, _) if self.http_1_0 => Ok(()),
            _ => Err(HttpError::BAD_HOST),
        }
    }

    /// RFC 9112 §3.2.2: the host in the target takes the place of the header, for whoever reads it.
    fn prefer_authority(&mut self) {
        let Some(authority) = self.authority else { return };
        let head = &self.head;
        for Field { name, value } in &mut self.fields {
            if head[name.start as usize..name.end as usize].eq_ignore_ascii_case("host") {
                *value = authority;
            }
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

/// The parts of a request target.
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

/// Accepts the origin form, and the absolute form of proxies and their clients (RFC 9112 §3.2). The other forms name no resource.
fn split_target(target: &str) -> Result<Target<'_>, HttpError> {
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(HttpError::BAD_TARGET);
    }
    let (authority, rest) = match split_scheme(target) {
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), rest)
        }
        None => (None, target),
    };
    if authority.is_some_and(|authority| !is_host(authority)) {
        return Err(HttpError::BAD_TARGET);
    }
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    match path {
        // RFC 9110 §4.2.3: the same as "/".
        "" if authority.is_some() => Ok(Target { authority, path: "/", query }),
        _ if path.starts_with('/') => Ok(Target { authority, path, query }),
        _ => Err(HttpError::BAD_TARGET),
    }
}

/// What comes after `http://` or `https://`.
fn split_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    is_http.then_some(rest)
}

/// A slash that was sent as `%2F`. No path has this character, because control characters are refused.
pub const INNER_SLASH: char = '\u{1}';

/// Refuses a path that another reader could understand differently (dot segments, backslash).
fn decode_path(path: &str) -> Result<String, HttpError> {
    let decoded = percent_decode(path).ok_or(HttpError::BAD_TARGET)?;
    let misleading = decoded.contains('\\')
        || decoded.split(['/', INNER_SLASH]).any(|segment| matches!(segment, "." | ".."));
    if misleading { Err(HttpError::BAD_TARGET) } else { Ok(decoded) }
}

/// Decodes once, `%2F` to [`INNER_SLASH`]. `None` for a broken escape, for bytes that are not UTF-8 (overlong forms are none), and for control characters.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => match hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)? {
                b'/' => INNER_SLASH as u8,
                byte if byte.is_ascii_control() => return None,
                byte => byte,
            },
            other => other,
        });
    }
    let is_control = |letter: char| letter.is_control() && letter != INNER_SLASH;
    String::from_utf8(bytes).ok().filter(|text| !text.contains(is_control))
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
