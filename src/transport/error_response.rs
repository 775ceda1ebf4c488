//! Whole responses that say an error in JSON, to clients that speak HTTP.

use crate::close::CloseCode;
use crate::error_code::ErrorCode;
use crate::protocol::http::response;
use crate::protocol::message::{ServerMessage, Timestamp};
use crate::protocol::origins::Cors;
use crate::token_error::{Cure, TokenError};

/// An `error`, as the body of a response has it.
pub(crate) fn error_body(code: ErrorCode, message: &str, timestamp: Timestamp) -> Vec<u8> {
    let (mut body, code) = (Vec::new(), code.name());
    ServerMessage::Error { code, message, channel: None, details: None, id: None, timestamp }
        .write(&mut body);
    body
}

/// A response with this body, and the end of the connection.
pub(crate) fn refusal(status: u16, cors: &Cors, body: &[u8]) -> Vec<u8> {
    let more = match status {
        401 => Some(("WWW-Authenticate", "Bearer")),
        429 | 503 => Some(("Retry-After", "1")),
        _ => None,
    };
    let headers: Vec<_> = JSON_HEADERS.into_iter().chain(more).chain(cors.headers()).collect();
    response(status, &headers, body).unwrap_or_default()
}

/// The error of a client whose token is refused.
pub(crate) fn token_error_body(error: TokenError, timestamp: Timestamp) -> Vec<u8> {
    let (mut body, details) = (Vec::new(), error.details());
    let details = serde_json::from_str(&details).ok();
    let (code, message) = (error.error_code().name(), error.text());
    ServerMessage::Error { code, message, channel: None, details, id: None, timestamp }.write(&mut body);
    body
}

/// The whole response to that client.
pub(crate) fn token_refusal(error: TokenError, cors: &Cors, timestamp: Timestamp) -> Vec<u8> {
    let status = match error.cure() {
        Cure::NewToken => 401,
        Cure::Time => 503,
        Cure::Nothing => 403,
    };
    refusal(status, cors, &token_error_body(error, timestamp))
}

/// The error that a client is told whom the application does not let in.
pub(crate) fn error_of(code: CloseCode) -> ErrorCode {
    match code {
        CloseCode::UNAUTHENTICATED => ErrorCode::Unauthenticated,
        CloseCode::INTERNAL => ErrorCode::Internal,
        CloseCode::TOO_MANY => ErrorCode::LimitExceeded,
        CloseCode::TRY_LATER => ErrorCode::Timeout,
        _ => ErrorCode::NotAllowed,
    }
}

/// Of every response whose body is JSON.
pub(crate) const JSON_HEADERS: [(&str, &str); 2] =
    [("Content-Type", "application/json"), ("Cache-Control", "no-store")];
