//! A stream whose client was not let in yet, and the responses that need no session.

use std::time::Duration;

use crate::close::{CloseCode, CloseReason};
use crate::error_code::ErrorCode;
use crate::protocol::event_stream::StreamRequest;
use crate::protocol::http::{endless_head, response};
use crate::protocol::message::{ServerMessage, Timestamp};
use crate::protocol::origins::Cors;
use crate::protocol::wire::Wire;
use crate::token_error::{Cure, TokenError};

/// A stream that was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub request: StreamRequest,
    pub wire: Wire,
    pub cors: Cors,
}

impl Asked {
    /// The head of the response, when there is a stream.
    pub fn head(&self) -> Vec<u8> {
        let chunked = matches!(self.wire, Wire::Events { chunked: true, .. });
        let headers: Vec<_> = STREAM_HEADERS.into_iter().chain(self.cors.headers()).collect();
        endless_head(&headers, chunked)
    }

    /// The whole response to a client that is not let in.
    ///
    /// An `EventSource` never comes back after another status than 200. So there is one only when the application refuses this client.
    /// Otherwise the stream begins, says why it ends, and asks for patience.
    pub fn refusal(&self, reason: &CloseReason, retry: Duration, timestamp: Timestamp) -> Vec<u8> {
        let code = reason.code();
        let mut error = Vec::new();
        if let CloseReason::Application { code, text } = reason {
            let name = error_of(*code).name();
            let (channel, details, id) = (None, None, None);
            ServerMessage::Error { code: name, message: text, channel, details, id, timestamp }
                .write(&mut error);
        }
        match code {
            Some(CloseCode::UNAUTHENTICATED) => self.status(401, &[("WWW-Authenticate", "Bearer")], &error),
            Some(code) if !code.comes_back() => self.status(403, &[], &error),
            _ => self.postponed(code, reason.text(), &error, retry),
        }
    }

    /// A stream that begins, says why it ends, and asks for patience.
    fn postponed(&self, code: Option<CloseCode>, reason: &str, error: &[u8], retry: Duration) -> Vec<u8> {
        let mut out = self.head();
        self.wire.retry((PATIENCE + retry).as_millis() as u64, &mut out);
        if !error.is_empty() {
            self.wire.text(error, &mut out);
        }
        self.wire.close(code, reason, b"", &mut out);
        out
    }

    /// The whole response to a client whose token is refused.
    pub fn token_refusal(&self, error: TokenError, retry: Duration, timestamp: Timestamp) -> Vec<u8> {
        let (mut body, details) = (Vec::new(), error.details());
        let details = serde_json::from_str(&details).ok();
        let (code, message) = (error.error_code().name(), error.text());
        ServerMessage::Error { code, message, channel: None, details, id: None, timestamp }.write(&mut body);
        match error.cure() {
            Cure::NewToken => self.status(401, &[("WWW-Authenticate", "Bearer")], &body),
            Cure::Time => self.postponed(error.close_code().into(), message, &body, retry),
            Cure::Nothing => self.status(403, &[], &body),
        }
    }

    fn status(&self, status: u16, more: &[(&'static str, &'static str)], body: &[u8]) -> Vec<u8> {
        let mut headers = vec![("Content-Type", "application/json"), ("Cache-Control", "no-store")];
        headers.extend_from_slice(more);
        headers.extend(self.cors.headers());
        response(status, &headers, body).unwrap_or_default()
    }
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

/// `no-transform` and the last one keep proxies from gathering or compressing what comes (nginx reads that one).
const STREAM_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
];

/// A client that can't have a stream now comes back after this time, or a little more.
const PATIENCE: Duration = Duration::from_secs(10);
