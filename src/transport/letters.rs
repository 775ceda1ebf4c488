//! What other threads ask a shard for: letters, opened in the order in which they came.

use std::sync::atomic::Ordering;

use crate::channel::ChannelName;
use crate::close::CloseCode;
use crate::hub::ReaderKey;
use crate::protocol::message::{self, Id, SubscriptionEstablished};
use crate::protocol::wire::MessageKind;
use crate::transport::connection::{Connection, Phase};
use crate::transport::events::{ClientId, Event};
use crate::transport::mailbox::Letter;
use crate::transport::shard::Shard;

impl Shard {
    /// Does what another thread asked for.
    pub fn open_letter(&mut self, letter: Letter) {
        match letter {
            Letter::Accepted(_) => {}
            Letter::Rang(feed) => self.hub.moved(feed),
            Letter::Room => self.wake_waiting(),
            Letter::Drain(within) => self.begin_drain(within),
            Letter::Listen(client) => self.change(client, |_| {}),
            Letter::Admit(client) => self.with(client, |shard, key| shard.admit(key)),
            Letter::Private(client) => self.with_session(client, |shard, key| {
                let channel = ChannelName::private(&shard.shared.public_id(client));
                shard.open_private(key, &channel);
            }),
            Letter::Reply(client, text) => self.with(client, |shard, _| shard.reply(&text)),
            Letter::Fault(client, text) => self.with(client, |shard, key| {
                shard.reply(&text);
                shard.blame(key);
            }),
            Letter::Send(client, is_text, data) => {
                self.with(client, |shard, key| shard.send_route(key, is_text, &data))
            }
            Letter::Close(client, code, reason) => {
                self.with(client, |shard, key| {
                    shard.refuse_client(key, code, &reason);
                    shard.close(key, code, &reason);
                });
            }
            Letter::GiveWay(client, share) => self.give_way(client, share),
            Letter::Subscribe(client, channel, from, id) => self.with_session(client, |shard, key| {
                // The application's own idea: a client that has too many channels is told, and not to blame.
                let _ = shard.subscribe(key, &channel, Some(from), id.as_deref().and_then(Id::from_json));
            }),
            Letter::Unsubscribe(client, channel, reason) => self.with_session(client, |shard, key| {
                if shard.unsubscribe(key, &channel) {
                    shard.answer_with(|out| message::subscription_ended(&channel, &reason, None, out));
                }
            }),
            Letter::Answer(client, ticket, answer) => {
                self.with(client, |shard, key| shard.on_answer(key, ticket, answer));
            }
            Letter::Pause(client) => self.change(client, |connection| connection.paused = true),
            Letter::Resume(client) => self.change(client, |connection| connection.paused = false),
        }
    }

    /// Changes what a connection wants to hear.
    fn change(&mut self, client: ClientId, change: impl FnOnce(&mut Connection)) {
        if let Some((_, connection)) = self.find(client) {
            change(connection);
            connection.wake();
        }
    }

    fn with(&mut self, client: ClientId, act: impl FnOnce(&mut Self, ReaderKey)) {
        let Some((key, connection)) = self.find(client) else { return };
        if matches!(connection.phase, Phase::Head(_) | Phase::Closing { .. }) {
            return;
        }
        self.guarded(key, |shard| {
            act(shard, key);
            shard.flush_replies(key);
        });
        self.replies.clear();
    }

    /// As [`Shard::with`], for what only an established session has: channels.
    fn with_session(&mut self, client: ClientId, act: impl FnOnce(&mut Self, ReaderKey)) {
        self.with(client, |shard, key| {
            if shard.live(key).and_then(Connection::open).is_some_and(|protocol| !protocol.is_route) {
                act(shard, key);
            }
        });
    }

    /// A client that is not let in hears why before the close frame.
    fn refuse_client(&mut self, key: ReaderKey, code: CloseCode, reason: &str) {
        let Some(Phase::Asked(protocol)) = self.live(key).map(|connection| &connection.phase) else { return };
        let is_route = protocol.is_route;
        self.counters.refused.add(1);
        let name = match code {
            CloseCode::UNAUTHENTICATED => "unauthenticated",
            CloseCode::INTERNAL => "internal",
            CloseCode::TOO_MANY => "limit_exceeded",
            _ => "not_allowed",
        };
        if !is_route {
            self.answer_error(key, name, reason, None);
        }
    }

    fn open_private(&mut self, key: ReaderKey, channel: &ChannelName) {
        // From the beginning: the publication that opened it is to be delivered.
        let subscribed = self.hub.subscribe_from_start(key, channel);
        let established = SubscriptionEstablished {
            channel: channel.as_str(),
            epoch: &subscribed.epoch.to_string(),
            offset: subscribed.offset,
            recovered: false,
            id: None,
        };
        self.answer_with(|out| message::subscription_established(&established, out));
    }

    // ---- websocket routes ----

    fn send_route(&mut self, key: ReaderKey, is_text: bool, data: &[u8]) {
        let protocol = self.live(key).and_then(Connection::open).filter(|protocol| protocol.is_route);
        let Some(wire) = protocol.map(|protocol| protocol.wire) else { return };
        let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
        let mut out = Vec::with_capacity(data.len() + 10);
        self.hub.encoder().message(kind, data, wire, &mut out);
        self.send(key, &out);
        let Some(connection) = self.live(key) else { return };
        if connection.outbox.is_some() {
            connection.extra().parked += data.len();
        } else {
            self.delivered_to_route(key, data.len());
        }
    }

    /// The outbox of a connection is empty.
    pub fn unpark(&mut self, key: ReaderKey) {
        if let Some(extra) = self.live(key).and_then(|connection| connection.extra.as_mut()) {
            let parked = std::mem::take(&mut extra.parked);
            if parked > 0 {
                self.delivered_to_route(key, parked);
            }
        }
    }

    fn delivered_to_route(&mut self, key: ReaderKey, count: usize) {
        let Some(connection) = self.live(key) else { return };
        let client = connection.id;
        let Some(backlog) = connection.extra.as_ref().and_then(|extra| extra.backlog.as_ref()) else {
            return;
        };
        let before = backlog.fetch_sub(count, Ordering::AcqRel);
        if before >= HIGH_WATER && before - count < HIGH_WATER {
            self.shared.inbox.push(Event::Writable { client });
        }
    }
}

/// With so many bytes on their way, a sender on a websocket route waits for [`Event::Writable`].
pub const HIGH_WATER: usize = 64 * 1024;
