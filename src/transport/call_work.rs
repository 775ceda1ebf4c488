//! A call that has come whole: doing it part by part, answering it, and what its program hears when it can't be done.

use std::sync::Arc;

use crate::close::{CloseCode, CloseReason};
use crate::error_code::ErrorCode;
use crate::protocol::http::{kept_response, response};
use crate::session::{Carrier as _, is_refused, make_call};
use crate::transport::admission::refuse_token;
use crate::transport::caller::Stage;
use crate::transport::connection::Connection;
use crate::transport::error_response::{JSON_HEADERS, detailed_error_body, error_body, refusal};
use crate::transport::head::Head;
use crate::transport::idempotency::Begun;
use crate::transport::parting::part;
use crate::transport::peer::Peer;
use crate::transport::tickets::{self, NotIssued};
use crate::transport::turn::WORK_AT_A_TURN;

/// Begins to do what is to be done, unless a call with the same key has done it. Returns `false` when that is still at it.
pub(crate) fn start(peer: &mut Peer<'_>) -> bool {
    let (now, shared) = (peer.now(), Arc::clone(&peer.connections.shared));
    let Some(connection) = peer.connection() else { return true };
    let client = connection.id;
    let Some(caller) = connection.caller() else { return true };
    let Some(call) = &mut caller.call else { return true };
    if let Some(key) = call.key() {
        let Some(identity) = &caller.session.identity else {
            let text = "an Idempotency-Key is of an identity, and there is none";
            refuse(peer, 400, ErrorCode::BadMessage, text);
            return true;
        };
        let names = [&identity.subject, call.request.path(), key, call.body()];
        match shared.idempotency.begin(names, client, now) {
            Begun::New(running) => call.running = Some(running),
            Begun::Waits => return false,
            Begun::Answered(..)
                if call.items().any(|item| is_refused(&caller.session, item, &shared.rules)) =>
            {
                refuse(peer, 403, ErrorCode::NotAllowed, "you may not publish this any more");
                return true;
            }
            Begun::Answered(status, answer) => {
                respond(peer, status, Some(("Idempotency-Replayed", "true")), &answer);
                return true;
            }
            Begun::Other => {
                let text = "another request with this Idempotency-Key had another body";
                refuse(peer, 409, ErrorCode::IdReused, text);
                return true;
            }
            Begun::Full => {
                let text = "too many requests with an Idempotency-Key are under way";
                refuse(peer, 503, ErrorCode::LimitExceeded, text);
                return true;
            }
        }
    }
    call.stage = Stage::Running;
    run(peer)
}

/// Does what is to be done, part by part. Returns `false` when an answer has to be waited for.
pub(crate) fn run(peer: &mut Peer<'_>) -> bool {
    let rules = Arc::clone(&peer.connections.shared.rules);
    let held = peer.connection().and_then(Connection::caller).and_then(|caller| caller.call.as_mut());
    if let Some(question) = held.and_then(|call| call.question.take()) {
        peer.ask(question);
        return false;
    }
    while peer.connections.work < WORK_AT_A_TURN {
        let Some(caller) = peer.connection().and_then(Connection::caller) else { return true };
        let Some(call) = caller.call.as_mut().filter(|call| call.stage == Stage::Running) else {
            return true;
        };
        let Some(part) = call.next() else {
            let (status, body) = call.response();
            respond(peer, status, None, &body);
            return true;
        };
        let mut cost = 0;
        peer.converse(|session, peer| cost = make_call(session, part.as_call(), &rules, peer));
        peer.connections.work += cost + WORK_OF_A_PART;
        if peer.connection().and_then(|connection| connection.call()).is_some_and(|call| !call.is_answered) {
            return false;
        }
    }
    // Others have their turn, and then this connection.
    true
}

/// Gives a ticket to the client of a call.
pub(crate) fn give_ticket(peer: &mut Peer<'_>) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(caller) = peer.connection().and_then(Connection::caller) else { return };
    let (Some(call), Some(entry)) = (&caller.call, &caller.entry) else { return };
    match tickets::issue_to(&shared, &call.request, entry.verified.as_ref()) {
        Ok(body) => respond(peer, 200, None, &body),
        Err(NotIssued::Token(error)) => refuse_token(peer, error),
        Err(NotIssued::Ticket(status, code, text)) => refuse(peer, status, code, &text),
    }
}

