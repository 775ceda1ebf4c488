//! How connections end: by a close frame, by a last response, without a word, and all of them in a graceful stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::close::CloseCode;
use crate::hub::{Delivery, Outgoing, ReaderKey};
use crate::moment::Moment;
use crate::protocol::frame;
use crate::protocol::http::HttpError;
use crate::protocol::message;
use crate::protocol::websocket::WebSocket;
use crate::protocol::wire::Wire;
use crate::transport::connection::{Connection, Phase};
use crate::transport::events::{ClientId, Event, Level};
use crate::transport::http::FULL;
use crate::transport::shard::Shard;

/// A graceful stop on its way.
pub(crate) struct Drain {
    pub end: Moment,
    /// When the next connections are closed, and how many at a time.
    pub next: Moment,
    pub portion: usize,
}

/// Connections whose request is late: the first to go when the server is full.
#[derive(Default)]
pub(crate) struct Latecomers {
    /// The oldest is the last. Those that are gone or not late any more are passed over.
    clients: Vec<ClientId>,
    looked: Option<Moment>,
}

impl Shard {
    /// Sends a close frame behind everything that waits, what was published before included, and waits for the answer.
    /// What the socket does not take of the publications now, and what goes beyond a slice, is left out: closing does not
    /// wait for a reader. The client knows its position.
    pub fn close(&mut self, key: ReaderKey, code: CloseCode, reason: &str) {
        self.catch_up_last(key);
        let Some(connection) = self.live(key) else { return };
        if matches!(connection.phase, Phase::Head(_)) {
            return;
        }
        if let Some((bytes, code, reason)) = connection.extra.as_mut().and_then(|extra| extra.ending.take()) {
            return self.say_last(key, &bytes, code, &reason);
        }
        let unread = std::mem::take(&mut connection.unread);
        let mut bytes = Vec::new();
        frame::close_frame(code, reason, &mut bytes);
        let Some(websocket) = self.part(key, &bytes, code.get(), reason) else { return };
        if let Some(connection) = self.connections.get_mut(key as usize) {
            let mut farewell = websocket.into_farewell();
            let answer = (!farewell.receive(&unread)).then_some(farewell);
            connection.phase = Phase::Closing { ended: false, answer };
        }
    }

    /// Sends the last bytes of our side: a close frame that needs no answer, or an HTTP response.
    pub fn say_last(&mut self, key: ReaderKey, bytes: &[u8], code: u16, reason: &str) {
        drop(self.part(key, bytes, code, reason));
    }

