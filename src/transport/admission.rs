//! From the request for a WebSocket to an open connection: upgrade, the application's decision, the greeting.

use std::sync::Arc;

use crate::close::{CloseCode, CloseReason};
use crate::identity::Identity;
use crate::jwt::Verified;
use crate::own_path::is_reserved_path;
use crate::printable::Printable;
use crate::protocol::handshake::{Upgrade, upgrade};
use crate::protocol::http::{HttpError, INNER_SLASH, Request};
use crate::protocol::websocket::WebSocket;
use crate::session::{Newcomer, Session, Wanted, tell_refused};
use crate::token_error::TokenError;
use crate::transport::addresses::network;
use crate::transport::client_id::ClientId;
use crate::transport::connection::Connection;
use crate::transport::credentials::{Place, needs, verify};
use crate::transport::error_response::{error_of, token_refusal};
use crate::transport::events::{Event, Opening};
use crate::transport::http::DRAINING;
use crate::transport::opener::{Opener, first_message_limit};
use crate::transport::peer::Peer;
use crate::transport::phase::{Endpoint, Phase, Upgraded};
use crate::transport::renewal::look_at_credentials;
use crate::transport::shared::{KnownClient, Shared};

/// Whether the application can be told of one more client. Where it is told of none, it always can.
pub(crate) fn has_room(shared: &Shared) -> bool {
    !is_told(shared) || shared.inbox.has_room()
}

/// Whether a client may come in with its request alone: the application can be told of it, and it is the turn of its token. Otherwise
/// the request has to wait.
pub(crate) fn may_come_in(peer: &mut Peer<'_>, request: &Request) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    has_room(&shared) && peer.connections.may_judge(peer.key, needs(&shared, Place::Anywhere, request, None))
}

/// Whether the application can be told that a client has come back to its session.
pub(crate) fn has_room_to_return(shared: &Shared) -> bool {
    !is_told(shared) || shared.inbox.has_room_to_return()
}

fn is_told(shared: &Shared) -> bool {
    let config = &shared.config;
    config.authenticate || config.notify_connect || !config.websocket_routes.is_empty()
}

/// An accepted handshake, and what it is for.
pub(crate) struct Handshake {
    pub accepted: Upgrade,
    /// Index of the websocket path, and its parameters.
    route: Option<usize>,
    params: Vec<String>,
}

/// Judges a request for a WebSocket.
///
/// # Errors
/// The refusal.
pub(crate) fn judge(shared: &Shared, request: &Request) -> Result<Handshake, HttpError> {
    if shared.is_draining() {
        return Err(DRAINING);
    }
    let (route, params) = find_route(shared, request)?;
    let policy = if route.is_some() { &shared.route_policy } else { &shared.policy };
    Ok(Handshake { accepted: upgrade(request, policy)?, route, params })
}

/// Upgrades a connection, and asks the application whether it may come in.
pub(crate) fn open(peer: &mut Peer<'_>, request: Request, handshake: Handshake) {
    let shared = Arc::clone(&peer.connections.shared);
    let Handshake { accepted, route, params } = handshake;
    let window = accepted.deflate.map(|parameters| parameters.server_max_window_bits);
    let wire = peer.connections.hub.encoder().wire(window);
    let mut websocket = WebSocket::new(shared.config.max_message, accepted.deflate);
    peer.replies.extend_from_slice(&accepted.response);
    let now = peer.now();
    let Some(connection) = peer.connection() else { return };
    shared.trace_connection(connection.id, connection.serial, || {
        format!("opened from {} for {}", connection.peer(), Printable(request.path()))
    });
    let introduction = Introduction { route, params, ..Introduction::of(request) };
    let (endpoint, introduction) = match route {
        Some(_) => (Endpoint::Route(Box::default()), Some(introduction)),
        None if accepted.client_is_first => {
            websocket.limit_messages(first_message_limit(&shared.config));
            (Endpoint::First(Box::new(Opener::new(introduction.request))), None)
        }
        None => (Endpoint::Umbel(Session::default()), Some(introduction)),
    };
    let deciding = Phase::Deciding(Upgraded { websocket, wire, endpoint });
    if let Phase::Head(head) = std::mem::replace(&mut connection.phase, deciding)
        && !head.buffer.is_empty()
    {
        connection.keep(&head.buffer, &shared.budget, now);
    }
    if let Some(introduction) = introduction
        && let Some(identity) = introduce(peer, introduction)
    {
        admit(peer, &identity);
    }
    // Sent before more is read, so that a client that has ended its side gets it, too.
    peer.flush_replies();
}

