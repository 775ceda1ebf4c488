//! A stream whose client was not let in yet, and the responses that need no session.

use std::time::Duration;

use crate::close::{CloseCode, CloseReason};
use crate::protocol::event_stream::StreamRequest;
use crate::protocol::http::endless_head;
use crate::protocol::message::Timestamp;
use crate::protocol::origins::Cors;
use crate::protocol::wire::Wire;
use crate::token_error::{Cure, TokenError};
use crate::transport::error_response::{error_body, error_of, refusal, token_error_body, token_refusal};

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
        let error = match reason {
            CloseReason::Application { code, text } => error_body(error_of(*code), text, timestamp),
            _ => Vec::new(),
        };
        match code {
            Some(CloseCode::UNAUTHENTICATED) => refusal(401, &self.cors, &error),
            Some(code) if !code.comes_back() => refusal(403, &self.cors, &error),
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
        if error.cure() == Cure::Time {
            let body = token_error_body(error, timestamp);
            return self.postponed(error.close_code().into(), error.text(), &body, retry);
        }
        token_refusal(error, &self.cors, timestamp)
    }
}

/// `no-transform` and the last one keep proxies from gathering or compressing what comes (nginx reads that one).
pub(crate) const STREAM_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
];

/// A client that can't have a stream now comes back after this time, or a little more.
const PATIENCE: Duration = Duration::from_secs(10);