    /// Says our last word, once. Gives back the receiving half of the protocol, for who waits for an answer.
    fn part(&mut self, key: ReaderKey, bytes: &[u8], code: u16, reason: &str) -> Option<WebSocket> {
        self.flush_replies(key);
        let now = self.now;
        let connection = self.live(key)?;
        let id = connection.id;
        connection.share = None;
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing { ended: false, answer: None });
        connection.unread = Vec::new();
        connection.extra = None;
        connection.keepalive.last_said(now);
        let mut sent = 0;
        if connection.deliver(Outgoing::Own(bytes), now, &mut sent) == Delivery::Refused {
            connection.block(now).push(bytes::Bytes::copy_from_slice(bytes));
        }
        connection.wake();
        let known = std::mem::take(&mut connection.known);
        self.counters.bytes_sent.add(sent);
        self.hub.leave(key);
        self.tell_closed(id, known, code, reason);
        self.hold_output(key);
        self.schedule(key);
        match phase {
            Phase::Open(protocol) | Phase::Asked(protocol) => Some(protocol.websocket),
            Phase::Head(_) | Phase::Closing { .. } => None,
        }
    }

    /// Drops a connection. `code` is what the application is told: 1006 when there was no close frame.
    pub fn finish(&mut self, key: ReaderKey, code: u16, reason: &str) {
        let Some(connection) = self.connections.try_remove(key as usize) else { return };
        self.hub.leave(key);
        connection.wake();
        self.counters.connections.sub(1);
        if matches!(connection.phase, Phase::Head(_)) {
            self.counters.refused.add(1);
        }
        self.shared.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        self.tell_closed(connection.id, connection.known, code, reason);
    }

    fn tell_closed(&self, client: ClientId, known: bool, code: u16, reason: &str) {
        self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&client);
        if known {
            self.shared.inbox.push(Event::Closed { client, code, reason: reason.to_owned() });
        }
    }

    /// Ends the connection that has been longest without its request, so that another can be accepted; `false` when no
    /// request of this shard is late. One whose request has come waits for the application, and is not to blame for it.
    pub fn make_room(&mut self, now: Moment) -> bool {
        self.now = now;
        self.look_for_latecomers();
        while let Some(client) = self.latecomers.clients.pop() {
            let Some((key, connection)) = self.find(client) else { continue };
            if matches!(connection.phase, Phase::Head(_)) {
                self.guarded(key, |shard| {
                    shard.counters.refused.add(1);
                    shard.say_last(key, &FULL.to_response(), ABNORMAL, "");
                    // It is not waited for: its descriptor is needed.
                    shard.finish(key, ABNORMAL, "");
                });
                return true;
            }
        }
        false
    }

    fn look_for_latecomers(&mut self) {
        let now = self.now;
        let Latecomers { clients, looked } = &mut self.latecomers;
        if !clients.is_empty() || looked.is_some_and(|looked| now.since(looked) < LOOK_INTERVAL) {
            return;
        }
        *looked = Some(now);
        let late = |connection: &Connection| {
            let since = connection.keepalive.shaking_since()?;
            let late = matches!(connection.phase, Phase::Head(_)) && now.since(since) >= LATE;
            late.then_some((since, connection.id))
        };
        let mut found: Vec<_> =
            self.connections.iter().filter_map(|(_, connection)| late(connection)).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        clients.extend(found.into_iter().map(|(_, client)| client));
    }

    // ---- panics ----

    /// Acts for one connection. A panic ends that connection alone, and gives `None`.
    pub fn guarded<T>(&mut self, key: ReaderKey, act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| act(self))).ok();
        if done.is_none() {
            self.panicked(key);
        }
        done
    }

    /// Ends a connection whose handling panicked. What it was about is half done; everything else of the shard is kept
    /// so that it goes on from wherever it was interrupted.
    pub fn panicked(&mut self, key: ReaderKey) {
        self.counters.panics.add(1);
        self.log(Level::Error, "a connection panicked and was closed".into());
        self.replies.clear();
        let upgraded = self
            .live(key)
            .filter(|connection| !connection.io.is_handshaking())
            .map(|connection| !matches!(connection.phase, Phase::Head(_)));
        let closed = upgraded.is_some_and(|upgraded| {
            let close = AssertUnwindSafe(|| {
                // It does not catch up before: serving it may be what panicked.
                self.hub.leave(key);
                if upgraded {
                    self.close(key, CloseCode::INTERNAL, "internal error");
                } else {
                    self.counters.refused.add(1);
                    self.say_last(key, &HttpError::INTERNAL.to_response(), ABNORMAL, "internal error");
                }
            });
            catch_unwind(close).is_ok()
        });
        if !closed {
            self.finish(key, CloseCode::INTERNAL.get(), "internal error");
        }
        self.mailbox.wake();
    }

    // ---- stopping ----

    /// Begins the graceful stop: everyone is asked to come back later, and the connections are closed in portions.
    pub fn begin_drain(&mut self, within: Duration) {
        let end = self.now + within;
        if let Some(drain) = &mut self.drain {
            *drain = Drain { end: drain.end.min(end), next: self.now, portion: usize::MAX };
            return;
        }
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key as ReaderKey).collect();
        // Half of the time for the paced closes, the rest for what they leave to be written.
        let steps = (within.as_millis() / 2 / DRAIN_STEP.as_millis()).max(1) as usize;
        self.drain = Some(Drain { end, next: self.now, portion: keys.len().div_ceil(steps).max(1) });
        let mut text = Vec::new();
        message::reconnect(within.as_millis() as u64, &mut text);
        let mut bytes = Vec::new();
        Wire::PLAIN_WEBSOCKET.text(&text, &mut bytes);
        for key in keys {
            self.guarded(key, |shard| shard.announce_drain(key, &bytes));
        }
    }

    fn announce_drain(&mut self, key: ReaderKey, reconnect: &[u8]) {
        match self.live(key).map(|connection| &connection.phase) {
            Some(Phase::Open(protocol)) if !protocol.is_route => self.send(key, reconnect),
            Some(Phase::Head(_)) => self.finish(key, ABNORMAL, "the server stops"),
            Some(Phase::Open(_) | Phase::Asked(_) | Phase::Closing { .. }) | None => {}
        }
    }

    /// Closes a portion; `true` when no connection is left or the time is over.
    pub fn drain_some(&mut self) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        if self.connections.is_empty() || self.now >= drain.end {
            let keys: Vec<_> = self.connections.iter().map(|(key, _)| key as ReaderKey).collect();
            for key in keys {
                self.guarded(key, |shard| shard.finish(key, CloseCode::RESTART.get(), "the server stops"));
            }
            return true;
        }
        if self.now < drain.next {
            return false;
        }
        drain.next = self.now + DRAIN_STEP;
        let portion = drain.portion;
        let ready = |connection: &Connection| {
            matches!(connection.phase, Phase::Open(_) | Phase::Asked(_)) && connection.outbox.is_none()
        };
        let keys: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| ready(connection))
            .map(|(key, _)| key as ReaderKey)
            .take(portion)
            .collect();
        for key in keys {
            self.guarded(key, |shard| shard.send_away(key));
        }
        false
    }

    /// Closes a connection that has got all that was published to it. One that is far behind, or whose socket takes no
    /// more, has another turn.
    fn send_away(&mut self, key: ReaderKey) {
        if self.catch_up(key) && self.live(key).is_some_and(|connection| connection.outbox.is_none()) {
            self.close(key, CloseCode::RESTART, "the server restarts");
        }
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }
}

/// What the application is told when there was no close frame (RFC 6455 §7.4.1: never on the wire).
pub(crate) const ABNORMAL: u16 = 1006;

/// From accept to the end of the request; TLS takes most of it. Later ones make room in a full server.
const LATE: Duration = Duration::from_secs(1);

/// Between two looks at all connections for late ones, so that being full does not cost more than being busy.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

const DRAIN_STEP: Duration = Duration::from_millis(20);
