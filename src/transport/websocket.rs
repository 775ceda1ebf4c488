//! Reading frames: what a client sends once it is let in.

use std::sync::Arc;

use bytes::Bytes;

use crate::close::CloseReason;
use crate::protocol::ProtocolError;
use crate::protocol::deflate::Inflater;
use crate::protocol::websocket::{Incoming, WebSocket};
use crate::protocol::wire::MessageKind;
use crate::rules::Rules;
use crate::transport::alive::pong;
use crate::transport::connection::Connection;
use crate::transport::credit::text_bytes;
use crate::transport::events::Event;
use crate::transport::first;
use crate::transport::peer::{Peer, tell_writable};
use crate::transport::phase::Phase;
use crate::transport::turn::WORK_AT_A_TURN;

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

/// Works on bytes that came from an open connection. Returns how many it took: the others have to wait.
pub(crate) fn receive(peer: &mut Peer<'_>, chunk: &mut [u8]) -> usize {
    let (now, all) = (peer.now(), chunk.len());
    let Some(connection) = peer.live() else { return all };
    connection.deadlines.heard(now);
    let Some(upgraded) = connection.upgraded_mut() else { return all };
    // Taken out while its events act on the shard.
    let mut websocket = std::mem::replace(&mut upgraded.websocket, WebSocket::new(0, None));
    let mut inflater = peer.connections.buffers.inflater.take().unwrap_or_default();
    let outcome = read(peer, &mut websocket, &mut inflater, chunk);
    peer.connections.buffers.inflater = Some(inflater);
    peer.flush_replies();
    let taken = outcome.taken;
    match peer.connection().map(|connection| &mut connection.phase) {
        Some(Phase::Deciding(_) | Phase::Open(_)) => {
            settle(peer, websocket, outcome);
            return taken;
        }
        // It was closed in the middle of this read. The client's close frame comes after what was worked on.
        Some(Phase::Closing { reply, .. }) => {
            if reply.is_some() {
                let mut rest = websocket.into_close_wait();
                *reply = (!rest.receive(&chunk[taken..])).then_some(rest);
            }
        }
        Some(Phase::Head(_) | Phase::Calls(_)) | None => {}
    }
    all
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
        let window = websocket.window_bytes();
        match websocket.receive(&mut chunk[outcome.taken..], inflater) {
            Ok((count, None)) => {
                outcome.taken += count;
                return outcome;
            }
            Ok((count, Some(event))) => {
                outcome.taken += count;
                outcome.events += 1;
                outcome.finished |= matches!(event, Incoming::Text(_) | Incoming::Binary(_));
                peer.connections.work += event.len() + WORK_OF_A_FRAME + window / BYTES_COPIED;
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
        Incoming::Ping(payload) => {
            let ahead = peer.live().and_then(|connection| connection.ahead.as_mut());
            if !ahead.is_some_and(|ahead| ahead.input.is_answered()) {
                pong(peer, payload);
            }
        }
        Incoming::Close { code, reason } => {
            peer.client_ended(CloseReason::Client { code, text: reason.to_owned() });
            return false;
        }
        Incoming::Text(text) => {
            count(peer, text.len());
            if peer.live().and_then(Connection::opener).is_some() {
                first::receive(peer, text);
                return false;
            }
            if !is_route(peer) {
                let mut cost = 0;
                peer.converse(|session, peer| cost = session.receive(text, rules, peer));
                peer.connections.work += cost;
            } else if let Some((client, credit)) = peer.credit(text_bytes(text)) {
                peer.connections.tell(Event::Text { client, text: text.to_owned(), credit });
            }
        }
        Incoming::Binary(data) => {
            if !is_route(peer) {
                peer.close(CloseReason::BinaryMessage);
                return false;
            }
            count(peer, data.len());
            if let Some((client, credit)) = peer.credit(data.len()) {
                let data = Bytes::copy_from_slice(data);
                peer.connections.tell(Event::Binary { client, data, credit });
            }
        }
    }
    if peer.replies.len() >= REPLIES_AT_ONCE {
        peer.flush_replies();
    }
    let (now, has_room) = (peer.now(), peer.has_room());
    peer.live().is_some_and(|connection| connection.outbox.is_none() && connection.listens(now) && has_room)
}

/// Counts a message.
fn count(peer: &mut Peer<'_>, bytes: usize) {
    let counters = &peer.connections.counters;
    counters.received.add(1);
    counters.payload_received.add(bytes as u64);
}

fn is_route(peer: &mut Peer<'_>) -> bool {
    peer.live().and_then(Connection::route).is_some()
}

/// Takes the reading half back, and judges what came.
fn settle(peer: &mut Peer<'_>, mut websocket: WebSocket, outcome: Outcome) {
    let now = peer.now();
    let per_second = peer.connections.shared.config.max_messages_per_second;
    let Some(connection) = peer.live() else { return };
    let (frames, unfinished) = (websocket.take_frames(), websocket.is_mid_message());
    // A window is not counted: it does not end with a message, and a client that keeps quiet is no reason to close it.
    let first = connection.opener().map_or(0, |opener| opener.held());
    let held = websocket.unfinished_bytes() + first;
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

/// Adds a message of the application on a websocket path to what is sent next.
pub(crate) fn send_route(peer: &mut Peer<'_>, is_text: bool, data: &[u8]) {
    let Some(connection) = peer.live().filter(|connection| connection.is_open()) else { return };
    let Some(wire) = connection.upgraded().map(|upgraded| upgraded.wire) else { return };
    if connection.route().is_none() {
        return;
    }
    let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
    peer.connections.hub.encoder().message(kind, data, wire, &mut peer.replies);
    peer.routed += data.len();
}

/// The outbox of a connection is empty.
pub(crate) fn outbox_emptied(peer: &mut Peer<'_>) {
    let route = peer.live().and_then(Connection::route);
    if route.is_some_and(|route| route.delivered_all()) {
        tell_writable(peer);
    }
}

/// What a frame costs on top of its bytes, in bytes.
const WORK_OF_A_FRAME: usize = 64;

/// Bytes of a kept window that cost as much as one byte that is read. Each message copies it into the inflater and back: with
/// 32 KiB, 2.5 µs (November 2026).
const BYTES_COPIED: usize = 8;

/// Replies to one read that are sent together. With more, the socket is tried before more is read.
pub(crate) const REPLIES_AT_ONCE: usize = 32 * 1024;
