//! Reading frames: what a client sends once it is let in.

use std::sync::Arc;

use bytes::Bytes;

use crate::close::CloseReason;
use crate::protocol::ProtocolError;
use crate::protocol::deflate::Inflater;
use crate::protocol::websocket::{Incoming, WebSocket};
use crate::protocol::wire::MessageKind;
use crate::rules::Rules;
use crate::transport::client_id::ClientId;
use crate::transport::connection::{Connection, Phase};
use crate::transport::credit::Credit;
use crate::transport::events::Event;
use crate::transport::peer::Peer;

/// What one read led to.
#[derive(Default)]
struct Outcome {
    /// Bytes that were worked on.
    taken: usize,
    /// Messages, pings and pongs in them.
    events: u32,
    /// A message was finished.
    finished: bool,
    error: Option<ProtocolError>,
}

/// Works on bytes that came from an open connection.
pub(crate) fn receive(peer: &mut Peer<'_>, chunk: &mut [u8]) {
    let now = peer.now();
    let Some(connection) = peer.live() else { return };
    connection.deadlines.heard(now);
    let Phase::Open(upgraded) = &mut connection.phase else { return };
    // Taken out while its events act on the shard.
    let mut websocket = std::mem::replace(&mut upgraded.websocket, WebSocket::new(0, None));
    let mut inflater = peer.connections.buffers.inflater.take().unwrap_or_default();
    let outcome = read(peer, &mut websocket, &mut inflater, chunk);
    peer.connections.buffers.inflater = Some(inflater);
    peer.flush_replies();
    let Some(connection) = peer.connection() else { return };
    connection.unread = chunk[outcome.taken..].to_vec();
    match &mut connection.phase {
        Phase::Open(_) => settle(peer, websocket, outcome),
        // It was closed in the middle of this read. The client's close frame comes after what was read.
        Phase::Closing { reply: Some(reply), .. } => *reply = websocket.into_close_wait(),
        Phase::Head(_) | Phase::Deciding(_) | Phase::Closing { reply: None, .. } => {}
    }
}

fn read(
    peer: &mut Peer<'_>,
    websocket: &mut WebSocket,
    inflater: &mut Inflater,
    chunk: &mut [u8],
) -> Outcome {
    let mut outcome = Outcome::default();
    let rules = Arc::clone(&peer.connections.shared.rules);
    loop {
        match websocket.receive(&mut chunk[outcome.taken..], inflater) {
            Ok((count, None)) => {
                outcome.taken += count;
                return outcome;
            }
            Ok((count, Some(event))) => {
                outcome.taken += count;
                outcome.events += 1;
                outcome.finished |= matches!(event, Incoming::Text(_) | Incoming::Binary(_));
                peer.connections.work += event.len() + WORK_OF_A_FRAME;
                if !act_on(peer, event, &rules) || peer.connections.work >= WORK_AT_A_TURN {
                    return outcome;
                }
            }
            Err(error) => {
                outcome.error = Some(error);
                return outcome;
            }
        }
    }
}

/// Acts on one frame or message. Returns `false` when the rest of the input has to wait, or is not wanted any more.
fn act_on(peer: &mut Peer<'_>, event: Incoming<'_>, rules: &Rules) -> bool {
    match event {
        Incoming::Pong(_) => return true,
        Incoming::Ping(payload) => peer.pong(payload),
        Incoming::Close { code, reason } => {
            peer.client_ended(CloseReason::Client { code, text: reason.to_owned() });
            return false;
        }
        Incoming::Text(text) => {
            peer.connections.counters.received.add(1);
            if let Some((client, credit)) = credit(peer, text.len()) {
                peer.connections.shared.inbox.push(Event::Text { client, text: text.to_owned(), credit });
            } else {
                peer.converse(|session, peer| session.receive(text, rules, peer));
            }
        }
        Incoming::Binary(data) => {
            let Some((client, credit)) = credit(peer, data.len()) else {
                peer.close(CloseReason::BinaryMessage);
                return false;
            };
            peer.connections.counters.received.add(1);
            let data = Bytes::copy_from_slice(data);
            peer.connections.shared.inbox.push(Event::Binary { client, data, credit });
        }
    }
    if peer.replies.len() >= REPLIES_AT_ONCE {
        peer.flush_replies();
    }
    let has_room = peer.connections.shared.inbox.has_room();
    peer.live().is_some_and(|connection| connection.outbox.is_none() && connection.listens() && has_room)
}

