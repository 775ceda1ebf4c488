//! A program that makes calls over HTTP, one after another on its connection: who it is, and the call that is made.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use crate::error_code::ErrorCode;
use crate::jwt::Verified;
use crate::position::Position;
use crate::protocol::call::{CallKind, Publications};
use crate::protocol::http::Request;
use crate::protocol::list::Outline;
use crate::protocol::origins::Cors;
use crate::session::{Call, Question, RateLimit, Session};
use crate::transport::events::Opening;
use crate::transport::head::Head;
use crate::transport::idempotency::Running;

/// The state of a connection on which calls are made.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// The conversation of the client that was let in last.
    pub session: Session,
    /// What let it in. `None`: nobody was, or its credentials do not count any more.
    pub entry: Option<Entry>,
    /// The next head, and then the body of its call.
    pub head: Head,
    pub rate: RateLimit,
    pub call: Option<Box<HttpCall>>,
}

/// What a client has shown that was let in.
#[derive(Debug)]
pub(crate) struct Entry {
    /// A hash of what the application has judged.
    pub shown: u64,
    /// Whom its token names.
    pub verified: Option<Verified>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct HttpCall {
    pub request: Request,
    pub kind: CallKind,
    pub cors: Cors,
    pub stage: Stage,
    /// The connection ends after it.
    pub is_last: bool,
    body: Arc<String>,
    /// What of it was not done yet.
    items: VecDeque<Range<usize>>,
    is_list: bool,
    /// What was done is answered.
    pub is_answered: bool,
    /// It is asked when the application has room for it.
    pub question: Option<Question>,
    answers: Vec<u8>,
    /// Of the last answer.
    status: u16,
    /// Something was done, or perhaps.
    is_done: bool,
    /// Something was not done, for a reason that may be over soon.
    may_be_repeated: bool,
    /// By its key, others know that it is made.
    pub running: Option<Running>,
    /// Its list of messages, if that was read: it may be long, and wait for long.
    pub list: Option<Outline>,
}

/// What is done at once of a call.
pub(crate) enum Part {
    /// To publish what a part of a body says.
    Publish(Arc<String>, Range<usize>),
    /// See [`CallKind::History`].
    History(Box<str>, Option<Position>, usize),
}

impl Part {
    /// As a session knows it.
    pub fn as_call(&self) -> Call<'_> {
        match self {
            Self::Publish(body, range) => Call::Publish(&body[range.clone()]),
            Self::History(channel, after, most) => Call::History { channel, after: *after, most: *most },
        }
    }
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its client was not looked at.
    Arrived,
    /// The application decides whether its client may come in.
    Deciding,
    /// Its body arrives.
    Reading,
    /// The same call is made on another connection.
    Waiting,
    /// It is done, part by part.
    Running,
}

impl Caller {
    /// Whether the call that is made wants to go on, and is not waited for.
    pub fn goes_on(&self) -> bool {
        self.call.as_ref().is_some_and(|call| match call.stage {
            Stage::Arrived | Stage::Waiting => true,
            Stage::Deciding | Stage::Reading => false,
            Stage::Running => call.is_answered || call.question.is_some(),
        })
    }

    /// Whether bytes of the client are wanted.
    pub fn listens(&self) -> bool {
        self.call.as_ref().is_none_or(|call| call.stage == Stage::Reading)
    }

    /// Whether its client was let in, for all that is known now.
    pub fn is_in(&self) -> bool {
        self.call.as_ref().is_none_or(|call| !matches!(call.stage, Stage::Arrived | Stage::Deciding))
    }

    /// Whether nothing is left to do when its client is gone. What was begun is done, whether or not its client stays.
    pub fn is_awaited(&self) -> bool {
        self.call.as_ref().is_some_and(|call| !matches!(call.stage, Stage::Reading | Stage::Running))
    }

    /// Bytes of the body that are still to come. `None`: a head is read.
    pub fn missing(&self) -> Option<usize> {
        self.call.as_ref().map(|call| call.length().saturating_sub(self.head.buffer.len()))
    }

    /// What the application is told of its client.
    pub fn opening(
        &self,
        peer: String,
        secure: bool,
        public_id: String,
        connection: u32,
    ) -> Option<Box<Opening>> {
        let request = self.call.as_ref()?.request.clone();
        let verified = self.entry.as_ref().and_then(|entry| entry.verified.clone());
        let opening = Opening::new(request, peer, secure, public_id, connection);
        Some(Box::new(Opening { verified, is_caller: true, ..opening }))
    }
}

impl HttpCall {
    pub fn new(request: Request, kind: CallKind, cors: Cors) -> Self {
        let ends = request.has_token("connection", "close");
        let is_last = ends || request.is_http_1_0() && !request.has_token("connection", "keep-alive");
        Self {
            request,
            kind,
            cors,
            stage: Stage::Arrived,
            is_last,
            body: Arc::default(),
            items: VecDeque::new(),
            is_list: false,
            is_answered: true,
            question: None,
            answers: Vec::new(),
            status: 200,
            is_done: false,
            may_be_repeated: false,
            running: None,
            list: None,
        }
    }

