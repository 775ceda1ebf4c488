//! Event streams: a GET whose response does not end.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::close::{CloseCode, CloseReason};
use crate::identity::Identity;
use crate::position::Start;
use crate::printable::Printable;
use crate::protocol::event_stream::{StreamRequest, stream_channel};
use crate::protocol::http::{HttpError, Method, Request, response};
use crate::protocol::origins::check_page;
use crate::protocol::websocket::WebSocket;
use crate::protocol::wire::Wire;
use crate::session::{Newcomer, Session, begin_stream, greet_stream};
use crate::transport::admission::{Introduction, introduce, let_in, refuse_token, trace_let_in};
use crate::transport::asked::Asked;
use crate::transport::peer::Peer;
use crate::transport::phase::{Endpoint, Phase, Upgraded};
use crate::transport::renewal::look_at_credentials;
use crate::transport::shared::Shared;
use crate::transport::tickets;

/// Whether a request is for a stream, whatever its method.
pub(crate) fn is_stream(shared: &Shared, request: &Request) -> bool {
    stream_channel(request.path(), &shared.config.stream_path).is_some()
}

/// Answers a request for a stream.
pub(crate) fn answer(peer: &mut Peer<'_>, request: Request) {
    let shared = Arc::clone(&peer.connections.shared);
    match judge(&shared, &request) {
        Ok(Answer::Whole(bytes)) => peer.say_last(&bytes, &CloseReason::Response),
        Ok(Answer::Stream(asked)) if shared.is_draining() => {
            let bytes = asked.refusal(&CloseReason::Restart, Duration::ZERO, peer.connections.timestamp());
            peer.say_last(&bytes, &CloseReason::Response);
        }
        Ok(Answer::Stream(asked)) => open(peer, request, asked),
        Err(error) => peer.refuse(&error, Some(&request)),
    }
}

/// Answers a request for a stream that can't be had now, because there are too many connections.
pub(crate) fn postpone(peer: &mut Peer<'_>, request: &Request, reason: HttpError) {
    let (shared, timestamp) = (Arc::clone(&peer.connections.shared), peer.connections.timestamp());
    let Some(client) = peer.connection().map(|connection| connection.id) else { return };
    match judge(&shared, request) {
        Ok(Answer::Whole(bytes)) => peer.say_last(&bytes, &CloseReason::Response),
        Ok(Answer::Stream(asked)) => {
            peer.connections.refuse_request(|| peer.connections.peer_of(peer.key), &reason, Some(request));
            let why = CloseReason::Application { code: CloseCode::TOO_MANY, text: reason.reason.to_owned() };
            peer.say_last(&asked.refusal(&why, shared.spread(client), timestamp), &CloseReason::Response);
        }
        Err(error) => peer.refuse(&error, Some(request)),
    }
}

/// What becomes of a request.
enum Answer {
    Whole(Vec<u8>),
    Stream(Asked),
}

fn judge(shared: &Shared, request: &Request) -> Result<Answer, HttpError> {
    let cors = check_page(request, &shared.policy.origins)?;
    let method = request.method();
    if method == Method::Options {
        let headers: Vec<_> = [("Allow", METHODS)].into_iter().chain(cors.preflight(METHODS)).collect();
        return Ok(Answer::Whole(response(204, &headers, b"").unwrap_or_default()));
    }
    if !matches!(method, Method::Get | Method::Head) {
        return Err(ONLY_GET);
    }
    if request.has_body() {
        return Err(BODY);
    }
    let channel = stream_channel(request.path(), &shared.config.stream_path).unwrap_or_default();
    let stream = StreamRequest::parse(request, channel)?;
    if stream.comes_back && is_over(shared, &stream) {
        // It tells nothing to strangers: who knows the epoch has read the channel.
        let headers: Vec<_> = [("Cache-Control", "no-store")].into_iter().chain(cors.headers()).collect();
        return Ok(Answer::Whole(response(204, &headers, b"").unwrap_or_default()));
    }
    let (chunked, single, alone) = (!request.is_http_1_0(), stream.single, stream.channels.len() == 1);
    let wire = Wire::Events { chunked, single, alone };
    let asked = Asked { request: stream, wire, cors };
    Ok(if method == Method::Head { Answer::Whole(asked.head()) } else { Answer::Stream(asked) })
}

