//! One connection that is being acted on: what it is told, and how it carries a session.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::{History, Most};
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::hub::{CaughtUp, Delivery, Outgoing, ReaderKey};
use crate::identity::Identity;
use crate::moment::Moment;
use crate::position::{Position, Start, Subscribed};
use crate::printable::Printable;
use crate::protocol::message::{Excerpt, PresenceChange, Timestamp};
use crate::protocol::wire::Wire;
use crate::publication::Content;
use crate::session::{Carrier, FoundEntry, Judged, Question, Session, Unpublished, Unseen};
use crate::transport::buffers::Buffers;
use crate::transport::client_id::ClientId;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::credentials;
use crate::transport::credit::{Credit, held_by};
use crate::transport::events::Event;
use crate::transport::members;
use crate::transport::publishing::{append, find_entry};
use crate::transport::shared::KnownClient;

/// One connection, and the shard around it. Its replies are gathered here. They go to this connection or nowhere: nothing else
/// can send them.
pub(crate) struct Peer<'a> {
    pub connections: &'a mut Connections,
    pub key: ReaderKey,
    pub replies: Vec<u8>,
    /// Bytes of messages on a websocket path among them.
    pub routed: usize,
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
            let mut peer = Peer { connections: &mut *connections, key, replies, routed: 0 };
            let outcome = act(&mut peer);
            peer.flush_replies();
            connections.buffers.replies = Buffers::kept(peer.replies);
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
        let Some(connection) = self.live() else { return };
        let client = connection.id;
        let Some(mut session) = connection.session().map(Session::lend) else { return };
        act(&mut session, self);
        let (waiting, remembered) = session.kept_bytes();
        let Connections { shared, commands, sockets, .. } = &mut *self.connections;
        let connection = sockets.slots.get_mut(self.key as usize).filter(|connection| connection.is_live());
        let Some(connection) = connection else {
            return self.connections.away.give_back(client, session);
        };
        if let Some(place) = connection.session() {
            *place = session;
            connection.hold_requests(waiting, shared, commands);
            if connection.hold_answers(remembered, shared, commands) {
                self.connections.forget_oldest_answers();
            }
        }
    }

    /// Takes a message that the application gets off what the client may say. `None` where the client is gone.
    pub fn credit(&mut self, bytes: usize) -> Option<(ClientId, Credit)> {
        let Connections { shared, commands, sockets, .. } = &mut *self.connections;
        let connection =
            sockets.slots.get_mut(self.key as usize).filter(|connection| connection.is_live())?;
        Some((connection.id, connection.credit(bytes, shared, commands)))
    }

    /// Whether the application has room for a message of this client.
    pub fn has_room(&self) -> bool {
        let Connections { shared, sockets, .. } = &*self.connections;
        sockets.slots.get(self.key as usize).is_some_and(|connection| connection.has_room(shared))
    }

    // ---- writing ----

    /// Writes messages, in order with everything else that the connection is sent, and never after our last word.
    pub fn send(&mut self, bytes: &[u8]) {
        let Some(connection) = self.live() else { return };
        let is_route = connection.route().is_some();
        let delivery = write(self, bytes);
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

    /// Sends the replies so far.
    pub fn flush_replies(&mut self) {
        if !self.replies.is_empty() {
            let mut replies = mem::take(&mut self.replies);
            let routed = mem::take(&mut self.routed);
            self.send(&replies);
            replies.clear();
            self.replies = replies;
            if routed > 0 {
                sent_route(self, routed);
            }
        }
    }

    /// Adds a JSON text to the replies.
    pub fn reply_text(&mut self, text: &[u8]) {
        if self.connection().is_some_and(|connection| connection.takes_answer(text)) {
            return;
        }
        if let Some(wire) = self.wire() {
            let id = self.id();
            wire.text_with_id(text, &id, &mut self.replies);
        }
    }

    /// What the next message of an event stream has as its `id`. Empty on other wires.
    pub(super) fn id(&mut self) -> Vec<u8> {
        let mut id = Vec::new();
        if self.wire().is_some_and(Wire::has_ids) {
            self.connections.hub.write_id(self.key, &mut id);
        }
        id
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
        self.connections.buffers.text = Buffers::kept(text);
    }

    fn catch_up(&mut self) {
        Peer::catch_up(self);
    }

    fn subscribe(&mut self, channel: &ChannelName, start: Start) -> Subscribed {
        members::open(&self.connections.shared, channel);
        let most = self.connections.shared.config.max_subscriptions;
        let subscribed =
            self.connections.hub.subscribe(self.key, channel, start, most, self.connections.now());
        if let (Subscribed::From { .. }, Some(connection)) = (&subscribed, self.connections.get(self.key)) {
            let (client, number) = (connection.id, connection.serial);
            let shared = &self.connections.shared;
            shared.trace_connection(client, number, || {
                format!("subscribed to {}", Printable(channel.as_str()))
            });
        }
        subscribed
    }

    fn restart(&mut self, channel: &str, start: Start) -> Option<Subscribed> {
        self.connections.hub.restart(self.key, channel, start, self.connections.now())
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.left(channel);
        self.connections.hub.unsubscribe(self.key, channel)
    }

    fn reads(&self, channel: &str) -> bool {
        self.connections.hub.reads(self.key, channel)
    }

    fn join(&mut self, channel: &ChannelName, subject: &str) {
        // Event streams without a session are nobody whom others see.
        if let Some(client) = self.live().map(|connection| connection.id)
            && self.wire().is_some_and(|wire| !wire.has_ids())
            && let Some(question) = members::join(&self.connections.shared, client, channel, subject)
        {
            self.ask(question);
        }
    }

    fn left(&mut self, channel: &str) {
        if let Some(client) = self.connection().map(|connection| connection.id) {
            members::leave(&self.connections.shared, client, channel);
        }
    }

    fn present(&mut self, channel: &ChannelName, change: &PresenceChange) -> Result<(), Unseen> {
        let client = self.connection().ok_or(Unseen::NotSubscribed)?.id;
        members::change(&self.connections.shared, client, channel, change)
    }

    fn channels(&self) -> Vec<ChannelName> {
        self.connections.hub.channels(self.key)
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        content: Content<'_>,
        number: u64,
    ) -> Option<Result<Position, Unpublished>> {
        let client = self.connection()?.id;
        append(self.connections, client, channel, content, number)
    }

    fn entry(&mut self, channel: &ChannelName, key: &str, base: Option<Position>) -> FoundEntry {
        let is_reader = self.connections.hub.reads(self.key, channel.as_str());
        find_entry(self.connections, channel, key, base, is_reader)
    }

    fn tell_history(&mut self, channel: &ChannelName, after: Option<Position>, most: usize) {
        let most = Most { count: most, bytes: HISTORY_BYTES };
        let history = self.connections.shared.broker.history(channel, after, most);
        let History { gap, top, entries } = &history;
        let (channel, gap, top) = (channel.as_str(), *gap, *top);
        let excerpt = Excerpt { channel, after, gap, top, publications: entries };
        self.reply(|out| excerpt.write(out));
    }

    fn ask(&mut self, question: Question) {
        if !self.has_room()
            && let Some(caller) = self.connection().and_then(Connection::caller)
            && let Some(call) = &mut caller.call
        {
            call.question = Some(question);
            return self.connections.wait_for_room(self.key);
        }
        introduce_caller(self);
        let Some((client, credit)) = self.credit(held_by(&question)) else { return };
        if let Some(connection) = self.connection() {
            connection.known = true;
        }
        self.connections.tell(Event::Question { client, question, credit });
    }

    fn judge_token(&mut self, token: Option<&str>, client: Option<&Arc<Identity>>) -> Judged {
        credentials::judge_later(self.connections, self.key, token, client)
    }

    fn close(&mut self, reason: CloseReason) {
        Peer::close(self, reason);
    }
}

