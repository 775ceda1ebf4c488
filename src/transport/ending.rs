//! How connections end: by a close frame, by a last response, without a word, or because something panicked.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::protocol::http::{HttpError, Request};
use crate::protocol::origins::Cors;
use crate::session::secret_of;
use crate::transport::call_work::{self, Farewell};
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::event_stream;
use crate::transport::events::{Event, Level};
use crate::transport::peer::{Peer, write};
use crate::transport::phase::{Phase, excess_of, session_of};
use crate::transport::session_stream;
use crate::transport::sessions::{Leaving, ended, finish};

impl Peer<'_> {
    /// Sends a close frame after everything that waits, earlier publications included, and waits for the reply. Publications
    /// that the socket does not take now, or that go beyond a slice, are left out: closing does not wait for a reader. The
    /// client knows its position.
    pub fn close(&mut self, reason: CloseReason) {
        catch_up_last(self);
        let refusal = event_stream::refusal(self, &reason).or_else(|| session_stream::refusal(self, &reason));
        if let Some(bytes) = refusal {
            return self.say_last(&bytes, &reason);
        }
        match call_work::farewell(self, &reason) {
            Some(Farewell::Say(bytes)) => return self.say_last(&bytes, &reason),
            Some(Farewell::Later) => return,
            None => {}
        }
        let Some(connection) = self.live() else { return };
        if let Some(reason) = connection.route().and_then(|route| route.ending.take()) {
            return say_farewell(self, &reason);
        }
        let ahead = connection.ahead.take();
        let Some(wire) = self.wire() else { return };
        let (id, mut bytes) = (self.id(), Vec::new());
        wire.close(reason.code(), reason.text(), &id, &mut bytes);
        if wire.is_stream() {
            return self.say_last(&bytes, &reason);
        }
        let Some(Phase::Deciding(upgraded) | Phase::Open(upgraded)) = part(self, &bytes, &reason) else {
            return;
        };
        if let Some(connection) = self.connection() {
            let mut reply = upgraded.websocket.into_close_wait();
            let is_over = ahead.is_some_and(|mut ahead| {
                let (bytes, start) = ahead.input.lend();
                reply.receive(&bytes[start..])
            });
            let reply = (!is_over).then_some(reply);
            connection.phase = Phase::Closing { ended: false, reply };
        }
    }

    /// The client has closed, or broke a rule. On a websocket path the application may still finish what it has to say.
    pub fn client_ended(&mut self, reason: CloseReason) {
        self.flush_replies();
        let now = self.now();
        let Some(connection) = self.live() else { return };
        let client = connection.id;
        let Some(route) = connection.route() else { return say_farewell(self, &reason) };
        let (code, text) = (reason.number(), reason.text().to_owned());
        route.ending = Some(reason);
        connection.ahead = None;
        connection.deadlines.closing(now);
        self.connections.shared.inbox.push(Event::Ended { client, code, reason: text });
        self.connections.schedule(self.key);
    }

    /// Sends the last bytes of our side: a close frame that needs no reply, or an HTTP response.
    pub fn say_last(&mut self, bytes: &[u8], reason: &CloseReason) {
        drop(part(self, bytes, reason));
    }

    /// Answers a request with the reason why it is not served.
    pub fn refuse(&mut self, error: &HttpError, request: Option<&Request>) {
        self.refuse_page(error, request, &Cors::default());
    }

    /// The same, to a page that may read it.
    pub fn refuse_page(&mut self, error: &HttpError, request: Option<&Request>, cors: &Cors) {
        self.connections.refuse_request(|| self.connections.peer_of(self.key), error, request);
        self.say_last(&error.to_response_with(cors.headers()), &CloseReason::Response);
    }

    /// Drops the connection.
    pub fn finish(&mut self, reason: &CloseReason) {
        finish(self.connections, self.key, reason);
    }

    /// Ends the connections that broke, fell too far behind, or made the hub panic while it wrote. Other panics go on.
    pub fn end_unserved(connections: &mut Connections, written: thread::Result<()>) {
        let written = end_broken(connections, written);
        while let Some(key) = connections.sockets.overrun.pop() {
            Self::act(connections, key, |peer| peer.close(CloseReason::TooFarBehind));
        }
        while let Some((key, channel)) = connections.sockets.finished.pop() {
            Self::act(connections, key, |peer| {
                peer.converse(|session, peer| {
                    let rules = Arc::clone(&peer.connections.shared.rules);
                    session.unsubscribe_for_application(&channel, "finished", &rules, peer);
                });
                if peer.connections.hub.note_finished(key, channel.as_str()) {
                    peer.close(CloseReason::Finished);
                }
            });
        }
        written.unwrap_or_else(|panic| resume_unwind(panic));
    }

    /// Ends a connection whose handling panicked. What it was about is half done. Everything else of the shard is kept, so
    /// that it goes on from where it was interrupted.
    pub(super) fn panicked(connections: &mut Connections, key: ReaderKey) {
        connections.counters.panics.add(1);
        connections.shared.log(Level::Error, "a connection panicked and was closed");
        let can_be_told =
            |connection: &&mut Connection| connection.is_live() && !connection.io.is_handshaking();
        let upgraded =
            connections.get(key).filter(can_be_told).map(|connection| connection.upgraded().is_some());
        let closed = upgraded.is_some_and(|upgraded| {
            let close = AssertUnwindSafe(|| {
                // It does not catch up before: serving it may be what panicked.
                connections.hub.leave(key);
                let mut peer = Peer { connections: &mut *connections, key, replies: Vec::new(), routed: 0 };
                if upgraded {
                    peer.close(CloseReason::Panic);
                } else {
                    peer.refuse(&HttpError::INTERNAL, None);
                }
            });
            catch_unwind(close).is_ok()
        });
        if !closed {
            finish(connections, key, &CloseReason::Panic);
        }
        connections.commands.wake();
    }
}