/// What the application is told of a client.
pub(crate) struct Introduction {
    pub request: Request,
    /// Index of the websocket path, and its parameters.
    pub route: Option<usize>,
    pub params: Vec<String>,
    /// What the client calls itself in its first message.
    pub token: Option<String>,
    /// Whom its token names, where that was verified already.
    pub verified: Option<Verified>,
    /// Another connection of the client ends, which had its place.
    pub replaces: bool,
    /// It may be the client of a session that began with another token. Whether it is, follows.
    pub other_credential: bool,
}

impl Introduction {
    /// Of a client that has sent a request, and nothing else.
    pub fn of(request: Request) -> Self {
        let (params, token, verified) = (Vec::new(), None, None);
        Self { request, route: None, params, token, verified, replaces: false, other_credential: false }
    }

    pub fn opening(self, connection: &Connection, public_id: String) -> Box<Opening> {
        let Self { request, route, params, token, verified, other_credential, .. } = self;
        let opening =
            Opening::new(request, connection.peer(), connection.io.is_secure(), public_id, connection.serial);
        Box::new(Opening { route, params, token, verified, other_credential, ..opening })
    }
}

/// Judges the token of a client, and tells the application of it. Returns who it is: the caller lets it in. `None`: the application
/// says it later, or it was refused.
pub(crate) fn introduce(peer: &mut Peer<'_>, mut introduction: Introduction) -> Option<Arc<Identity>> {
    let shared = Arc::clone(&peer.connections.shared);
    if let Some(verifier) = shared.verifier.as_ref().filter(|_| introduction.verified.is_none()) {
        let (request, said) = (&introduction.request, introduction.token.as_deref());
        match verify(&shared, verifier, Place::Anywhere, request, said) {
            Ok(verified) => introduction.verified = verified,
            Err(error) => {
                refuse_token(peer, error);
                return None;
            }
        }
    }
    if let Some(verified) = &introduction.verified
        && !take_seat(peer, &verified.identity, introduction.replaces)
    {
        return None;
    }
    let connection = peer.connection()?;
    let identity = introduction.verified.as_ref().map(|verified| Arc::clone(&verified.identity));
    let client = connection.id;
    let backlog = connection.route().map(|route| Arc::clone(&route.backlog));
    let is_route = backlog.is_some();
    connection.known = is_route || shared.config.authenticate || shared.config.notify_connect;
    shared
        .clients()
        .insert(client, KnownClient { backlog, connection: connection.serial, ..KnownClient::default() });
    if connection.known {
        let opening = introduction.opening(connection, shared.public_id(client));
        shared.inbox.push(Event::Open { client, opening });
    }
    identity.or_else(|| (!shared.config.authenticate).then(Arc::default))
}

/// Takes a place for a client whose token was verified here, or closes its connection when its subject has as many as it may have.
fn take_seat(peer: &mut Peer<'_>, identity: &Identity, replaces: bool) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    if shared.verifier.is_none() {
        return true; // the application counts
    }
    let Some(seat) = shared.subjects.take(&identity.subject, replaces) else {
        refuse_seat(peer);
        return false;
    };
    let commands = Arc::clone(&peer.connections.commands);
    if let Some(connection) = peer.connection().filter(|_| seat.is_counted()) {
        connection.pending(&shared, &commands).seat = seat;
        shared.give_way(&identity.subject);
    }
    true
}

/// Closes a connection whose subject has as many as it may have.
pub(crate) fn refuse_seat(peer: &mut Peer<'_>) {
    let text = "this identity has as many connections as it may have (max_connections_per_identity)";
    close_for_application(peer, CloseCode::TOO_MANY, text.to_owned());
}

/// The websocket path that a request is for, with its parameters. `None` for the Umbel protocol.
fn find_route(shared: &Shared, request: &Request) -> Result<(Option<usize>, Vec<String>), HttpError> {
    let path = request.segments();
    if path == shared.config.websocket_path {
        return Ok((None, Vec::new()));
    }
    let mut routes = shared.routes.iter().enumerate().filter(|_| !is_reserved_path(request.path()));
    let found = routes.find_map(|(index, route)| Some((index, route.matches(path)?)));
    let (index, params) = found.ok_or(HttpError::NOT_FOUND)?;
    Ok((Some(index), params.into_iter().map(|value| value.replace(INNER_SLASH, "/")).collect()))
}