/// Ends a call with an error of ours.
pub(crate) fn refuse(peer: &mut Peer<'_>, status: u16, code: ErrorCode, text: &str) {
    refuse_with(peer, status, code, text, None);
}

/// The same, with a number as the `details` of the error.
pub(crate) fn refuse_with(
    peer: &mut Peer<'_>,
    status: u16,
    code: ErrorCode,
    text: &str,
    detail: Option<(&str, u64)>,
) {
    let body = detailed_error_body(code, text, detail, peer.connections.timestamp());
    let patience = matches!(status, 429 | 503).then_some(("Retry-After", "1"));
    respond(peer, status, patience, &body);
}

/// Ends a call, and keeps the connection for the next one.
pub(crate) fn respond(
    peer: &mut Peer<'_>,
    status: u16,
    more: Option<(&'static str, &'static str)>,
    body: &[u8],
) {
    let (now, is_draining) = (peer.now(), peer.connections.shared.is_draining());
    let Some(connection) = peer.connection() else { return };
    let Some(caller) = connection.caller() else { return };
    let Some(mut call) = caller.call.take() else { return };
    if let Some(running) = call.running.take().filter(|_| call.is_final()) {
        running.answered(status, body, now);
    }
    let own = &JSON_HEADERS[usize::from(body.is_empty())..];
    let headers: Vec<_> = own.iter().copied().chain(more).chain(call.cors.headers()).collect();
    if call.is_last || is_draining || caller.head.excess.is_some() {
        let bytes = response(status, &headers, body).unwrap_or_default();
        return peer.say_last(&bytes, &CloseReason::Response);
    }
    caller.head = Head::default();
    connection.share = None;
    connection.counted.end_request();
    connection.deadlines.idle(now);
    peer.replies.extend(kept_response(status, &headers, body).unwrap_or_default());
    peer.flush_replies();
    peer.connections.schedule(peer.key);
}

/// What becomes of a connection of calls that is to be closed.
pub(crate) enum Farewell {
    /// These are the last bytes for it.
    Say(Vec<u8>),
    /// It is closed when its call is answered.
    Later,
}

/// Says how a connection of calls is closed. `None`: it is another one.
pub(crate) fn farewell(peer: &mut Peer<'_>, reason: &CloseReason) -> Option<Farewell> {
    let (now, timestamp) = (peer.now(), peer.connections.timestamp());
    let caller = peer.live()?.caller()?;
    let Some(call) = &mut caller.call else { return Some(Farewell::Say(Vec::new())) };
    if *reason == CloseReason::Restart && call.stage == Stage::Running {
        call.is_last = true;
        return Some(Farewell::Later);
    }
    if call.stage == Stage::Arrived && matches!(reason, CloseReason::Application { .. }) {
        // It is about the client before. Who makes this call will be asked.
        part(peer);
        return Some(Farewell::Later);
    }
    let code = reason.code().unwrap_or(CloseCode::RESTART);
    let (status, error) = match (reason, code) {
        (CloseReason::UnfinishedMessage, _) => (408, ErrorCode::Timeout),
        (_, CloseCode::UNAUTHENTICATED) => (401, ErrorCode::Unauthenticated),
        (_, CloseCode::TOO_MANY) => (429, ErrorCode::LimitExceeded),
        (_, CloseCode::INTERNAL) => (500, ErrorCode::Internal),
        (_, code) if code.comes_back() => (503, ErrorCode::Timeout),
        _ => (403, ErrorCode::NotAllowed),
    };
    let body = error_body(error, reason.text(), timestamp);
    if !call.give_up(&body) {
        return Some(Farewell::Say(refusal(status, &call.cors, &body)));
    }
    // A repetition would do a part of it twice.
    let (status, body) = call.response();
    if let Some(running) = call.running.take() {
        running.answered(status, &body, now);
    }
    Some(Farewell::Say(refusal(status, &call.cors, &body)))
}

/// What a part costs beside its bytes, in bytes that are read.
const WORK_OF_A_PART: usize = 2048;
