//! The response to a request that is no upgrade: a page, or a refusal that says why.

use crate::config::is_reserved_path;
use crate::protocol::http::{HttpError, Method, Request, response};
use crate::transport::shared::Shared;

/// The whole response to a request.
///
/// # Errors
/// The refusal: there is nothing at this path, or not for this kind of request.
pub(crate) fn respond(shared: &Shared, request: &Request) -> Result<Vec<u8>, HttpError> {
    let (status, content_type, body) = find(shared, request)?;
    if request.has_body() {
        return Err(HttpError::BODY_TOO_LONG);
    }
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Err(ONLY_GET);
    }
    let headers = [("Content-Type", content_type), ("Cache-Control", "no-cache")];
    // The application's pages can change with the next start, so browsers ask again each time.
    let headers = if is_reserved_path(request.path()) { &headers[..1] } else { &headers };
    let mut bytes = response(status, headers, body).ok_or(BAD_PAGE)?;
    if request.method() == Method::Head {
        bytes.truncate(bytes.len() - body.len());
    }
    Ok(bytes)
}

/// Status, content type and body.
fn find<'a>(shared: &'a Shared, request: &Request) -> Result<(u16, &'a str, &'a [u8]), HttpError> {
    match request.path() {
        "/healthz" => return Ok((200, PLAIN, b"ok\n")),
        "/readyz" if shared.is_draining() => return Ok((503, PLAIN, b"draining\n")),
        "/readyz" => return Ok((200, PLAIN, b"ready\n")),
        path if is_reserved_path(path) => return Err(HttpError::NOT_FOUND),
        _ => {}
    }
    let path = request.segments();
    if let Some(page) = shared.pages.get(path) {
        return Ok((200, &page.content_type, &page.body));
    }
    let speaks_websocket = path == shared.config.websocket_path
        || shared.routes.iter().any(|route| route.matches(path).is_some());
    Err(if speaks_websocket { UPGRADE_REQUIRED } else { HttpError::NOT_FOUND })
}

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
