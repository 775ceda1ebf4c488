//! One connection that is being acted on: what it is told, and how it carries a session.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::{Outcome, PublishError};
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::hub::{CaughtUp, Delivery, Outgoing, ReaderKey};
use crate::moment::Moment;
use crate::position::{Position, Subscribed};
use crate::protocol::message::Timestamp;
use crate::protocol::wire::Wire;
use crate::session::{Carrier, Question, Session};
use crate::transport::commands::Command;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::events::Event;

/// One connection, and the shard around it. Its replies are gathered here. They go to this connection or nowhere: nothing else
/// can send them.
pub(crate) struct Peer<'a> {
    pub connections: &'a mut Connections,
    pub key: ReaderKey,
    pub replies: Vec<u8>,
}

impl Peer<'_> {
    /// Acts for one connection, then sends it the replies. A panic ends that connection alone: its replies are dropped, and
    /// `None` is returned.
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
            Self::panicked(connections, key);
        }
        done.ok()
    }

    pub fn now(&self) -> Moment {
        self.connections.now()
    }

    pub fn connection(&mut self) -> Option<&mut Connection> {
        self.connections.get(self.key)
    }

    /// The connection, unless it is gone or our last word to it was said. Ask again after each call that may write to it: a
    /// socket can break in any write, and a client that does not read, or makes too many errors, is closed in the middle of
    /// its message.
    pub fn live(&mut self) -> Option<&mut Connection> {
        self.connection().filter(|connection| connection.is_live())
    }

    /// Lets the session of this connection act. It is taken out for that time, because it acts on everything around it.
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
        let Some(connection) = self.live() else { return };
        let is_route = connection.route().is_some();
        let delivery = self.write(bytes);
        let waiting = self.connection().map_or(0, |connection| connection.waiting_bytes());
        match delivery {
            Delivery::Sent => {}
            Delivery::Parked | Delivery::Refused => {
                self.connections.hub.blocked(self.key);
                self.connections.hold_output(self.key);
            }
            Delivery::Gone => return self.finish(&CloseReason::Broken),
        }
        if waiting > MAX_WAITING_ANSWERS && !is_route {
            self.close(CloseReason::AnswersNotRead);
        }
        self.connections.schedule(self.key);
    }

    /// Writes without waiting, and keeps what the socket does not take.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Delivery {
        let delivery = self.connections.sockets.write(self.key, Outgoing::Own(bytes));
        self.connections.count_sent();
        if delivery == Delivery::Refused {
            let now = self.now();
            if let Some(connection) = self.connection() {
                connection.block(now).push(Bytes::copy_from_slice(bytes));
            }
        }
        delivery
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

    /// Sends the replies and what was published to the connection, as much as its socket takes and one slice allows. Returns
    /// `false` when more is left.
    pub fn catch_up(&mut self) -> bool {
        self.flush_replies();
        let (now, time) = (self.now(), self.connections.timestamp());
        let mut caught_up = CaughtUp { cost: 0, unfinished: false };
        let Connections { hub, sockets, .. } = &mut *self.connections;
        let written = catch_unwind(AssertUnwindSafe(|| {
            caught_up = hub.catch_up(self.key, now, time, sockets);
        }));
        Self::end_unserved(self.connections, written);
        self.connections.work += caught_up.cost as usize;
        self.connections.wake_for_hub();
        !caught_up.unfinished
    }

    /// How the connection is spoken to. `None` unless it was upgraded.
    pub fn wire(&mut self) -> Option<Wire> {
        self.live()?.upgraded().map(|upgraded| upgraded.wire)
    }
}

impl Carrier for Peer<'_> {
    fn now(&self) -> Moment {
        self.connections.now()
    }

    fn timestamp(&self) -> Timestamp {
        self.connections.timestamp()
    }

    fn is_live(&self) -> bool {
        self.connections.is_live(self.key)
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = std::mem::take(&mut self.connections.buffers.text);
        text.clear();
        write(&mut text);
        self.reply_text(&text);
        self.connections.buffers.text = text;
    }

    fn catch_up(&mut self) {
        Peer::catch_up(self);
    }

    fn subscribe(&mut self, channel: &ChannelName, from: Option<Position>) -> Subscribed {
        let most = self.connections.shared.config.max_subscriptions;
        self.connections.hub.subscribe(self.key, channel, from, most)
    }

    fn subscribe_private(&mut self, channel: &ChannelName) -> Position {
        self.connections.hub.subscribe_from_start(self.key, channel)
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.connections.hub.unsubscribe(self.key, channel)
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        data: &[u8],
        key: Option<&str>,
        number: u64,
    ) -> Option<Result<u64, ErrorCode>> {
        let receipt = self.connections.shared.broker.append(channel, data, key, self.connections.now());
        if let Some(outcome) = receipt.outcome() {
            return Some(offset_or_code(outcome));
        }
        let (client, commands) = (self.connection()?.id, Arc::clone(&self.connections.commands));
        receipt.when_known(move |outcome| {
            commands.push(Command::Published(client, number, offset_or_code(outcome)));
        });
        None
    }

    fn ask(&mut self, question: Question) {
        let Some(connection) = self.live() else { return };
        connection.known = true;
        let client = connection.id;
        self.connections.shared.inbox.push(Event::Question { client, question });
    }

    fn close(&mut self, reason: CloseReason) {
        Peer::close(self, reason);
    }
}

fn offset_or_code(outcome: Outcome) -> Result<u64, ErrorCode> {
    outcome.map(|position| position.offset).map_err(|error| match error {
        PublishError::NotPublished(_) => ErrorCode::NotPublished,
        PublishError::MaybePublished(_) => ErrorCode::MaybePublished,
    })
}

/// Bytes of answers that may wait for one socket: enough for all functions that may run for a client, also with long answers.
/// The core's own answers are few, because nothing is read from a client while something waits for it. A client that reads
/// nothing at all is closed by the deadline for that.
const MAX_WAITING_ANSWERS: usize = 16 << 20;
