//! What clients post whose sessions are on streams: a first message, and lists of others. These come to the session as if its connection
//! had brought them, so all that bounds the clients of WebSockets bounds these.

use std::sync::Arc;

use crate::close::{CloseCode, CloseReason};
use crate::error_code::ErrorCode;
use crate::hub::ReaderKey;
use crate::protocol::call::CallKind;
use crate::protocol::list::{List, Outline};
use crate::protocol::websocket::WebSocket;
use crate::session::{ListVerdict, Secret, Session, judge_list, last_attempt, take_list};
use crate::transport::call_work::{refuse, refuse_with, respond};
use crate::transport::caller::{HttpCall, Stage};
use crate::transport::client_id::ClientId;
use crate::transport::connection::{Connection, LITTLE, MOST_AHEAD};
use crate::transport::connections::Connections;
use crate::transport::first;
use crate::transport::on_stream::{OnStream, superseded};
use crate::transport::opener::Opener;
use crate::transport::parcel::hand_over;
use crate::transport::parting::{end_calls, part};
use crate::transport::parts::accepted_last;
use crate::transport::peer::Peer;
use crate::transport::phase::{Endpoint, Phase, Upgraded};
use crate::transport::sessions::end_session;

/// Reads the body of a request for a session, and asks who its client is.
pub(crate) fn open(peer: &mut Peer<'_>, body: Vec<u8>) {
    let shared = Arc::clone(&peer.connections.shared);
    let Ok(text) = String::from_utf8(body) else {
        return refuse(peer, 400, ErrorCode::BadMessage, "the body is not UTF-8");
    };
    let Some(caller) = peer.connection().and_then(Connection::caller) else { return };
    let (call, excess) = (caller.call.take(), caller.head.excess.take());
    let Some(HttpCall { request, cors, .. }) = call.map(|call| *call) else { return };
    end_calls(peer);
    let Some(connection) = peer.connection() else { return };
    shared.trace_connection(connection.id, connection.serial, || {
        format!("a session on a stream wanted from {}", connection.peer())
    });
    let stream = OnStream::new(cors, !request.is_http_1_0(), excess);
    let (websocket, wire) = (WebSocket::new(0, None), stream.wire());
    let opener = Opener { stream: Some(Box::new(stream)), ..Opener::new(request) };
    let endpoint = Endpoint::First(Box::new(opener));
    connection.phase = Phase::Deciding(Upgraded { websocket, wire, endpoint });
    first::receive(peer, &text);
    let held = peer.live().and_then(Connection::opener).map_or(0, |opener| opener.held());
    peer.connections.hold_input(peer.key, held);
}

/// Whether a request may send its body: a list is that of a client of a session. It moves to the shard of that. A stranger is refused.
pub(crate) fn may_send(peer: &mut Peer<'_>) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(call) = peer.connection().and_then(|connection| connection.call()) else { return false };
    let CallKind::Messages { token, .. } = &call.kind else { return true };
    if let Some((client, secret)) = shared.session_of(token) {
        if client.shard() != peer.connections.index && !shared.is_draining() {
            part(peer);
            hand_over(peer, client);
            return false;
        }
        if accepted_last(peer, client, secret).is_some() {
            return true;
        }
    }
    if let Some(caller) = peer.connection().and_then(Connection::caller)
        && let Some(call) = &mut caller.call
    {
        call.is_last |= call.length() != caller.head.buffer.len();
    }
    refuse_attempt(peer, None);
    false
}

/// Brings the list of a request to its session. Returns `false` while it has to wait.
pub(crate) fn deliver(peer: &mut Peer<'_>) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(call) = peer.connection().and_then(|connection| connection.call()) else { return true };
    let (body, CallKind::Messages { token, .. }) = (call.shared_body(), &call.kind) else { return true };
    let Some((client, secret)) = shared.session_of(token) else {
        refuse_attempt(peer, None);
        return true;
    };
    let list = match call.list.map_or_else(|| List::parse(&body).map(|list| list.outline()), Ok) {
        Ok(list) => list,
        Err(text) => {
            refuse(peer, 400, ErrorCode::BadMessage, &text);
            return true;
        }
    };
    let call = peer.connection().and_then(Connection::caller).and_then(|caller| caller.call.as_mut());
    call.into_iter().for_each(|call| call.list = Some(list));
    match judge(peer.connections, client, secret, list) {
        Ok(_) | Err(Some(_)) if list.number == 0 && end(peer, client, secret, list.attempt) => {
            respond(peer, 202, None, b"");
        }
        Err(attempt) => refuse_attempt(peer, attempt),
        Ok((_, _, ListVerdict::Skips { expected })) => {
            let text = "a list with a lower number has to come first";
            refuse_with(peer, 409, ErrorCode::OutOfOrder, text, Some(("expected", expected)));
        }
        Ok((_, false, ListVerdict::Seen)) => respond(peer, 202, None, b""),
        Ok((home, is_busy, verdict)) => {
            if !is_busy && verdict == ListVerdict::Next {
                if may_take(peer, home, body.len(), list) {
                    take(peer, home, &body);
                } else {
                    peer.connections.wait_for_room(peer.key);
                }
            }
            wait(peer, client);
            return false;
        }
    }
    true
}