/// Writes without waiting, and keeps what the socket does not take.
pub(super) fn write(peer: &mut Peer<'_>, bytes: &[u8]) -> Delivery {
    let delivery = peer.connections.sockets.write(peer.key, Outgoing::Own(bytes));
    peer.connections.count_sent();
    if delivery == Delivery::Refused {
        let now = peer.now();
        if let Some(connection) = peer.connection() {
            connection.block(now).push(Bytes::copy_from_slice(bytes));
        }
    }
    delivery
}

/// Tells the application of a program, once: before it is asked about it.
pub(crate) fn introduce_caller(peer: &mut Peer<'_>) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection().filter(|connection| !connection.known) else { return };
    let (client, from, secure) = (connection.id, connection.peer(), connection.io.is_secure());
    let public_id = shared.public_id(client);
    let number = connection.serial;
    let opening = connection.caller().and_then(|caller| caller.opening(from, secure, public_id, number));
    let Some(opening) = opening else { return };
    connection.known = true;
    let known = KnownClient { is_caller: true, connection: number, ..KnownClient::default() };
    shared.clients().insert(client, known);
    shared.inbox.push(Event::Open { client, opening });
}

/// So many bytes of messages on a websocket path are with the socket, or in the outbox.
fn sent_route(peer: &mut Peer<'_>, bytes: usize) {
    let Some(connection) = peer.live() else { return };
    let waits = connection.outbox.is_some();
    let Some(route) = connection.route() else { return };
    if waits {
        route.wait(bytes);
    } else if route.delivered(bytes) {
        tell_writable(peer);
    }
}

/// Tells the application that a sender on a websocket path may go on.
pub(super) fn tell_writable(peer: &mut Peer<'_>) {
    if let Some(client) = peer.live().map(|connection| connection.id) {
        peer.connections.shared.inbox.push(Event::Writable { client });
    }
}

/// Bytes of publications in one answer, which is made at once.
const HISTORY_BYTES: usize = 1 << 20;

/// Bytes of answers that may wait for one socket: enough for all functions that may run for a client, also with long answers.
/// The core's own answers are few, because nothing is read from a client while something waits for it. A client that reads
/// nothing at all is closed by the deadline for that.
const MAX_WAITING_ANSWERS: usize = 16 << 20;
