//! One connection that is being acted on, and what it is told.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use bytes::Bytes;

use crate::close::CloseReason;
use crate::hub::{CaughtUp, Delivery, Hub, Outgoing, ReaderKey};
use crate::moment::Moment;
use crate::protocol::http::HttpError;
use crate::protocol::message::Timestamp;
use crate::protocol::wire::Wire;
use crate::session::Session;
use crate::transport::connection::{Connection, Phase};
use crate::transport::connections::{Connections, Sockets};
use crate::transport::events::{Event, Level};

/// One connection, and the shard around it. Its replies are gathered here and go to this connection or nowhere: nobody else
/// can send them.
pub(crate) struct Peer<'a> {
    pub connections: &'a mut Connections,
    pub key: ReaderKey,
    pub replies: Vec<u8>,
}

impl Peer<'_> {
    /// Acts for one connection, then sends it the replies. A panic ends that connection alone, and gives `None`; its replies
    /// are dropped.
    pub fn act<T>(
        connections: &mut Connections,
        key: ReaderKey,
        act: impl FnOnce(&mut Peer<'_>) -> T,
    ) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let replies = mem::take(&mut connections.buffers.replies);
            let mut peer = Peer { connections: &mut *connections, key, replies };
            let outcome = act(&mut peer);
            peer.flush_replies();
            connections.buffers.replies = peer.replies;
            outcome
        }));
        if done.is_err() {
            panicked(connections, key);
        }
        done.ok()
    }

    pub fn now(&self) -> Moment {
        self.connections.now
    }

    pub fn connection(&mut self) -> Option<&mut Connection> {
        self.connections.get(self.key)
    }

    /// The connection, unless it is gone or our last word to it was said. Ask here again after each call that may write to
    /// it: a socket can break in any write, and a client that does not read, or errs too often, is closed in the middle of its
    /// message.
    pub fn live(&mut self) -> Option<&mut Connection> {
        self.connection().filter(|connection| connection.is_live())
    }

    /// Lets the session of this connection act. It is taken out meanwhile, because it acts on everything around it.
    pub fn converse(&mut self, act: impl FnOnce(&mut Session, &mut Self)) {
        let Some(session) = self.live().and_then(Connection::session) else { return };
        let mut session = mem::take(session);
        act(&mut session, self);
        if let Some(place) = self.live().and_then(Connection::session) {
            *place = session;
        }
    }

    // ---- writing ----

    /// Writes messages, in order with everything else that the connection is sent, and never after our last word.
    pub fn send(&mut self, bytes: &[u8]) {
        let now = self.now();
        let Some(connection) = self.live() else { return };
        let mut sent = 0;
        let delivery = connection.deliver(Outgoing::Own(bytes), now, &mut sent);
        if delivery == Delivery::Refused {
            connection.block(now).push(Bytes::copy_from_slice(bytes));
        }
        let is_route = connection.route().is_some();
        let waiting = if is_route { 0 } else { connection.waiting_bytes() };
        self.connections.counters.bytes_sent.add(sent);
        match delivery {
            Delivery::Sent => {}
            Delivery::Parked | Delivery::Refused => {
                self.connections.hub.blocked(self.key);
                self.connections.hold_output(self.key);
            }
            Delivery::Gone => return self.finish(&CloseReason::Broken),
        }
        if waiting > MAX_WAITING_ANSWERS {
            self.close(CloseReason::AnswersNotRead);
        }
        self.connections.schedule(self.key);
    }

    /// Sends the replies so far.
    pub fn flush_replies(&mut self) {
        if !self.replies.is_empty() {
            let mut replies = mem::take(&mut self.replies);
            self.send(&replies);
            replies.clear();
            self.replies = replies;
        }
    }

    /// Sends a ping.
    pub fn ping(&mut self) {
        if let Some(wire) = self.wire() {
            wire.ping(&mut self.replies);
            self.flush_replies();
        }
    }

    /// Adds a JSON text to the replies.
    pub fn reply_text(&mut self, text: &[u8]) {
        if let Some(wire) = self.wire() {
            wire.text(text, &mut self.replies);
        }
    }

    /// Answers a ping.
    pub fn pong(&mut self, payload: &[u8]) {
        if let Some(wire) = self.wire() {
            wire.pong(payload, &mut self.replies);
        }
    }

    /// Gives the connection its replies and what was published to it, as far as its socket takes it and one slice goes;
    /// `false` when there is more than that.
    pub fn catch_up(&mut self) -> bool {
        self.flush_replies();
        let (key, mut caught_up) = (self.key, CaughtUp { cost: 0, unfinished: false });
        write_to_sockets(self.connections, |hub, now, time, sockets| {
            caught_up = hub.catch_up(key, now, time, sockets);
        });
        self.connections.work += caught_up.cost as usize;
        self.connections.wake_for_hub();
        !caught_up.unfinished
    }

    // ---- the end ----

    /// The same for a connection that is closed next. Being too far behind is not another reason.
    fn catch_up_last(&mut self) {
        self.flush_replies();
        let key = self.key;
        // Other readers that are found too far behind are closed by the caller that is closing those, and not from in here.
        let written = self.connections.write(|hub, now, time, sockets| {
            let _ = hub.catch_up(key, now, time, sockets);
            sockets.overrun.retain(|&other| other != key);
        });
        end_broken(self.connections, written).unwrap_or_else(|panic| resume_unwind(panic));
        self.connections.wake_for_hub();
    }

    /// Sends a close frame after everything that waits, what was published before included, and waits for the reply.
    /// What the socket does not take of the publications now, and what goes beyond a slice, is left out: closing does not
    /// wait for a reader. The client knows its position.
    pub fn close(&mut self, reason: CloseReason) {
        self.catch_up_last();
        let Some(connection) = self.live() else { return };
        if let Some(reason) = connection.route().and_then(|route| route.ending.take()) {
            return self.say_farewell(&reason);
        }
        let unread = mem::take(&mut connection.unread);
        let Some(wire) = self.wire() else { return };
        let mut bytes = Vec::new();
        wire.close(reason.code(), reason.text(), &mut bytes);
        let Some(Phase::Deciding(upgraded) | Phase::Open(upgraded)) = self.part(&bytes, &reason) else {
            return;
        };
        if let Some(connection) = self.connection() {
            let mut farewell = upgraded.websocket.into_farewell();
            let reply = (!farewell.receive(&unread)).then_some(farewell);
            connection.phase = Phase::Closing { ended: false, reply };
        }
    }

    /// The client has closed, or was wrong. On a websocket path the application first says what it still has to say.
    pub fn client_ended(&mut self, reason: CloseReason) {
        self.flush_replies();
        let now = self.now();
        let Some(connection) = self.live() else { return };
        let client = connection.id;
        let Some(route) = connection.route() else { return self.say_farewell(&reason) };
        let (code, text) = (reason.number(), reason.text().to_owned());
        route.ending = Some(reason);
        connection.deadlines.closing(now);
        self.connections.shared.inbox.push(Event::Ended { client, code, reason: text });
        self.connections.schedule(self.key);
    }

    /// Closes in return.
    fn say_farewell(&mut self, reason: &CloseReason) {
        let Some(wire) = self.wire() else { return };
        let mut bytes = Vec::new();
        // Our close frame repeats the client's code, and not its words (RFC 6455 §5.5.1).
        let text = if matches!(reason, CloseReason::Client { .. }) { "" } else { reason.text() };
        wire.close(reason.code(), text, &mut bytes);
        self.say_last(&bytes, reason);
    }

    /// Sends the last bytes of our side: a close frame that needs no reply, or an HTTP response.
    pub fn say_last(&mut self, bytes: &[u8], reason: &CloseReason) {
        drop(self.part(bytes, reason));
    }

    /// Says our last word, once. Returns what the connection was before.
    fn part(&mut self, bytes: &[u8], reason: &CloseReason) -> Option<Phase> {
        self.flush_replies();
        let (now, key) = (self.now(), self.key);
        let connection = self.live()?;
        let client = connection.id;
        connection.share = None;
        let phase = mem::replace(&mut connection.phase, Phase::Closing { ended: false, reply: None });
        connection.unread = Vec::new();
        connection.deadlines.last_said(now);
        let mut sent = 0;
        if connection.deliver(Outgoing::Own(bytes), now, &mut sent) == Delivery::Refused {
            connection.block(now).push(Bytes::copy_from_slice(bytes));
        }
        connection.wake();
        let known = mem::take(&mut connection.known);
        self.connections.counters.bytes_sent.add(sent);
        self.connections.hub.leave(key);
        self.connections.tell_closed(client, known, reason);
        self.connections.hold_output(key);
        self.connections.schedule(key);
        Some(phase)
    }

    /// Drops the connection.
    pub fn finish(&mut self, reason: &CloseReason) {
        self.connections.finish(self.key, reason);
    }

    /// How it is spoken to, once it was upgraded.
    pub fn wire(&mut self) -> Option<Wire> {
        self.live()?.upgraded().map(|upgraded| upgraded.wire)
    }
}

