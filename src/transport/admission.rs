//! From the request to an open connection: upgrade, the application's decision, the greeting.

use crate::close::{CloseCode, CloseReason};
use crate::config::is_reserved_path;
use crate::error_code::ErrorCode;
use crate::protocol::handshake::{is_upgrade, upgrade};
use crate::protocol::http::{HeadLimits, HttpError, Request};
use crate::protocol::websocket::WebSocket;
use crate::session::{Greeting, Session};
use crate::transport::connection::{Endpoint, Phase, Upgraded};
use crate::transport::events::{Event, Opening};
use crate::transport::http::{DRAINING, respond};
use crate::transport::peer::Peer;
use crate::transport::shared::{KnownClient, Shared};

/// Works on a part of a request head.
pub(crate) fn receive_head(peer: &mut Peer<'_>, chunk: &[u8]) {
    let Some(connection) = peer.connection() else { return };
    let Phase::Head(head) = &mut connection.phase else { return };
    head.buffer.extend_from_slice(chunk);
    let answered = match head.reader.read(&head.buffer, &HeadLimits::default()) {
        Ok(None) => return,
        Ok(Some((request, size))) => {
            connection.unread = head.buffer[size..].to_vec();
            answer(peer, request)
        }
        Err(error) => Err(error),
    };
    if let Err(error) = answered {
        peer.connections.counters.refused.add(1);
        peer.say_last(&error.to_response(), &CloseReason::Response);
    }
}

fn answer(peer: &mut Peer<'_>, request: Request) -> Result<(), HttpError> {
    if is_upgrade(&request) {
        return open(peer, request);
    }
    let bytes = respond(&peer.connections.shared, &request)?;
    peer.say_last(&bytes, &CloseReason::Response);
    Ok(())
}

/// Upgrades a connection, and asks the application whether it may come in.
fn open(peer: &mut Peer<'_>, request: Request) -> Result<(), HttpError> {
    let shared = std::sync::Arc::clone(&peer.connections.shared);
    if shared.is_draining() {
        return Err(DRAINING);
    }
    let (route, params) = find_route(&shared, request.path())?;
    let policy = if route.is_some() { &shared.route_policy } else { &shared.policy };
    let accepted = upgrade(&request, policy)?;
    let window = accepted.deflate.map(|parameters| parameters.server_max_window_bits);
    let wire = peer.connections.hub.encoder().wire(window);
    let websocket = WebSocket::new(shared.config.max_message, accepted.deflate);
    let endpoint = match route {
        Some(_) => Endpoint::Route(Box::default()),
        None => Endpoint::Umbel(Session::default()),
    };
    peer.replies.extend_from_slice(&accepted.response);
    let Some(connection) = peer.connection() else { return Ok(()) };
    let client = connection.id;
    let backlog = match &endpoint {
        Endpoint::Route(route) => Some(std::sync::Arc::clone(&route.backlog)),
        Endpoint::Umbel(_) => None,
    };
    connection.phase = Phase::Deciding(Upgraded { websocket, wire, endpoint });
    connection.known = route.is_some() || shared.config.authenticate || shared.config.notify_connect;
    shared.clients().insert(client, KnownClient { backlog, has_private: false });
    if connection.known {
        let (peer, secure) = (connection.io.peer(), connection.io.is_secure());
        let public_id = shared.public_id(client);
        let opening = Box::new(Opening { peer, secure, route, params, public_id, request });
        shared.inbox.push(Event::Open { client, opening });
    }
    if !shared.config.authenticate {
        admit(peer);
    }
    // Sent before more is read, so that a client that has ended its side gets it, too.
    peer.flush_replies();
    Ok(())
}

/// The websocket path that a request is for, with its parameters. `None` for the Umbel protocol.
fn find_route(shared: &Shared, path: &str) -> Result<(Option<usize>, Vec<String>), HttpError> {
    if path == shared.config.websocket_path {
        return Ok((None, Vec::new()));
    }
    let mut routes = shared.routes.iter().enumerate().filter(|_| !is_reserved_path(path));
    let found = routes.find_map(|(index, route)| Some((index, route.matches(path)?)));
    let (index, params) = found.ok_or(HttpError::NOT_FOUND)?;
    Ok((Some(index), params.into_iter().map(str::to_owned).collect()))
}

/// Lets a client in.
pub(crate) fn admit(peer: &mut Peer<'_>) {
    let now = peer.now();
    let await_connect = peer.connections.shared.config.await_connect;
    let Some(connection) = peer.connection() else { return };
    if !matches!(connection.phase, Phase::Deciding(_)) {
        return;
    }
    let closing = Phase::Closing { ended: true, reply: None };
    let Phase::Deciding(upgraded) = std::mem::replace(&mut connection.phase, closing) else { return };
    let is_session = matches!(upgraded.endpoint, Endpoint::Umbel(_));
    let wire = upgraded.wire;
    connection.phase = Phase::Open(upgraded);
    connection.paused = await_connect && is_session;
    connection.deadlines.opened(now);
    connection.wake();
    let (client, is_blocked) = (connection.id, connection.outbox.is_some());
    peer.connections.hub.join(peer.key, wire);
    if is_blocked {
        peer.connections.hub.blocked(peer.key);
    }
    let shared = std::sync::Arc::clone(&peer.connections.shared);
    let (client_id, config) = (shared.public_id(client), &shared.config);
    let greeting = Greeting { client_id: &client_id, heartbeat: config.heartbeat, tick: config.tick };
    peer.converse(|session, peer| session.greet(&greeting, peer));
    peer.connections.schedule(peer.key);
}

/// Closes a client in the name of the application. One that was not let in hears why before the close frame.
pub(crate) fn close_for_application(peer: &mut Peer<'_>, code: CloseCode, text: String) {
    if peer.live().is_some_and(|connection| matches!(connection.phase, Phase::Deciding(_))) {
        peer.connections.counters.refused.add(1);
        let error = match code {
            CloseCode::UNAUTHENTICATED => ErrorCode::Unauthenticated,
            CloseCode::INTERNAL => ErrorCode::Internal,
            CloseCode::TOO_MANY => ErrorCode::LimitExceeded,
            _ => ErrorCode::NotAllowed,
        };
        peer.converse(|session, peer| session.reply_error(error, &text, None, None, peer));
    }
    peer.close(CloseReason::Application { code, text });
}