/// Ends a session for its client, whatever waits. Its stream may have ended a moment before. Returns `false` if another attempt has it.
fn end(peer: &mut Peer<'_>, client: ClientId, secret: Secret, attempt: u64) -> bool {
    let reason = CloseReason::Client { code: Some(CloseCode::NORMAL), text: String::new() };
    let connections = &mut *peer.connections;
    let is_last = |session: &mut Session| last_attempt(session, secret) == Some(attempt);
    if connections.away.get(client).is_some_and(|kept| is_last(&mut kept.session)) {
        let known = connections.away.remove(client).is_some_and(|kept| kept.known);
        end_session(connections, client, known, &reason);
        return true;
    }
    let found = connections.find(client).filter(|(_, connection)| connection.is_open());
    let Some((home, connection)) = found else { return false };
    let is_on_stream = connection.upgraded().is_some_and(|upgraded| upgraded.wire.is_stream());
    if !is_on_stream || !connection.session().is_some_and(is_last) {
        return false;
    }
    Peer::act(connections, home, |peer| peer.client_ended(reason));
    true
}

/// Whether a list may wait with a session, whose body has so many bytes. A long one waits where it is until the session wants to hear it:
/// otherwise few sessions that want to hear nothing could take the room that all have. When they have taken it, others go on with
/// what needs little room or none.
fn may_take(peer: &mut Peer<'_>, home: ReaderKey, bytes: usize, list: Outline) -> bool {
    let (now, shared) = (peer.now(), Arc::clone(&peer.connections.shared));
    let Some(connection) = peer.connections.get(home) else { return false };
    let is_heard = connection.listens(now) && connection.has_room(&shared);
    if shared.budget.ahead.has_room() {
        bytes <= MOST_AHEAD || is_heard
    } else {
        is_heard && list.bytes_after_first <= LITTLE
    }
}

/// Gives a list to its session, which works on it like on what a WebSocket brings.
fn take(peer: &mut Peer<'_>, home: ReaderKey, body: &str) {
    let (now, budget) = (peer.now(), Arc::clone(&peer.connections.shared.budget));
    let Some(connection) = peer.connections.get(home) else { return };
    let Ok(list) = List::parse(body) else { return }; // it was read before
    connection.session().into_iter().for_each(take_list);
    connection.keep(&list.frames(), &budget, now);
    connection.wake();
    peer.connections.schedule(home);
}

/// Where the stream of the session is, whether a list is worked on there, and what becomes of this one.
///
/// # Errors
/// The attempt of the session that was accepted last, if there is such a session.
fn judge(
    connections: &mut Connections,
    client: ClientId,
    secret: Secret,
    list: Outline,
) -> Result<(ReaderKey, bool, ListVerdict), Option<u64>> {
    if let Some(kept) = connections.away.get(client) {
        return Err(last_attempt(&mut kept.session, secret));
    }
    let Some((key, connection)) = connections.find(client).filter(|(_, it)| it.is_open()) else {
        return Err(None);
    };
    let is_busy = connection.ahead.is_some();
    let is_stream = connection.upgraded().is_some_and(|upgraded| upgraded.wire.is_stream());
    let Some(session) = connection.session() else { return Err(None) };
    match judge_list(session, secret, list.attempt, list.number) {
        ListVerdict::Unknown => Err(None),
        ListVerdict::Superseded { attempt } => Err(Some(attempt)),
        _ if !is_stream => Err(Some(list.attempt)),
        verdict => Ok((key, is_busy, verdict)),
    }
}

/// Lets this request wait for the session.
fn wait(peer: &mut Peer<'_>, client: ClientId) {
    let Some(serial) = peer.connection().map(|connection| connection.serial) else { return };
    if let Some((key, serial)) = peer.connections.lists.wait(client, (peer.key, serial)) {
        Peer::act(peer.connections, key, |peer| {
            if peer.connection().is_some_and(|it| it.serial == serial && is_waiting(it)) {
                refuse(peer, 503, ErrorCode::Timeout, "others wait with the same: ask again");
                // Its task does not look at the socket.
                peer.connection().into_iter().for_each(|connection| connection.wake());
            }
        });
    }
}

fn is_waiting(connection: &Connection) -> bool {
    let is_list = |call: &HttpCall| matches!(call.kind, CallKind::Messages { .. });
    connection.call().is_some_and(|call| call.stage == Stage::Waiting && is_list(call))
}

fn refuse_attempt(peer: &mut Peer<'_>, attempt: Option<u64>) {
    let (status, code, text) = superseded(attempt);
    refuse_with(peer, status, code, text, attempt.map(|attempt| ("attempt", attempt)));
}
