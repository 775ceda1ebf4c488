//! Calls of programs over HTTP: who makes one, reading its body, doing it, answering.

use std::hash::BuildHasher as _;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::jwt::Verified;
use crate::protocol::call::{CallHead, CallKind, CallPaths, Longest, Publications};
use crate::protocol::http::{CONTINUE, Request, response};
use crate::protocol::origins::Cors;
use crate::session::{Newcomer, begin_calls};
use crate::token_error::TokenError;
use crate::transport::admission::{has_room, refuse_token};
use crate::transport::call_work::{give_ticket, refuse, run, start};
use crate::transport::caller::{Caller, Entry, HttpCall, Stage};
use crate::transport::connection::Connection;
use crate::transport::credentials::{Place, needs, verify};
use crate::transport::http::DRAINING;
use crate::transport::opener::first_message_limit;
use crate::transport::parting::part;
use crate::transport::peer::{Peer, introduce_caller};
use crate::transport::phase::Phase;
use crate::transport::posts;
use crate::transport::shared::Shared;
use crate::transport::tickets;

/// Whether a request is a call, whatever its method.
pub(crate) fn is_call(shared: &Shared, request: &Request) -> bool {
    paths(shared).has(request.path())
}

/// Whether a request is for a session that may have its place already.
pub(crate) fn is_for_session(shared: &Shared, request: &Request) -> bool {
    let paths = paths(shared);
    CallPaths { publish: None, history: None, ticket: None, ..paths }.has(request.path())
}

fn paths(shared: &Shared) -> CallPaths<'_> {
    CallPaths {
        publish: shared.config.publish_path.as_deref(),
        history: shared.config.history_path.as_deref(),
        ticket: shared.config.ticket_path.as_deref(),
        session: shared.config.session_path.as_deref().filter(|_| !shared.config.session_ttl.is_zero()),
    }
}

/// Begins with a call whose head has come.
pub(crate) fn answer(peer: &mut Peer<'_>, mut request: Request) {
    let shared = Arc::clone(&peer.connections.shared);
    let judged = if shared.is_draining() {
        Err((DRAINING, Cors::default()))
    } else {
        let longest = Longest { list: shared.config.max_message, first: first_message_limit(&shared.config) };
        paths(&shared).judge(&request, &shared.policy.origins, longest)
    };
    let (kind, cors) = match judged {
        Ok(CallHead::Call(kind, cors)) => (kind, cors),
        Ok(CallHead::Preflight(methods, cors)) => {
            let headers: Vec<_> = [("Allow", methods)].into_iter().chain(cors.preflight(methods)).collect();
            let bytes = response(204, &headers, b"").unwrap_or_default();
            return peer.say_last(&bytes, &CloseReason::Response);
        }
        Err((error, cors)) => return peer.refuse_page(&error, Some(&request), &cors),
    };
    tickets::hide(&mut request);
    let now = peer.now();
    let Some(connection) = peer.connection() else { return };
    if let Phase::Head(head) = &mut connection.phase {
        let head = std::mem::take(&mut **head);
        connection.phase = Phase::Calls(Box::new(Caller { head, ..Caller::default() }));
    }
    let Some(caller) = connection.caller() else { return };
    let call = HttpCall::new(request, kind, cors);
    caller.call = Some(Box::new(call));
    if caller.head.excess.is_none() {
        connection.deadlines.handshake(now);
    }
    connection.wake();
}

/// Goes on with a call. Returns `false` when it has to wait.
pub(crate) fn go_on(peer: &mut Peer<'_>) -> bool {
    match peer.connection().and_then(Connection::caller).and_then(|caller| caller.call.as_ref()) {
        Some(call) if call.stage == Stage::Arrived && call.needs_client() => look_at_client(peer),
        Some(call) if call.stage == Stage::Arrived => {
            if posts::may_send(peer) {
                read_body(peer);
            }
            true
        }
        Some(call) if call.stage == Stage::Waiting && !call.needs_client() => posts::deliver(peer),
        Some(call) if call.stage == Stage::Waiting => start(peer),
        Some(_) => run(peer),
        None => true,
    }
}