/// As [`Peer::catch_up`], for a connection that is closed next. Being too far behind is not another reason.
fn catch_up_last(peer: &mut Peer<'_>) {
    peer.flush_replies();
    let (now, time) = (peer.now(), peer.connections.timestamp());
    let Connections { hub, sockets, .. } = &mut *peer.connections;
    let written = catch_unwind(AssertUnwindSafe(|| {
        let _ = hub.catch_up(peer.key, now, time, sockets);
    }));
    // Other readers that are too far behind stay in the list. The caller that is closing them closes these, too.
    peer.connections.sockets.overrun.retain(|&other| other != peer.key);
    let written = end_broken(peer.connections, written);
    written.unwrap_or_else(|panic| resume_unwind(panic));
    peer.connections.wake_for_hub();
}

/// Closes in return.
fn say_farewell(peer: &mut Peer<'_>, reason: &CloseReason) {
    let Some(wire) = peer.wire() else { return };
    let mut bytes = Vec::new();
    // Our close frame repeats the client's code, and not its words (RFC 6455 §5.5.1).
    let text = if matches!(reason, CloseReason::Client { .. }) { "" } else { reason.text() };
    wire.close(reason.code(), text, &peer.id(), &mut bytes);
    peer.say_last(&bytes, reason);
}

/// Says our last word, once. Returns what the connection was before.
fn part(peer: &mut Peer<'_>, bytes: &[u8], reason: &CloseReason) -> Option<Phase> {
    peer.flush_replies();
    let (now, key) = (peer.now(), peer.key);
    let connection = peer.live()?;
    connection.share = None;
    let mut phase = mem::replace(&mut connection.phase, Phase::Closing { ended: false, reply: None });
    connection.ahead = None;
    let (client, serial, is_parted) = (connection.id, connection.serial, connection.deadlines.is_parted());
    let leaving = Leaving::of(connection, &phase);
    connection.deadlines.last_said(now);
    connection.wake();
    // A socket that is gone shows itself to the task, which drops the connection.
    let _ = write(peer, bytes);
    peer.connections.hub.leave(key);
    peer.connections.disown(key);
    let told = reason.code().is_some() && !matches!(reason, CloseReason::Client { .. });
    let secret = session_of(&mut phase).and_then(secret_of).filter(|_| told);
    if is_parted && let Some(secret) = secret {
        let time = peer.connections.shared.config.close_timeout;
        peer.connections.farewells.add(client, (key, serial), secret, now, time);
    }
    // Its end is not waited for if nobody asks for it, or its place is needed.
    let excess = excess_of(&mut phase).and_then(Option::take);
    let is_over = is_parted && secret.is_none() || excess.is_some();
    drop(excess);
    ended(peer.connections, leaving, &mut phase, reason);
    if is_over {
        peer.finish(reason);
    }
    peer.connections.hold_output(key);
    peer.connections.schedule(key);
    Some(phase)
}

/// Gives back a panic that belongs to no connection.
fn end_broken(connections: &mut Connections, written: thread::Result<()>) -> thread::Result<()> {
    connections.count_sent();
    connections.log_losses();
    while let Some(key) = connections.sockets.spoken.pop() {
        connections.schedule(key);
    }
    let interrupted = connections.hub.interrupted();
    if let Some(key) = interrupted {
        Peer::panicked(connections, key);
    }
    while let Some(key) = connections.sockets.broken.pop() {
        Peer::act(connections, key, |peer| peer.finish(&CloseReason::Broken));
    }
    if interrupted.is_some() { Ok(()) } else { written }
}
