//! The response that will be the stream of a session, while its client is not let in.

use crate::close::{CloseCode, CloseReason};
use crate::error_code::ErrorCode;
use crate::protocol::http::{endless_head, response};
use crate::protocol::message::Timestamp;
use crate::protocol::origins::Cors;
use crate::protocol::wire::Wire;
use crate::transport::asked::STREAM_HEADERS;
use crate::transport::error_response::{detailed_error_body, refusal, retry_headers};
use crate::transport::excess::Excess;

/// A stream that was asked for.
#[derive(Debug)]
pub(crate) struct OnStream {
    cors: Cors,
    chunked: bool,
    /// There is no place for another connection.
    pub excess: Option<Excess>,
    /// It is to come in parts.
    pub in_parts: bool,
    /// The `error` that its client is told, if it is not let in.
    pub error: Vec<u8>,
}

impl OnStream {
    pub fn new(cors: Cors, chunked: bool, excess: Option<Excess>) -> Self {
        Self { cors, chunked, excess, in_parts: false, error: Vec::new() }
    }

    pub fn wire(&self) -> Wire {
        Wire::SessionEvents { chunked: self.chunked }
    }

    /// The head of the response, when there is a stream.
    pub fn head(&self) -> Vec<u8> {
        let headers: Vec<_> = STREAM_HEADERS.into_iter().chain(self.cors.headers()).collect();
        endless_head(&headers, self.chunked)
    }

    /// The response to a client that is not let in: what it would be told on a WebSocket, with a status.
    pub fn refusal(&self, reason: &CloseReason) -> Vec<u8> {
        let status = match reason.code() {
            _ if *reason == CloseReason::NoFirst => 400,
            Some(CloseCode::UNAUTHENTICATED) => 401,
            Some(CloseCode::TOO_MANY) => 429,
            Some(code) if !code.comes_back() => 403,
            _ => 503,
        };
        let (wire, mut body) = (Wire::SessionEvents { chunked: false }, Vec::new());
        if !self.error.is_empty() {
            wire.text(&self.error, &mut body);
        }
        wire.close(reason.code(), reason.text(), b"", &mut body);
        let headers = STREAM_HEADERS.into_iter().chain(retry_headers(status)).chain(self.cors.headers());
        response(status, &headers.collect::<Vec<_>>(), &body).unwrap_or_default()
    }

    /// The response to a client that is too late. `attempt` was accepted last.
    pub fn superseded(&self, attempt: Option<u64>, timestamp: Timestamp) -> Vec<u8> {
        let (status, code, text) = superseded(attempt);
        let detail = attempt.map(|attempt| ("attempt", attempt));
        refusal(status, &self.cors, &detailed_error_body(code, text, detail, timestamp))
    }
}

/// What a client hears that is too late. `None`: there is no such session.
pub(crate) fn superseded(attempt: Option<u64>) -> (u16, ErrorCode, &'static str) {
    match attempt {
        Some(_) => (409, ErrorCode::Superseded, "another attempt has the session, or its stream has ended"),
        None => (404, ErrorCode::SessionLost, "there is no such session"),
    }
}
