//! Whole responses that say an error in JSON, to clients that speak HTTP.

use serde_json::value::RawValue;

use crate::close::CloseCode;
use crate::error_code::ErrorCode;
use crate::protocol::http::response;
use crate::protocol::message::{ServerMessage, Timestamp};
use crate::protocol::origins::Cors;
use crate::token_error::{Cure, TokenError};

/// An `error`, as the body of a response has it.
pub(crate) fn error_body(code: ErrorCode, message: &str, timestamp: Timestamp) -> Vec<u8> {
    detailed_error_body(code, message, None, timestamp)
}

/// The same, with a number as its `details`.
pub(crate) fn detailed_error_body(
    code: ErrorCode,
    message: &str,
    detail: Option<(&str, u64)>,
    timestamp: Timestamp,
) -> Vec<u8> {
    let (mut body, code) = (Vec::new(), code.name());
    let details =
        detail.and_then(|(name, number)| RawValue::from_string(format!("{{\"{name}\":{number}}}")).ok());
    ServerMessage::Error { code, message, channel: None, details: details.as_deref(), id: None, timestamp }
        .write(&mut body);
    body
}

/// A response with this body, and the end of the connection.
pub(crate) fn refusal(status: u16, cors: &Cors, body: &[u8]) -> Vec<u8> {
    let headers = JSON_HEADERS.into_iter().chain(retry_headers(status)).chain(cors.headers());
    response(status, &headers.collect::<Vec<_>>(), body).unwrap_or_default()
}

/// What a refused client may do.
pub(crate) fn retry_headers(status: u16) -> Option<(&'static str, &'static str)> {
    match status {
        401 => Some(("WWW-Authenticate", "Bearer")),
        429 | 503 => Some(("Retry-After", "1")),
        _ => None,
    }
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