/// Whether nothing more comes in the channels of a stream, and its client has all of it.
fn is_over(shared: &Shared, stream: &StreamRequest) -> bool {
    stream.channels.iter().all(|(name, start)| match (ChannelName::new(name), start) {
        (Ok(name), Start::After(position)) => shared.broker.is_over(&name, *position),
        _ => false,
    })
}

/// Asks the application whether the client may come in.
fn open(peer: &mut Peer<'_>, mut request: Request, mut asked: Asked) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection() else { return };
    let opening = tickets::judge(&shared, connection.id, &request, &asked.request);
    tickets::hide(&mut request);
    if let (Ok(Some(opening)), Wire::Events { alone, .. }) = (&opening, &mut asked.wire) {
        // The secret is this stream's, so its events are, too.
        *alone = false;
        asked.request.positions.set_secret(&opening.secret);
    }
    shared.trace_connection(connection.id, connection.serial, || {
        format!("a stream opened from {} for {}", connection.peer(), Printable(request.path()))
    });
    let (websocket, wire) = (WebSocket::new(0, None), asked.wire);
    let endpoint = Endpoint::Asked(Box::new(asked));
    connection.phase = Phase::Deciding(Upgraded { websocket, wire, endpoint });
    match opening {
        Ok(opening) => {
            let replaces = opening.as_ref().is_some_and(|opening| opening.former.is_some());
            let verified = opening.map(|opening| opening.verified);
            let introduction = Introduction { verified, replaces, ..Introduction::of(request) };
            if let Some(identity) = introduce(peer, introduction) {
                admitted(peer, &identity);
            }
            peer.flush_replies();
        }
        Err(error) => refuse_token(peer, error),
    }
}

/// Begins a stream whose client is let in.
pub(crate) fn admitted(peer: &mut Peer<'_>, identity: &Arc<Identity>) {
    let shared = Arc::clone(&peer.connections.shared);
    let (now, key) = (peer.now(), peer.key);
    let Some(connection) = peer.connection() else { return };
    let client = connection.id;
    let Some(upgraded) = connection.upgraded_mut() else { return };
    let session = Endpoint::Umbel(Session::default());
    let Endpoint::Asked(asked) = std::mem::replace(&mut upgraded.endpoint, session) else { return };
    let_in(peer, shared.config.await_connect);
    trace_let_in(&shared, client, &identity.subject);
    let Some(connection) = peer.connection() else { return };
    connection.deadlines.streaming(now);
    connection.io.limit_silence(shared.config.write_timeout);
    let head = asked.head();
    let Asked { request, wire, .. } = *asked;
    peer.connections.hub.follow(key, request.positions);
    peer.replies.extend_from_slice(&head);
    wire.retry((SOON + shared.spread(client)).as_millis() as u64, &mut peer.replies);
    let client_id = shared.public_id(client);
    peer.converse(|session, peer| {
        let newcomer = Newcomer { client_id: &client_id, identity, address: "" };
        greet_stream(session, &newcomer, request.channels, request.named_heartbeats, peer);
        if !shared.config.await_connect {
            begin_stream(session, &shared.rules, peer);
        }
    });
    look_at_credentials(peer);
}

/// The response to the client of a stream, while it is not let in.
pub(crate) fn refusal(peer: &mut Peer<'_>, reason: &CloseReason) -> Option<Vec<u8>> {
    let (shared, timestamp) = (Arc::clone(&peer.connections.shared), peer.connections.timestamp());
    let connection = peer.live()?;
    let client = connection.id;
    Some(connection.asked()?.refusal(reason, shared.spread(client), timestamp))
}

/// A stream that breaks off comes back after this time, and its part of the window.
const SOON: Duration = Duration::from_millis(500);

const METHODS: &str = "GET, HEAD, OPTIONS";
const ONLY_GET: HttpError =
    HttpError::new(405, "an event stream is asked for with GET").with_headers(&[("Allow", METHODS)]);
const BODY: HttpError = HttpError::new(400, "the request for an event stream has no body");
