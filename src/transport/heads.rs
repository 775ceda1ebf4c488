//! Request heads: what is asked for, and who answers it.

use std::sync::Arc;

use crate::close::CloseReason;
use crate::protocol::handshake::is_upgrade;
use crate::protocol::http::{HttpError, Request};
use crate::transport::addresses::Said;
use crate::transport::admission::{has_room, judge, may_come_in, open};
use crate::transport::calls;
use crate::transport::event_stream;
use crate::transport::events::Level;
use crate::transport::excess::Excess;
use crate::transport::http::{CROWDED, respond};
use crate::transport::parting::end_calls;
use crate::transport::peer::Peer;
use crate::transport::phase::Phase;
use crate::transport::policy::head_limits;

/// Works on a part of a request head.
pub(crate) fn receive_head(peer: &mut Peer<'_>, chunk: &[u8]) {
    let limits = head_limits(&peer.connections.shared.config);
    let now = peer.now();
    let Some(connection) = peer.connection() else { return };
    let is_next = connection.caller().is_some();
    let Some(head) = connection.head() else { return };
    let begins = is_next && head.buffer.is_empty();
    head.buffer.extend_from_slice(chunk);
    match head.reader.read(&head.buffer, &limits) {
        Ok(None) if begins => {
            connection.deadlines.handshake(now);
            peer.connections.schedule(peer.key);
        }
        Ok(None) => {}
        Ok(Some((request, size))) => {
            head.buffer.drain(..size);
            match count_client(peer, &request) {
                Some(reason) => turn_away(peer, &request, reason),
                None => answer(peer, request),
            }
        }
        Err(error) => peer.refuse(&error, None),
    }
}

/// Goes on with a request that waited until the application has room. Returns `false` while it has none.
pub(crate) fn go_on_with_head(peer: &mut Peer<'_>) -> bool {
    if !has_room(&peer.connections.shared) {
        peer.connections.wait_for_room(peer.key);
        return false;
    }
    if let Some(Phase::Head(head)) = peer.connection().map(|connection| &mut connection.phase)
        && let Some(request) = head.request.take()
    {
        answer(peer, *request);
    }
    true
}

fn answer(peer: &mut Peer<'_>, request: Request) {
    let shared = &Arc::clone(&peer.connections.shared);
    if let Some(Phase::Head(head)) = peer.connection().map(|connection| &mut connection.phase)
        && let Some(Excess { reason, .. }) = &head.excess
        && !calls::is_for_session(shared, &request)
    {
        let reason = *reason;
        return turn_away(peer, &request, reason);
    }
    if calls::is_call(shared, &request) {
        return calls::answer(peer, request);
    }
    end_calls(peer);
    let refused = if is_upgrade(&request) {
        match judge(shared, &request) {
            // Nobody is told of a client before it has said who it is.
            Ok(handshake) if handshake.accepted.client_is_first || may_come_in(peer, &request) => {
                return open(peer, request, handshake);
            }
            Ok(_) => return hold(peer, request),
            Err(error) => error,
        }
    } else if event_stream::is_stream(shared, &request) {
        return if may_come_in(peer, &request) {
            event_stream::answer(peer, request)
        } else {
            hold(peer, request)
        };
    } else {
        match respond(shared, &request) {
            Ok(bytes) => return peer.say_last(&bytes, &CloseReason::Response),
            Err(error) => error,
        }
    };
    peer.refuse(&refused, Some(&request));
}

/// Counts a connection for the client that its proxy names. Returns why that client can't have one more.
fn count_client(peer: &mut Peer<'_>, request: &Request) -> Option<HttpError> {
    let (now, shared) = (peer.now(), Arc::clone(&peer.connections.shared));
    let connection = peer.connection()?;
    connection.counted.end_request();
    let (said, counted) = shared.addresses.count_client(|| connection.io.address(), request)?;
    if matches!(said, Said::Malformed(true)) {
        let (header, from) = (shared.config.proxy_header.name(), connection.io.peer());
        let text = "so its clients count as one (setting proxy_header); this is said once";
        shared.log(Level::Warning, format!("a proxy at {from} sends {header} that can't be read, {text}"));
    }
    let Some(counted) = counted else {
        let excess = if calls::is_for_session(&shared, request) { shared.excess.take(CROWDED) } else { None };
        let Some(excess) = excess else { return Some(CROWDED) };
        connection.deadlines.handshake(now);
        peer.connections.hurry(peer.key, excess);
        return None;
    };
    connection.counted = counted;
    None
}

/// Refuses a request whose connection is beyond a limit.
fn turn_away(peer: &mut Peer<'_>, request: &Request, reason: HttpError) {
    let shared = Arc::clone(&peer.connections.shared);
    if event_stream::is_stream(&shared, request) && !is_upgrade(request) {
        event_stream::postpone(peer, request, reason);
    } else {
        peer.refuse(&reason, Some(request));
    }
    // Its place is needed, so its end is not waited for.
    peer.finish(&CloseReason::Response);
}

/// Keeps a request until the application has room, and it is the turn of its token.
fn hold(peer: &mut Peer<'_>, request: Request) {
    if let Some(Phase::Head(head)) = peer.connection().map(|connection| &mut connection.phase) {
        head.request = Some(Box::new(request));
    }
}