/// Lets a client in that has not spoken first.
pub(crate) fn admit(peer: &mut Peer<'_>, identity: &Arc<Identity>) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection() else { return };
    let client = connection.id;
    let is_session = match &connection.phase {
        Phase::Deciding(upgraded) => matches!(upgraded.endpoint, Endpoint::Umbel(_)),
        Phase::Head(_) | Phase::Calls(_) | Phase::Open(_) | Phase::Closing { .. } => return,
    };
    if is_session {
        return greet(peer, identity, None);
    }
    let_in(peer, false);
    trace_let_in(&shared, client, &identity.subject);
    if let Some(route) = peer.live().and_then(Connection::route) {
        route.identity = Some(Arc::clone(identity));
    }
    look_at_credentials(peer);
}

pub(crate) fn trace_let_in(shared: &Shared, client: ClientId, subject: &str) {
    shared.trace_client(client, || match subject {
        "" => "let in".to_owned(),
        subject => format!("let in as {}", Printable(subject)),
    });
}

/// Lets a client in, and begins its session. What it has `lost` is another one, and why.
pub(crate) fn greet(peer: &mut Peer<'_>, identity: &Arc<Identity>, lost: Option<(&str, Box<Wanted>)>) {
    let shared = Arc::clone(&peer.connections.shared);
    let_in(peer, shared.config.await_connect);
    let Some(client) = peer.connection().map(|connection| connection.id) else { return };
    trace_let_in(&shared, client, &identity.subject);
    let client_id = shared.public_id(client);
    let address = |it: &mut Connection| it.counted.client().or_else(|| it.io.address());
    let network = peer.connection().and_then(address).map(network);
    peer.converse(|session, peer| {
        let address = network.map_or_else(String::new, |network| network.to_string());
        let newcomer = Newcomer { client_id: &client_id, identity, address: &address };
        session.greet(&newcomer, lost, &shared.terms, &shared.rules, peer);
    });
    look_at_credentials(peer);
}

/// Opens the way between a client and its session. The session speaks next.
pub(crate) fn let_in(peer: &mut Peer<'_>, paused: bool) {
    let (now, most) = (peer.now(), peer.connections.shared.config.max_message);
    let Some(connection) = peer.connection() else { return };
    let closing = Phase::Closing { ended: true, reply: None };
    let Phase::Deciding(mut upgraded) = std::mem::replace(&mut connection.phase, closing) else { return };
    upgraded.websocket.limit_messages(most);
    let wire = upgraded.wire;
    connection.phase = Phase::Open(upgraded);
    connection.share = None;
    connection.paused = paused;
    connection.deadlines.opened(now);
    connection.wake();
    let is_blocked = connection.outbox.is_some();
    peer.connections.hub.join(peer.key, wire);
    if is_blocked {
        peer.connections.hub.blocked(peer.key);
    }
}

/// Ends a connection whose client is not let in by its token, and says why.
pub(crate) fn refuse_token(peer: &mut Peer<'_>, error: TokenError) {
    let (timestamp, shared) = (peer.connections.timestamp(), &peer.connections.shared);
    let reason = CloseReason::Token { code: error.close_code(), text: error.text() };
    shared.trace(|| format!("a token was refused: {}", error.name()));
    let shared = Arc::clone(shared);
    let Some(connection) = peer.live() else { return };
    if let Some(asked) = connection.asked() {
        let response = asked.token_refusal(error, shared.spread(connection.id), timestamp);
        return peer.say_last(&response, &reason);
    }
    if let Some(call) = connection.call() {
        let response = token_refusal(error, &call.cors, timestamp);
        return peer.say_last(&response, &reason);
    }
    if connection.route().is_none() {
        tell_refused(error, peer);
    }
    peer.close(reason);
}

/// Closes a client in the name of the application. One that was not let in hears why before the close frame.
pub(crate) fn close_for_application(peer: &mut Peer<'_>, code: CloseCode, text: String) {
    if peer.live().is_some_and(|connection| matches!(connection.phase, Phase::Deciding(_))) {
        let speaks =
            |connection: &mut Connection| connection.route().is_none() && connection.asked().is_none();
        if peer.live().is_some_and(speaks) {
            Session::default().refuse(error_of(code), &text, None, peer);
        }
    }
    peer.close(CloseReason::Application { code, text });
}
