//! What a client says and what the core answers by itself; everything else goes to the application.

use std::sync::Arc;

use bytes::Bytes;

use crate::channel::{ChannelName, NAME_BYTES};
use crate::close::CloseCode;
use crate::config::Access;
use crate::hub::{Due, ReaderKey, Subscribed};
use crate::json::push_line;
use crate::position::Position;
use crate::protocol::frame::{self, Opcode};
use crate::protocol::message::{
    self, ConnectionEstablished, ErrorMessage, Id, Kind, SubscriptionEstablished,
};
use crate::protocol::websocket::{Event as Frame, WebSocket};
use crate::transport::budget::Share;
use crate::transport::connection::{Ask, Phase, Wish};
use crate::transport::drive::WORK_AT_A_TURN;
use crate::transport::ending::ABNORMAL;
use crate::transport::events::{ClientId, Credit, Event};
use crate::transport::mailbox::{Answer, Letter};
use crate::transport::shard::Shard;

impl Shard {
    /// Works on bytes that came from a connection.
    pub fn receive(&mut self, key: ReaderKey, chunk: &mut [u8]) {
        match self.connections.get(key as usize).map(|connection| &connection.phase) {
            Some(Phase::Head(_)) => self.receive_head(key, chunk),
            Some(Phase::Open(_)) => self.receive_frames(key, chunk),
            Some(Phase::Asked(_)) | None => {}
            Some(Phase::Closing { .. }) => self.receive_answer(key, chunk),
        }
        if self.hub.due(self.now) == Due::Now {
            self.mailbox.wake();
        }
    }

    fn receive_frames(&mut self, key: ReaderKey, chunk: &mut [u8]) {
        let now = self.now;
        let Some(connection) = self.live(key) else { return };
        connection.keepalive.heard(now);
        let Some(protocol) = connection.open() else { return };
        let is_route = protocol.is_route;
        // Taken out while its events act on the shard.
        let mut websocket = std::mem::replace(&mut protocol.websocket, WebSocket::new(0, None));
        let mut inflater = self.inflater.take().unwrap_or_default();
        let mut taken = 0;
        let mut said = 0;
        let mut finished = false;
        let mut fault = None;
        loop {
            match websocket.receive(&mut chunk[taken..], &mut inflater) {
                Ok((count, None)) => {
                    taken += count;
                    break;
                }
                Ok((count, Some(event))) => {
                    taken += count;
                    said += 1;
                    finished |= matches!(event, Frame::Text(_) | Frame::Binary(_));
                    self.work += event.len() + WORK_OF_A_FRAME;
                    if !self.on_frame(key, event, is_route) || self.work >= WORK_AT_A_TURN {
                        break;
                    }
                }
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            }
        }
        self.inflater = Some(inflater);
        self.flush_replies(key);
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        connection.unread = chunk[taken..].to_vec();
        let protocol = match &mut connection.phase {
            Phase::Open(protocol) => protocol,
            // Closed meanwhile: the answer is looked for from where this stands.
            Phase::Closing { answer: Some(answer), .. } => {
                *answer = websocket.into_farewell();
                return;
            }
            Phase::Head(_) | Phase::Asked(_) | Phase::Closing { answer: None, .. } => return,
        };
        let (frames, unfinished) = (websocket.take_frames(), websocket.is_mid_message());
        let held = websocket.held_bytes();
        protocol.websocket = websocket;
        drop(connection.share.take_if(|_| finished || held == 0));
        let allowed = connection.allows_frames(frames, now);
        // A websocket route takes messages at its own pace.
        let limit = if is_route { 0 } else { self.shared.config.max_messages_per_second };
        let in_pace = connection.pace.allows(said, limit, now);
        connection.keepalive.message(unfinished, finished, now);
        if let Some(error) = fault {
            let mut bytes = Vec::new();
            frame::close_frame(error.code(), &error.to_string(), &mut bytes);
            self.end(key, bytes, error.code().get(), &error.to_string());
        } else if !allowed {
            self.close(key, CloseCode::POLICY, "too many frames");
        } else if !in_pace {
            self.close(key, CloseCode::TOO_MANY, "too many messages in too short a time");
        } else {
            self.schedule(key);
            if held > 0 {
                self.hold(key, held);
            }
        }
    }