/// Lets the client of a call in, asks the application about it, or refuses it.
fn look_at_client(peer: &mut Peer<'_>) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    let today = shared.clock.unix_millis();
    let Some(caller) = peer.connection().and_then(Connection::caller) else { return true };
    let Some(call) = &mut caller.call else { return true };
    if let Some(verifier) = &shared.verifier {
        let needs = needs(&shared, Place::Anywhere, &call.request, None);
        if !peer.connections.may_judge(peer.key, needs) {
            return false;
        }
        // Judged for each call: the token may have been revoked.
        let Some(call) = peer.connection().and_then(|connection| connection.call()) else { return true };
        let judged = verify(&shared, verifier, Place::Anywhere, &call.request, None);
        return match judged.and_then(|verified| verified.ok_or(TokenError::Missing)) {
            Err(error) => {
                refuse_token(peer, error);
                true
            }
            Ok(verified) => {
                let identity = Arc::clone(&verified.identity);
                // Functions see all claims, so another token of the same client may be another one for them.
                let is_same = |entry: &Entry| {
                    entry.verified.as_ref().is_some_and(|known| known.claims == verified.claims)
                };
                let caller = peer.connection().and_then(Connection::caller);
                if !caller.and_then(|caller| caller.entry.as_ref()).is_some_and(is_same) {
                    part(peer);
                    let_in(peer, &identity, Entry { shown: 0, verified: Some(verified) });
                }
                read_body(peer);
                true
            }
        };
    }
    let shown = if shared.config.authenticate { shown(&call.request, &shared) } else { 0 };
    let has_ended = caller.session.identity.as_ref().is_some_and(|identity| identity.has_ended(today));
    if caller.entry.as_ref().is_some_and(|entry| entry.shown == shown) && !has_ended {
        read_body(peer);
        return true;
    }
    if !shared.config.authenticate {
        let_in(peer, &Arc::default(), Entry { shown, verified: None });
        read_body(peer);
        return true;
    }
    if !has_room(&shared) {
        peer.connections.wait_for_room(peer.key);
        return false;
    }
    part(peer);
    let Some(connection) = peer.connection() else { return true };
    let Some(caller) = connection.caller() else { return true };
    caller.entry = Some(Entry { shown, verified: None });
    if let Some(call) = &mut caller.call {
        call.stage = Stage::Deciding;
    }
    introduce_caller(peer);
    true
}

