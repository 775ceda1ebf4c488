//! The response to a request that is no upgrade: a page, or a refusal that says why.

use crate::own_path::is_reserved_path;
use crate::protocol::http::{HttpError, Method, Request, response};
use crate::transport::shared::{Page, Shared};

/// The whole response to a request.
///
/// # Errors
/// The refusal: there is nothing at this path, or not for this kind of request.
pub(crate) fn respond(shared: &Shared, request: &Request) -> Result<Vec<u8>, HttpError> {
    let answer = find(shared, request)?;
    if request.has_body() {
        return Err(HttpError::BODY_TOO_LONG);
    }
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Err(ONLY_GET);
    }
    let (status, headers, body) = match answer {
        Answer::Probe(status, body) => (status, vec![("Content-Type", PLAIN)], body),
        Answer::Page(page) => answer_with(page, request),
    };
    let mut bytes = response(status, &headers, body).ok_or(BAD_PAGE)?;
    // RFC 9110 §8.6: the length in both heads is that of the body that is left out.
    if request.method() == Method::Head || status == NOT_MODIFIED {
        bytes.truncate(bytes.len() - body.len());
    }
    Ok(bytes)
}

/// What there is at a path.
enum Answer<'a> {
    Probe(u16, &'a [u8]),
    Page(&'a Page),
}

fn find<'a>(shared: &'a Shared, request: &Request) -> Result<Answer<'a>, HttpError> {
    match request.path() {
        "/healthz" => return Ok(Answer::Probe(200, b"ok\n")),
        "/readyz" if shared.is_draining() => return Ok(Answer::Probe(503, b"draining\n")),
        "/readyz" => return Ok(Answer::Probe(200, b"ready\n")),
        // Files of the server itself. An application declares no page there (`Declarations.claim_path`).
        path if path.starts_with("/umbel/") => {
            return shared.pages.get(path).map(Answer::Page).ok_or(HttpError::NOT_FOUND);
        }
        path if is_reserved_path(path) => return Err(HttpError::NOT_FOUND),
        _ => {}
    }
    let path = request.segments();
    if let Some(page) = shared.pages.get(path) {
        return Ok(Answer::Page(page));
    }
    let speaks_websocket = path == shared.config.websocket_path
        || shared.routes.iter().any(|route| route.matches(path).is_some());
    Err(if speaks_websocket { UPGRADE_REQUIRED } else { HttpError::NOT_FOUND })
}

/// Status, headers and body: packed if the client accepts that, and left out if the client has it already.
fn answer_with<'a>(page: &'a Page, request: &Request) -> (u16, Vec<(&'a str, &'a str)>, &'a [u8]) {
    let mut headers: Vec<_> = page.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let tag = headers.iter().find_map(|&(name, value)| (name == "ETag").then_some(value));
    let is_known = tag.is_some_and(|tag| request.has_token("If-None-Match", tag));
    let mut body = &page.body;
    if let Some(gzip) = &page.gzip {
        headers.push(("Vary", "Accept-Encoding"));
        if request.has_token("Accept-Encoding", "gzip") {
            headers.push(("Content-Encoding", "gzip"));
            body = gzip;
        }
    }
    (if is_known { NOT_MODIFIED } else { 200 }, headers, body)
}

const NOT_MODIFIED: u16 = 304;

const PLAIN: &str = "text/plain; charset=utf-8";

/// The server has as many connections as it may.
pub(crate) const FULL: HttpError = HttpError::new(503, "too many connections now")
    .with_headers(&[("Retry-After", "1")])
    .with_setting("max_connections");

/// The address has as many connections as it may: one of them has to end first.
pub(crate) const CROWDED: HttpError = HttpError::new(429, "too many connections from this address")
    .with_headers(&[("Retry-After", "10")])
    .with_setting("max_connections_per_address");

pub(crate) const DRAINING: HttpError =
    HttpError::new(503, "the server is stopping").with_headers(&[("Retry-After", "1")]);

const UPGRADE_REQUIRED: HttpError = HttpError::new(426, "this path speaks WebSocket")
    .with_headers(&[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
const ONLY_GET: HttpError =
    HttpError::new(405, "only GET and HEAD are answered here").with_headers(&[("Allow", "GET, HEAD")]);
const BAD_PAGE: HttpError = HttpError::new(500, "the content type of this page is not a legal header");