    /// Bytes of the body.
    pub fn length(&self) -> usize {
        match self.kind {
            CallKind::Publish { length, .. }
            | CallKind::Session { length }
            | CallKind::Messages { length, .. } => length,
            CallKind::Ticket | CallKind::History { .. } => 0,
        }
    }

    /// Takes what is to be published.
    pub fn prepare(&mut self, body: String, publications: Publications) {
        (self.body, self.items) = (Arc::new(body), publications.items);
        self.is_list = publications.is_list;
        self.stage = Stage::Waiting;
    }

    pub fn body(&self) -> &str {
        &self.body
    }

    /// The same, for somebody who changes the call.
    pub fn shared_body(&self) -> Arc<String> {
        Arc::clone(&self.body)
    }

    /// Whether the client needs to be known. A session has its own ways to know it.
    pub fn needs_client(&self) -> bool {
        !matches!(self.kind, CallKind::Session { .. } | CallKind::Messages { .. })
    }

    /// What is to be published.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|range| &self.body[range.clone()])
    }

    /// By which its repetitions are known.
    pub fn key(&self) -> Option<&str> {
        if let CallKind::Publish { key, .. } = &self.kind { key.as_deref() } else { None }
    }

    /// Whether its answer is that of all its repetitions.
    pub fn is_final(&self) -> bool {
        self.is_done || !self.may_be_repeated
    }

    /// What is to be done next, and asks for an answer. `None`: everything was done.
    pub fn next(&mut self) -> Option<Part> {
        let part = match &self.kind {
            CallKind::Publish { .. } => Part::Publish(Arc::clone(&self.body), self.items.pop_front()?),
            CallKind::Ticket | CallKind::Session { .. } | CallKind::Messages { .. } => return None,
            CallKind::History { .. } if !self.answers.is_empty() => return None,
            CallKind::History { channel, after, most } => Part::History(channel.clone(), *after, *most),
        };
        self.is_answered = false;
        Some(part)
    }

    /// Takes the answer to what was asked for last: one JSON text.
    pub fn answer(&mut self, text: &[u8]) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        if !self.answers.is_empty() {
            self.answers.push(b',');
        }
        self.answers.extend_from_slice(text);
        self.status = status_of(text);
        self.is_done |= matches!(self.status, 200 | 504);
        self.may_be_repeated |= matches!(self.status, 429 | 500 | 503);
    }

    /// Answers all that is left with an error, if a part of the call was done. Returns whether that is so.
    pub fn give_up(&mut self, error: &[u8]) -> bool {
        if !self.is_done {
            return false;
        }
        self.answer(error);
        while self.items.pop_front().is_some() {
            self.is_answered = false;
            self.answer(error);
        }
        true
    }

    /// Status and body of the response.
    pub fn response(&mut self) -> (u16, Vec<u8>) {
        let answers = std::mem::take(&mut self.answers);
        if !self.is_list {
            return (self.status, answers);
        }
        (200, [b"{\"results\":[", &*answers, b"]}"].concat())
    }
}

/// What a JSON text says that may be an `error`.
#[derive(Deserialize)]
struct Outcome<'a> {
    r#type: &'a str,
    #[serde(default)]
    code: std::borrow::Cow<'a, str>,
}

/// The status of the response to a call with this answer.
fn status_of(text: &[u8]) -> u16 {
    let outcome: Option<Outcome<'_>> =
        text.starts_with(b"{\"type\":\"error\"").then(|| serde_json::from_slice(text).ok()).flatten();
    let Some(Outcome { r#type: "error", code }) = outcome else { return 200 };
    match ErrorCode::from_name(&code) {
        Some(ErrorCode::BadMessage | ErrorCode::BadChannel | ErrorCode::TooManyItems) => 400,
        Some(ErrorCode::UnknownChannel) => 404,
        Some(ErrorCode::NotAllowed | ErrorCode::BadToken) => 403,
        Some(ErrorCode::Unauthenticated) => 401,
        Some(ErrorCode::StateConflict) => 409,
        Some(ErrorCode::LimitExceeded) => 429,
        Some(ErrorCode::Timeout | ErrorCode::NotPublished) => 503,
        Some(ErrorCode::MaybePublished) => 504,
        Some(ErrorCode::Internal) => 500,
        // The application's own word, and what no call meets.
        _ => 422,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_status() {
        let error = |code: &str| format!("{{\"type\":\"error\",\"code\":\"{code}\",\"message\":\"x\"}}");
        for (code, status) in [
            ("bad_message", 400),
            ("not_allowed", 403),
            ("internal", 500),
            ("sold_out", 422),
            ("a\\\"b", 422),
        ] {
            assert_eq!(status_of(error(code).as_bytes()), status, "{code}");
        }
        assert_eq!(status_of(b"{\"type\":\"published\",\"channel\":\"a\",\"offset\":1}"), 200);
    }
}