/// What the application has to judge again when it is another one: all that it sees, but what differs between calls of one program.
fn shown(request: &Request, shared: &Shared) -> u64 {
    let mut hasher = shared.hasher.build_hasher();
    (request.path(), request.query()).hash(&mut hasher);
    for (name, value) in request.all_headers() {
        if !OF_ONE_CALL.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            (name, value).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Headers that say nothing of who makes a call.
const OF_ONE_CALL: [&str; 8] = [
    "content-length",
    "content-type",
    "date",
    "expect",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// Goes on with a call whose client the application lets in.
pub(crate) fn admitted(peer: &mut Peer<'_>, identity: &Arc<Identity>, claims: Option<Arc<str>>) {
    let Some(caller) = peer.connection().and_then(Connection::caller) else { return };
    if caller.call.as_ref().is_some_and(|call| call.stage == Stage::Deciding)
        && let Some(entry) = caller.entry.take()
    {
        let verified = claims.map(|claims| Verified { identity: Arc::clone(identity), claims });
        let_in(peer, identity, Entry { verified, ..entry });
        read_body(peer);
        // Its task does not look at the socket while it waits for the application.
        peer.connection().into_iter().for_each(|connection| connection.wake());
    }
}

fn let_in(peer: &mut Peer<'_>, identity: &Arc<Identity>, entry: Entry) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection() else { return };
    let client_id = shared.public_id(connection.id);
    let Some(caller) = connection.caller() else { return };
    caller.entry = Some(entry);
    let newcomer = Newcomer { client_id: &client_id, identity, address: "" };
    begin_calls(&mut caller.session, &newcomer, &shared.terms);
}

/// Asks for the body of a call, as far as it has not come.
fn read_body(peer: &mut Peer<'_>) {
    let now = peer.now();
    let Some(connection) = peer.connection() else { return };
    let Some(caller) = connection.caller() else { return };
    if caller.head.excess.is_none() {
        connection.deadlines.calling(now);
    }
    let Some(caller) = connection.caller() else { return };
    let Some(call) = &mut caller.call else { return };
    call.stage = Stage::Reading;
    let waits = call.request.has_token("expect", "100-continue") && !call.request.is_http_1_0();
    if waits && caller.head.buffer.is_empty() && caller.missing() != Some(0) {
        peer.replies.extend_from_slice(CONTINUE);
        peer.flush_replies();
    }
    receive(peer, &[]);
}

/// Works on a part of a body.
pub(crate) fn receive(peer: &mut Peer<'_>, chunk: &[u8]) {
    let now = peer.now();
    let Some(connection) = peer.connection() else { return };
    let Some(caller) = connection.caller() else { return };
    caller.head.buffer.extend_from_slice(chunk);
    let held = caller.head.buffer.len();
    if caller.missing() != Some(0) {
        connection.deadlines.message(true, false, now);
        peer.connections.hold_input(peer.key, held);
        return peer.connections.schedule(peer.key);
    }
    connection.deadlines.message(false, true, now);
    let Some(caller) = connection.caller() else { return };
    let mut body = std::mem::take(&mut caller.head.buffer);
    let Some(call) = &mut caller.call else { return };
    // Whoever does not wait for the answer may mean something else than we do about where a request ends.
    call.is_last |= body.len() > call.length();
    body.truncate(call.length());
    if body.len() > HELD {
        // Until it is answered.
        peer.connections.hold_input(peer.key, held);
    }
    begin(peer, body);
}

fn begin(peer: &mut Peer<'_>, body: Vec<u8>) {
    let (now, per_second) = (peer.now(), peer.connections.shared.config.max_messages_per_second);
    let Some(caller) = peer.connection().and_then(Connection::caller) else { return };
    let Some(call) = &mut caller.call else { return };
    let text = |body| String::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned());
    let found = match call.kind {
        CallKind::History { .. } | CallKind::Ticket => Ok((String::new(), Publications::none())),
        CallKind::Publish { .. } => {
            text(body).and_then(|body| Publications::find(&body).map(|found| (body, found)))
        }
        CallKind::Messages { .. } => text(body).map(|body| (body, Publications::none())),
        CallKind::Session { .. } => return posts::open(peer, body),
    };
    match found {
        Err(text) => refuse(peer, 400, ErrorCode::BadMessage, &text),
        // However long it waits.
        Ok((_, found))
            if per_second > 0 && found.items.len() as u64 > u64::from(per_second) * BURST.as_secs() =>
        {
            let most = u64::from(per_second) * BURST.as_secs();
            let text = format!("a list has at most {most} publications here (max_messages_per_second)");
            refuse(peer, 400, ErrorCode::BadMessage, &text);
        }
        Ok((_, found)) if !caller.rate.allows(found.items.len().max(1) as u32, per_second, BURST, now) => {
            refuse(peer, 429, ErrorCode::LimitExceeded, "too many publications (max_messages_per_second)");
        }
        Ok(_) if call.kind == CallKind::Ticket => give_ticket(peer),
        Ok((body, found)) => {
            call.prepare(body, found);
            go_on(peer);
        }
    }
}

/// A body of so many bytes is not counted while its call is made.
const HELD: usize = 4096;

/// What a program may publish at once is what it may publish in this time.
const BURST: Duration = Duration::from_secs(5);