/// Lets the hub write to sockets, and ends connections that turn out to be broken or too far behind.
pub(crate) fn write_to_sockets(
    connections: &mut Connections,
    write: impl FnOnce(&mut Hub, Moment, Timestamp, &mut Sockets<'_>),
) {
    let written = connections.write(write);
    let written = end_broken(connections, written);
    while let Some(key) = connections.overrun.pop() {
        Peer::act(connections, key, |peer| peer.close(CloseReason::TooFarBehind));
    }
    if let Err(panic) = written {
        resume_unwind(panic);
    }
}

/// Ends the connections that broke while the hub wrote, and the one whose serving panicked. Gives back a panic that belongs
/// to none.
fn end_broken(connections: &mut Connections, written: thread::Result<()>) -> thread::Result<()> {
    let interrupted = connections.hub.interrupted();
    if let Some(key) = interrupted {
        panicked(connections, key);
    }
    while let Some(key) = connections.broken.pop() {
        Peer::act(connections, key, |peer| peer.finish(&CloseReason::Broken));
    }
    if interrupted.is_some() { Ok(()) } else { written }
}

/// Ends a connection whose handling panicked. What it was about is half done; everything else of the shard is kept
/// so that it goes on from where it was interrupted.
fn panicked(connections: &mut Connections, key: ReaderKey) {
    connections.counters.panics.add(1);
    connections.shared.log(Level::Error, "a connection panicked and was closed");
    let can_be_told = |connection: &&mut Connection| connection.is_live() && !connection.io.is_handshaking();
    let upgraded = connections.get(key).filter(can_be_told).map(|connection| connection.upgraded().is_some());
    let closed = upgraded.is_some_and(|upgraded| {
        let close = AssertUnwindSafe(|| {
            // It does not catch up before: serving it may be what panicked.
            connections.hub.leave(key);
            let mut peer = Peer { connections: &mut *connections, key, replies: Vec::new() };
            if upgraded {
                peer.close(CloseReason::Panic);
            } else {
                peer.connections.counters.refused.add(1);
                peer.say_last(&HttpError::INTERNAL.to_response(), &CloseReason::Response);
            }
        });
        catch_unwind(close).is_ok()
    });
    if !closed {
        connections.finish(key, &CloseReason::Panic);
    }
    connections.commands.wake();
}

/// Bytes of answers that wait for one socket: those of all functions that may run for a client, and long ones. The core's own
/// are much fewer, because nothing is read from a client for whom something waits. A client that reads nothing at all is
/// closed by the deadline for that.
const MAX_WAITING_ANSWERS: usize = 16 << 20;