    /// Waits for the answer to our close frame.
    fn receive_answer(&mut self, key: ReaderKey, chunk: &[u8]) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Phase::Closing { answer, .. } = &mut connection.phase else { return };
        answer.take_if(|farewell| farewell.receive(chunk));
    }

    // ---- the budget ----

    /// Notes what a connection holds for an unfinished message.
    fn hold(&mut self, key: ReaderKey, bytes: usize) {
        let budget = Arc::clone(&self.shared.budget);
        let Some(connection) = self.live(key) else { return };
        let client = connection.id;
        connection.share.get_or_insert_with(|| budget.share(client)).hold(bytes);
        self.keep_to_budget();
    }

    /// Notes what waits for a socket, when it is more than a little.
    pub fn hold_output(&mut self, key: ReaderKey) {
        let budget = Arc::clone(&self.shared.budget);
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let client = connection.id;
        if let Some(outbox) = connection.outbox.as_mut().filter(|outbox| outbox.own_bytes() > UNCOUNTED) {
            let bytes = outbox.own_bytes();
            outbox.share.get_or_insert_with(|| budget.share(client)).hold(bytes);
            self.keep_to_budget();
        }
    }

    /// Where too much is held, the oldest shares of the server end with their connections.
    fn keep_to_budget(&self) {
        while let Some((client, number)) = self.shared.budget.excess() {
            if let Some(mailbox) = self.shared.mailbox(client) {
                mailbox.push(Letter::GiveWay(client, number));
            }
        }
    }

    /// Ends a connection for the sake of others, unless what it was about has ended meanwhile.
    pub fn give_way(&mut self, client: ClientId, number: u64) {
        let is_it = |share: &Option<Share>| share.as_ref().is_some_and(|share| share.number() == number);
        let Some((key, connection)) = self.find(client) else { return };
        if connection.outbox.as_ref().is_some_and(|outbox| is_it(&outbox.share)) {
            // A close frame would only wait behind what is not read.
            self.guarded(key, |shard| shard.finish(key, ABNORMAL, "too much waits to be read"));
        } else if is_it(&connection.share) {
            let reason = "too much is held for unfinished messages";
            self.guarded(key, |shard| shard.close(key, CloseCode::TRY_LATER, reason));
        }
    }

    /// Acts on one frame or message; `false` when the rest of the input has to wait, or is not wanted any more.
    fn on_frame(&mut self, key: ReaderKey, event: Frame<'_>, is_route: bool) -> bool {
        match event {
            Frame::Ping(payload) => frame::pong(payload, &mut self.replies),
            Frame::Pong(_) => return true,
            Frame::Close { code, reason } => {
                let mut answer = Vec::new();
                match code {
                    Some(code) => frame::close_frame(code, "", &mut answer),
                    None => frame::empty_close_frame(&mut answer),
                }
                self.end(key, answer, code.map_or(NO_CODE, CloseCode::get), reason);
                return false;
            }
            Frame::Text(text) if is_route => {
                self.counters.received.add(1);
                let Some((client, credit)) = self.credit(key, text.len()) else { return false };
                self.shared.inbox.push(Event::Text { client, text: text.to_owned(), credit });
            }
            Frame::Binary(data) if is_route => {
                self.counters.received.add(1);
                let Some((client, credit)) = self.credit(key, data.len()) else { return false };
                self.shared.inbox.push(Event::Binary { client, data: Bytes::copy_from_slice(data), credit });
            }
            Frame::Text(text) => {
                self.counters.received.add(1);
                self.on_text(key, text);
            }
            Frame::Binary(_) => {
                self.close(key, CloseCode::UNSUPPORTED, "this protocol has text messages only");
                return false;
            }
        }
        if self.replies.len() >= REPLIES_AT_ONCE {
            self.flush_replies(key);
        }
        let Some(connection) = self.live(key) else { return false };
        connection.outbox.is_none() && connection.listens() && self.shared.inbox.has_room()
    }

    fn credit(&mut self, key: ReaderKey, amount: usize) -> Option<(ClientId, Credit)> {
        let connection = self.live(key)?;
        let (client, untaken) = (connection.id, Arc::clone(&connection.extra().untaken));
        Some((client, Credit::new(client, amount, &untaken, &self.mailbox)))
    }

    /// The client closes, or was wrong. On a websocket route the application first answers what came before.
    fn end(&mut self, key: ReaderKey, last: Vec<u8>, code: u16, reason: &str) {
        self.flush_replies(key);
        let now = self.now;
        let Some(connection) = self.live(key) else { return };
        let client = connection.id;
        if connection.extra.as_ref().is_none_or(|extra| extra.backlog.is_none()) {
            return self.say_last(key, &last, code, reason);
        }
        connection.extra().ending = Some((last, code, reason.to_owned()));
        connection.keepalive.closing(now);
        self.shared.inbox.push(Event::Ended { client, code, reason: reason.to_owned() });
        self.schedule(key);
    }

    fn on_text(&mut self, key: ReaderKey, text: &str) {
        let message = match message::parse(text) {
            Ok(message) => message,
            Err(error) => return self.answer_error(key, error.code(), &error.to_string(), error.id()),
        };
        let id = message.id;
        match message.kind {
            Kind::Heartbeat => {
                let time = self.timestamp();
                self.answer_with(|out| message::heartbeat_ack(time, id, out));
            }
            Kind::Subscribe { channels, position } => {
                let from = position.and_then(|position| {
                    Some(Position { epoch: position.epoch.parse().ok()?, offset: position.offset })
                });
                for channel in channels {
                    if self.live(key).is_none() {
                        break;
                    }
                    self.wish(key, &channel, Wish::Subscribe { from }, id);
                }
            }
            Kind::Unsubscribe { channels } => {
                self.catch_up(key);
                for channel in channels {
                    if self.live(key).is_none() {
                        break;
                    }
                    self.wish(key, &channel, Wish::Unsubscribe, id);
                }
            }
            Kind::Publish { channel, data, key: publication_key } => {
                let wish = Wish::Publish {
                    data: Bytes::copy_from_slice(data.as_bytes()),
                    key: publication_key.map(|key| key.into_owned().into()),
                };
                self.wish(key, &channel, wish, id);
            }
            Kind::Application { message_type } => {
                let Some(connection) = self.live(key) else { return };
                connection.known = true;
                let client = connection.id;
                self.shared.inbox.push(Event::Message {
                    client,
                    kind: message_type.into_owned(),
                    id: id.map(|id| id.as_json().to_owned()),
                    text: Bytes::copy_from_slice(text.as_bytes()),
                });
            }
        }
    }

    // ---- subscribing and publishing ----

    /// What a client wants of a channel. It waits for what the client wanted of this channel before: otherwise a
    /// publication would overtake the subscription that is to get it, while the application decides about that.
    fn wish(&mut self, key: ReaderKey, channel: &str, wish: Wish, id: Option<Id<'_>>) {
        let Some(name) = self.legal_name(key, channel, id) else { return };
        let asks =
            self.live(key).and_then(|connection| connection.extra.as_mut()).map(|extra| &mut extra.asks);
        if let Some(asks) = asks.filter(|asks| asks.iter().any(|ask| ask.channel == name)) {
            asks.push(Ask { ticket: None, id: id.map(|id| id.as_json().into()), channel: name, wish });
            return;
        }
        match wish {
            Wish::Subscribe { from } => self.wish_subscribe(key, name, from, id),
            Wish::Unsubscribe => self.wish_unsubscribe(key, channel, id),
            wish @ Wish::Publish { .. } => self.wish_publish(key, name, wish, id),
        }
    }

    fn wish_subscribe(
        &mut self,
        key: ReaderKey,
        name: ChannelName,
        from: Option<Position>,
        id: Option<Id<'_>>,
    ) {
        let (shared, channel) = (Arc::clone(&self.shared), name.as_str());
        let Some((rule, access, params)) =
            shared.rules.find(channel).map(|(index, rule, params)| (index, rule.subscribe, params))
        else {
            return self.refuse_wish(key, "unknown_channel", "there is no such channel here", channel, id);
        };
        match access {
            Access::Open => self.subscribe_as_wished(key, &name, from, id),
            Access::No => {
                self.refuse_wish(key, "not_allowed", "nobody may subscribe to this channel", channel, id);
            }
            Access::Ask => {
                let params = params.into_iter().map(str::to_owned).collect();
                let channel = channel.to_owned();
                let Some((client, ticket)) = self.ask(key, name, Wish::Subscribe { from }, id) else {
                    return;
                };
                self.shared.inbox.push(Event::Subscribe { client, ticket, rule, channel, params });
            }
        }
    }

    /// The caller has it catch up before.
    fn wish_unsubscribe(&mut self, key: ReaderKey, channel: &str, id: Option<Id<'_>>) {
        if self.hub.unsubscribe(key, channel) {
            self.answer_with(|out| message::subscription_ended(channel, "unsubscribed", id, out));
        } else {
            self.refuse_wish(key, "not_subscribed", "you are not subscribed to this channel", channel, id);
        }
    }

    fn wish_publish(&mut self, key: ReaderKey, name: ChannelName, wish: Wish, id: Option<Id<'_>>) {
        let (shared, channel) = (Arc::clone(&self.shared), name.as_str());
        let Some((rule, access, params)) =
            shared.rules.find(channel).map(|(index, rule, params)| (index, rule.publish, params))
        else {
            return self.refuse_wish(key, "unknown_channel", "there is no such channel here", channel, id);
        };
        if let Some(id) = id {
            let extra = self.live(key).and_then(|connection| connection.extra.as_ref());
            let published = extra.and_then(|extra| {
                extra
                    .published
                    .iter()
                    .find(|(other, name, _)| **other == *id.as_json() && name.as_str() == channel)
            });
            if let Some(&(_, _, offset)) = published {
                return self.answer_with(|out| message::published(channel, offset, Some(id), out));
            }
        }
        let Wish::Publish { data, key: publication_key } = wish else { return };
        match access {
            Access::Open => self.publish(key, &name, &data, publication_key.as_deref(), id),
            Access::No => {
                self.refuse_wish(key, "not_allowed", "clients may not publish to this channel", channel, id);
            }
            Access::Ask => {
                let params = params.into_iter().map(str::to_owned).collect();
                let channel = channel.to_owned();
                let event_key = publication_key.as_deref().map(str::to_owned);
                let wish = Wish::Publish { data: data.clone(), key: publication_key };
                let Some((client, ticket)) = self.ask(key, name, wish, id) else { return };
                let event = Event::Publish { client, ticket, rule, channel, params, data, key: event_key };
                self.shared.inbox.push(event);
            }
        }
    }

    fn legal_name(&mut self, key: ReaderKey, channel: &str, id: Option<Id<'_>>) -> Option<ChannelName> {
        match ChannelName::new(channel) {
            Ok(name) => Some(name),
            Err(error) => {
                self.refuse_wish(key, "bad_channel", &error.to_string(), channel, id);
                None
            }
        }
    }

    fn subscribe_as_wished(
        &mut self,
        key: ReaderKey,
        channel: &ChannelName,
        from: Option<Position>,
        id: Option<Id<'_>>,
    ) {
        if !self.subscribe(key, channel, from, id) {
            self.blame(key);
        }
    }

    /// Subscribes and answers; `false` when the client has as many channels as it may have.
    pub fn subscribe(
        &mut self,
        key: ReaderKey,
        channel: &ChannelName,
        from: Option<Position>,
        id: Option<Id<'_>>,
    ) -> bool {
        let (position, recovered) =
            match self.hub.subscribe(key, channel, from, self.shared.config.max_subscriptions) {
                Subscribed::From { position, recovered } => (position, recovered),
                Subscribed::Already { position } => (position, false),
                Subscribed::TooMany => {
                    let text = format!("at most {} subscriptions", self.shared.config.max_subscriptions);
                    self.answer_failure("limit_exceeded", &text, Some(channel.as_str()), id);
                    return false;
                }
            };
        let established = SubscriptionEstablished {
            channel: channel.as_str(),
            epoch: &position.epoch.to_string(),
            offset: position.offset,
            recovered,
            id,
        };
        self.answer_with(|out| message::subscription_established(&established, out));
        true
    }

    fn publish(
        &mut self,
        key: ReaderKey,
        channel: &ChannelName,
        data: &[u8],
        publication_key: Option<&str>,
        id: Option<Id<'_>>,
    ) {
        let offset = self.shared.broker.append(channel, data, publication_key, self.now).offset;
        if let Some(id) = id
            && let Some(connection) = self.live(key)
        {
            let published = &mut connection.extra().published;
            if published.len() >= REMEMBERED_PUBLISHES {
                published.pop_front();
            }
            published.push_back((id.as_json().into(), channel.clone(), offset));
        }
        self.answer_with(|out| message::published(channel.as_str(), offset, id, out));
    }

    /// Notes a question to the application, to be answered by its ticket.
    fn ask(
        &mut self,
        key: ReaderKey,
        channel: ChannelName,
        wish: Wish,
        id: Option<Id<'_>>,
    ) -> Option<(ClientId, u64)> {
        let connection = self.live(key)?;
        connection.known = true;
        let client = connection.id;
        let extra = connection.extra();
        extra.next_ticket += 1;
        let ticket = extra.next_ticket;
        extra.asks.push(Ask { ticket: Some(ticket), id: id.map(|id| id.as_json().into()), channel, wish });
        Some((client, ticket))
    }

    pub fn on_answer(&mut self, key: ReaderKey, ticket: u64, answer: Answer) {
        let Some(connection) = self.live(key) else { return };
        connection.wake();
        let Some(extra) = &mut connection.extra else { return };
        let Some(index) = extra.asks.iter().position(|ask| ask.ticket == Some(ticket)) else { return };
        let Ask { id, channel, wish, .. } = extra.asks.remove(index);
        let id = id.as_deref().and_then(Id::from_json);
        match (answer, wish) {
            (Answer::Yes, Wish::Subscribe { from }) => self.subscribe_as_wished(key, &channel, from, id),
            (Answer::Yes, Wish::Publish { data, key: publication_key }) => {
                self.publish(key, &channel, &data, publication_key.as_deref(), id);
            }
            (Answer::Yes, Wish::Unsubscribe) => {}
            (Answer::No { code, message }, _) if matches!(code.as_str(), "internal" | "timeout") => {
                self.answer_failure(&code, &message, Some(channel.as_str()), id);
            }
            (Answer::No { code, message }, _) => {
                self.refuse_wish(key, &code, &message, channel.as_str(), id);
            }
        }
        self.go_on_wishing(key, &channel);
    }

    /// Grants or asks what waited for an answer about a channel, up to the next that has to be asked.
    fn go_on_wishing(&mut self, key: ReaderKey, channel: &ChannelName) {
        let Some(extra) = self.live(key).and_then(|connection| connection.extra.as_mut()) else { return };
        let waits = |ask: &mut Ask| ask.channel == *channel;
        let waiting: Vec<_> = extra.asks.extract_if(.., waits).collect();
        if waiting.iter().any(|ask| matches!(ask.wish, Wish::Unsubscribe)) {
            self.catch_up(key);
        }
        // Each waits again behind the first that is asked.
        for Ask { id, wish, .. } in waiting {
            self.wish(key, channel.as_str(), wish, id.as_deref().and_then(Id::from_json));
        }
    }

    // ---- answers ----

    /// The first message of every connection.
    pub fn greet(&mut self, key: ReaderKey) {
        let Some(client) = self.live(key).map(|connection| connection.id) else { return };
        let shared = Arc::clone(&self.shared);
        let message = ConnectionEstablished {
            client_id: &shared.public_id(client),
            heartbeat: shared.config.heartbeat.as_secs_f64().ceil() as u64,
            tick: shared.config.tick.as_millis() as u64,
            reconnect_window: RECONNECT_WINDOW,
            timestamp: self.timestamp(),
        };
        self.answer_with(|out| message::connection_established(&message, out));
    }

    /// Puts one message behind the other answers to this read.
    pub fn answer_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        write(&mut text);
        self.reply(&text);
        self.scratch = text;
    }

    pub fn reply(&mut self, text: &[u8]) {
        frame::encode_header(Opcode::Text, false, true, text.len(), &mut self.replies);
        push_line(text, &mut self.replies);
    }

    pub fn answer_error(&mut self, key: ReaderKey, code: &str, text: &str, id: Option<Id<'_>>) {
        self.answer_failure(code, text, None, id);
        self.blame(key);
    }

    /// As [`Shard::answer_error`], and says which channel it is about: of several in one message they have the same id.
    fn refuse_wish(&mut self, key: ReaderKey, code: &str, text: &str, channel: &str, id: Option<Id<'_>>) {
        let named = (channel.len() <= NAME_BYTES).then_some(channel);
        self.answer_failure(code, text, named, id);
        self.blame(key);
    }

    /// An error that is not the client's.
    fn answer_failure(&mut self, code: &str, text: &str, channel: Option<&str>, id: Option<Id<'_>>) {
        let error = ErrorMessage { code, message: text, channel, id, timestamp: self.timestamp() };
        self.answer_with(|out| message::error(&error, out));
    }

    /// Notes a mistake of the client, and closes it when it makes too many.
    pub fn blame(&mut self, key: ReaderKey) {
        let now = self.now;
        if self.live(key).is_some_and(|connection| !connection.conduct.tolerates(now)) {
            self.close(key, CloseCode::POLICY, "too many errors");
        }
    }
}

/// Bytes that may wait for a socket uncounted.
const UNCOUNTED: usize = 64 * 1024;

/// What a frame costs beside its bytes, in bytes.
const WORK_OF_A_FRAME: usize = 64;

/// What the application is told of a close frame without a code (RFC 6455 §7.4.1: never on the wire).
const NO_CODE: u16 = 1005;

/// Answers of one read that are sent together; with more, the socket is tried before more is read.
const REPLIES_AT_ONCE: usize = 32 * 1024;

/// Publishes of one connection whose `id` is remembered, so that a repetition is not published again.
const REMEMBERED_PUBLISHES: usize = 32;

/// Advice to clients that lose their connection without a word: come back within so many milliseconds.
const RECONNECT_WINDOW: u64 = 2000;
