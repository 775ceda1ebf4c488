//! The server's side of the WebSocket handshake (RFC 6455 §4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use super::deflate::{self, DeflatePolicy, Parameters};
use super::http::syntax::{is_token_byte, trim};
use super::http::{HttpError, Method, Request};
use super::origins::{Origins, check_origin};

/// The subprotocols of `docs/protocol.md`, in the order of preference. With the first one, the client speaks first.
pub const SUBPROTOCOLS: [&str; 2] = [FIRST, "umbel.v1"];

const FIRST: &str = "umbel.v1.first";

/// What the server accepts.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// In the order of preference. A client that offers none is accepted. A client that offers only others is refused with a text
    /// that says so; a browser would drop the connection without one. When the list is empty, offers are ignored.
    pub subprotocols: Vec<String>,
    /// `None`: compression is not negotiated.
    pub deflate: Option<DeflatePolicy>,
    /// Whose pages may connect.
    pub origins: Origins,
}

/// An accepted handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// How messages may be compressed; `None` when they may not.
    pub deflate: Option<Parameters>,
    /// The client says who it is in its first message.
    pub client_is_first: bool,
    /// The whole head of the 101 response. Frames come after it.
    pub response: Vec<u8>,
}

/// Whether the request asks for a WebSocket. [`upgrade`] checks whether it does so in the right way.
pub fn is_upgrade(request: &Request) -> bool {
    request.has_token("upgrade", "websocket")
}

/// Accepts or refuses.
///
/// # Errors
///
/// With the status that RFC 6455 §4.2.2 and §4.4 or RFC 9110 ask for. Close the connection then, and read nothing after the
/// head.
pub fn upgrade(request: &Request, policy: &Policy) -> Result<Upgrade, HttpError> {
    check_request(request)?;
    let accept = accept_key(request)?;
    check_origin(request, &policy.origins)?;
    let subprotocol = choose_subprotocol(request, &policy.subprotocols)?;
    let mut response =
        String::from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    response.extend(["Sec-WebSocket-Accept: ", &accept, "\r\n"]);
    if let Some(subprotocol) = subprotocol {
        response.extend(["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"]);
    }
    let mut parameters = None;
    if let Some(deflate_policy) = &policy.deflate {
        let offers = request.headers("sec-websocket-extensions");
        let agreed = deflate::negotiate(offers, deflate_policy).map_err(|_| BAD_EXTENSIONS)?;
        if let Some((agreed, value)) = agreed {
            response.extend(["Sec-WebSocket-Extensions: ", &value, "\r\n"]);
            parameters = Some(agreed);
        }
    }
    response.push_str("\r\n");
    let client_is_first = subprotocol == Some(FIRST);
    Ok(Upgrade { deflate: parameters, client_is_first, response: response.into_bytes() })
}

/// RFC 6455 §4.2.1, items 1 to 4 and 6.
fn check_request(request: &Request) -> Result<(), HttpError> {
    if request.method() != Method::Get {
        return Err(NOT_GET);
    }
    if request.is_http_1_0() {
        return Err(HttpError::VERSION);
    }
    // If one side took bytes for a body and the other for frames, a request could be smuggled in them (CVE-2026-69243).
    if request.has_body() {
        return Err(BODY);
    }
    if !is_upgrade(request) {
        return Err(NO_UPGRADE);
    }
    if !request.has_token("connection", "upgrade") {
        return Err(NO_CONNECTION_UPGRADE);
    }
    match request.headers("sec-websocket-version").count() {
        0 | 1 if request.header("sec-websocket-version") == Some("13") => Ok(()),
        0 | 1 => Err(WRONG_VERSION),
        _ => Err(DOUBLED_VERSION),
    }
}

/// RFC 6455 §4.2.1 item 5: there is one key, the base64 form of 16 bytes. §4.2.2 item 5.4 says how to answer it.
fn accept_key(request: &Request) -> Result<String, HttpError> {
    let key = request.header("sec-websocket-key").ok_or(BAD_KEY)?;
    let mut bytes = [0; 18];
    match STANDARD.decode_slice(key, &mut bytes) {
        Ok(16) => {}
        _ => return Err(BAD_KEY),
    }
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    Ok(STANDARD.encode(digest))
}

/// RFC 6455 §4.2.2: the one of the client's offers that the server prefers.
fn choose_subprotocol<'a>(request: &Request, supported: &'a [String]) -> Result<Option<&'a str>, HttpError> {
    let mut offers =
        request.headers("sec-websocket-protocol").flat_map(|value| value.split(',')).map(trim).peekable();
    if offers.peek().is_none() || supported.is_empty() {
        return Ok(None);
    }
    let mut best = supported.len();
    for offer in offers {
        if offer.is_empty() || !offer.bytes().all(is_token_byte) {
            return Err(BAD_SUBPROTOCOL);
        }
        // Compared with case: they are names, not tokens of HTTP (RFC 6455 §1.9).
        best = supported.iter().take(best).position(|name| name == offer).unwrap_or(best);
    }
    supported.get(best).map(|name| Some(name.as_str())).ok_or(UNKNOWN_SUBPROTOCOL)
}

const NOT_GET: HttpError =
    HttpError::new(405, "a WebSocket handshake is a GET request").with_headers(&[("Allow", "GET")]);
const BODY: HttpError = HttpError::new(400, "a WebSocket handshake has no body");
const NO_UPGRADE: HttpError = HttpError::new(426, "this resource is a WebSocket: Upgrade must say websocket")
    .with_headers(&[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
const NO_CONNECTION_UPGRADE: HttpError = HttpError::new(400, "Connection must have the token Upgrade");
const WRONG_VERSION: HttpError =
    HttpError::new(426, "this server speaks version 13 of the WebSocket protocol only")
        .with_headers(&[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
const DOUBLED_VERSION: HttpError = HttpError::new(400, "there must be one Sec-WebSocket-Version header");
const BAD_KEY: HttpError =
    HttpError::new(400, "there must be one Sec-WebSocket-Key, the base64 form of 16 bytes");
const BAD_EXTENSIONS: HttpError = HttpError::new(400, "malformed Sec-WebSocket-Extensions");
const BAD_SUBPROTOCOL: HttpError = HttpError::new(400, "malformed Sec-WebSocket-Protocol");
const UNKNOWN_SUBPROTOCOL: HttpError =
    HttpError::new(400, "this server speaks none of the offered subprotocols");