/// Takes a message off the allowance of its client. `None` where the client is not one of a websocket path.
fn credit(peer: &mut Peer<'_>, bytes: usize) -> Option<(ClientId, Credit)> {
    peer.live().and_then(Connection::route)?;
    let commands = Arc::clone(&peer.connections.commands);
    let connection = peer.live()?;
    let client = connection.id;
    connection.route().map(|route| (client, route.credit(client, bytes, &commands)))
}

/// Takes the reading half back, and judges what came.
fn settle(peer: &mut Peer<'_>, mut websocket: WebSocket, outcome: Outcome) {
    let now = peer.now();
    let per_second = peer.connections.shared.config.max_messages_per_second;
    let Some(connection) = peer.live() else { return };
    let (frames, unfinished) = (websocket.take_frames(), websocket.is_mid_message());
    let held = websocket.held_bytes();
    if let Some(upgraded) = connection.upgraded_mut() {
        upgraded.websocket = websocket;
    }
    drop(connection.share.take_if(|_| outcome.finished || held == 0));
    let frames_allowed = connection.allows_frames(frames, now);
    // A websocket path takes messages at its own pace.
    let mut session = connection.session();
    let in_pace = session.as_mut().is_none_or(|session| session.is_in_pace(outcome.events, per_second, now));
    connection.deadlines.message(unfinished, outcome.finished, now);
    if let Some(error) = outcome.error {
        peer.client_ended(CloseReason::Protocol { code: error.code(), text: error.to_string() });
    } else if !frames_allowed {
        peer.close(CloseReason::TooManyFrames);
    } else if !in_pace {
        peer.close(CloseReason::TooManyMessages);
    } else {
        peer.connections.schedule(peer.key);
        if held > 0 {
            peer.connections.hold_input(peer.key, held);
        }
    }
}

/// Sends a message of the application on a websocket path.
pub(crate) fn send_route(peer: &mut Peer<'_>, is_text: bool, data: &[u8]) {
    let Some(connection) = peer.live().filter(|connection| connection.is_open()) else { return };
    let Some(wire) = connection.upgraded().map(|upgraded| upgraded.wire) else { return };
    if connection.route().is_none() {
        return;
    }
    let mut out = Vec::with_capacity(data.len() + 10);
    let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
    peer.connections.hub.encoder().message(kind, data, wire, &mut out);
    peer.send(&out);
    let Some(connection) = peer.live() else { return };
    let waits = connection.outbox.is_some();
    let Some(route) = connection.route() else { return };
    if waits {
        route.wait(data.len());
    } else if route.delivered(data.len()) {
        tell_writable(peer);
    }
}

/// The outbox of a connection is empty.
pub(crate) fn outbox_emptied(peer: &mut Peer<'_>) {
    let route = peer.live().and_then(Connection::route);
    if route.is_some_and(|route| route.delivered_all()) {
        tell_writable(peer);
    }
}

fn tell_writable(peer: &mut Peer<'_>) {
    if let Some(client) = peer.live().map(|connection| connection.id) {
        peer.connections.shared.inbox.push(Event::Writable { client });
    }
}

/// What one connection may cost before the others have their turn, in bytes that are read and bytes that are made of them:
/// about half a millisecond. The message that passes the limit is worked on whole.
pub(crate) const WORK_AT_A_TURN: usize = 512 * 1024;

/// What a frame costs on top of its bytes, in bytes.
const WORK_OF_A_FRAME: usize = 64;

/// Replies to one read that are sent together. With more, the socket is tried before more is read.
const REPLIES_AT_ONCE: usize = 32 * 1024;
