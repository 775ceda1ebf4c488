//! The graceful stop: everyone is asked to come back later, and the connections are closed in portions.

use std::time::Duration;

use crate::close::CloseReason;
use crate::moment::Moment;
use crate::protocol::message::ServerMessage;
use crate::session::Carrier as _;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::forgotten::end_away;
use crate::transport::peer::Peer;
use crate::transport::phase::Phase;

/// A graceful stop that has begun.
pub(crate) struct Drain {
    end: Moment,
    /// When the next connections are closed, and how many at a time.
    next: Moment,
    portion: usize,
}

impl Drain {
    /// Begins. `within` is the time that all of it may take.
    pub fn begin(connections: &mut Connections, within: Duration) -> Self {
        end_away(connections);
        let keys = connections.keys();
        // The first half of the time is for closing, the rest for what still has to be written.
        let steps = (within.as_millis() / 2 / STEP.as_millis()).max(1) as usize;
        let portion = keys.len().div_ceil(steps).max(1);
        for key in keys {
            Peer::act(connections, key, announce);
        }
        Self { end: connections.now() + within, next: connections.now(), portion }
    }

    /// Shortens the time, and closes everyone at once.
    pub fn hasten(&mut self, now: Moment, within: Duration) {
        *self = Self { end: self.end.min(now + within), next: now, portion: usize::MAX };
    }

    /// When [`Drain::advance`] has something to do.
    pub fn due(&self) -> Moment {
        self.next.min(self.end)
    }

    /// Closes a portion. Returns `true` when no connection is left or the time is over.
    pub fn advance(&mut self, connections: &mut Connections) -> bool {
        if connections.is_empty() || connections.now() >= self.end {
            for key in connections.keys() {
                Peer::act(connections, key, end);
            }
            return true;
        }
        if connections.now() < self.next {
            return false;
        }
        self.next = connections.now() + STEP;
        let ready = |connection: &Connection| connection.upgraded().is_some() && connection.outbox.is_none();
        let ready = connections.iter().filter(|(_, connection)| ready(connection)).map(|(key, _)| key);
        let keys: Vec<_> = ready.take(self.portion).collect();
        for key in keys {
            Peer::act(connections, key, send_away);
        }
        false
    }
}

fn announce(peer: &mut Peer<'_>) {
    let Some(connection) = peer.connection() else { return };
    if connection.io.is_none() {
        // Nobody can ask for the next part of its stream.
        return peer.finish(&CloseReason::Restart);
    }
    let Some(connection) = peer.live() else { return };
    match connection.phase {
        Phase::Head(_) => return peer.finish(&CloseReason::Stopped),
        Phase::Calls(_) => return peer.close(CloseReason::Restart),
        Phase::Deciding(_) | Phase::Open(_) | Phase::Closing { .. } => {}
    }
    if connection.is_open() {
        let within = peer.connections.shared.config.reconnect_window.as_millis() as u64;
        let message = ServerMessage::Reconnect { within };
        peer.converse(|_, peer| peer.reply(|out| message.write(out)));
    }
}

/// Ends a connection, because the time is over. A program that waits for its answer is told that there is none.
fn end(peer: &mut Peer<'_>) {
    if peer.live().is_some_and(|connection| connection.caller().is_some()) {
        peer.close(CloseReason::Stopped);
    }
    peer.finish(&CloseReason::Stopped);
}

/// Closes a connection that has got all that was published to it. One that is far behind, or whose socket takes no more, gets
/// another turn.
fn send_away(peer: &mut Peer<'_>) {
    if peer.catch_up() && peer.live().is_some_and(|connection| connection.outbox.is_none()) {
        peer.close(CloseReason::Restart);
    }
}

const STEP: Duration = Duration::from_millis(20);
