//! What the server says. Each function appends one JSON text; no clock, no frame.

use super::client::Id;
use super::timestamp::Timestamp;
use crate::json::{push_number, push_string};

/// Fields of `connection_established`.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEstablished<'a> {
    pub client_id: &'a str,
    /// In seconds.
    pub heartbeat: u64,
    /// In milliseconds.
    pub tick: u64,
    /// In milliseconds.
    pub reconnect_window: u64,
    pub timestamp: Timestamp,
}

/// The first message on every connection.
pub fn connection_established(message: &ConnectionEstablished<'_>, out: &mut Vec<u8>) {
    let mut object = Object::new("connection_established", out);
    object.string("clientId", message.client_id);
    object.number("heartbeat", message.heartbeat);
    object.number("tick", message.tick);
    object.number("reconnectWindow", message.reconnect_window);
    object.timestamp(message.timestamp);
    object.end();
}

/// Fields of `subscription_established`.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionEstablished<'a> {
    pub channel: &'a str,
    pub epoch: &'a str,
    /// The reader's position: the next update is the one after it.
    pub offset: u64,
    /// Whether everything since the position in the request follows.
    pub recovered: bool,
    pub id: Option<Id<'a>>,
}

/// The answer to `subscribe_updates`, one for each channel.
pub fn subscription_established(message: &SubscriptionEstablished<'_>, out: &mut Vec<u8>) {
    let mut object = Object::new("subscription_established", out);
    object.string("channel", message.channel);
    object.string("epoch", message.epoch);
    object.number("offset", message.offset);
    object.raw("recovered", if message.recovered { b"true" } else { b"false" });
    object.id(message.id);
    object.end();
}

/// The answer to `unsubscribe_updates`, and the news that a subscription ended by itself.
pub fn subscription_ended(channel: &str, reason: &str, id: Option<Id<'_>>, out: &mut Vec<u8>) {
    let mut object = Object::new("subscription_ended", out);
    object.string("channel", channel);
    object.string("reason", reason);
    object.id(id);
    object.end();
}

/// The answer to `publish`.
pub fn published(channel: &str, offset: u64, id: Option<Id<'_>>, out: &mut Vec<u8>) {
    let mut object = Object::new("published", out);
    object.string("channel", channel);
    object.number("offset", offset);
    object.id(id);
    object.end();
}

/// The answer to `heartbeat`.
pub fn heartbeat_ack(timestamp: Timestamp, id: Option<Id<'_>>, out: &mut Vec<u8>) {
    let mut object = Object::new("heartbeat_ack", out);
    object.timestamp(timestamp);
    object.id(id);
    object.end();
}

/// Fields of `gap`.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a> {
    pub channel: &'a str,
    pub epoch: &'a str,
    /// The reader's position: the gap is what lies in `(from, to]`.
    pub from: u64,
    pub to: u64,
    pub reason: &'a str,
}

/// The news that publications will not come.
pub fn gap(message: &Gap<'_>, out: &mut Vec<u8>) {
    let mut object = Object::new("gap", out);
    object.string("channel", message.channel);
    object.string("epoch", message.epoch);
    object.number("from", message.from);
    object.number("to", message.to);
    object.string("reason", message.reason);
    object.end();
}

/// The request to come back at a random moment within so many milliseconds.
pub fn reconnect(within_millis: u64, out: &mut Vec<u8>) {
    let mut object = Object::new("reconnect", out);
    object.number("within", within_millis);
    object.end();
}

/// Fields of `error`.
#[derive(Clone, Copy, Debug)]
pub struct ErrorMessage<'a> {
    /// Stable, snake_case: for programs.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
    /// Which it is about.
    pub channel: Option<&'a str>,
    pub id: Option<Id<'a>>,
    pub timestamp: Timestamp,
}

/// The answer to a message that could not be served.
pub fn error(message: &ErrorMessage<'_>, out: &mut Vec<u8>) {
    let mut object = Object::new("error", out);
    object.string("code", message.code);
    object.string("message", message.message);
    if let Some(channel) = message.channel {
        object.string("channel", channel);
    }
    object.id(message.id);
    object.timestamp(message.timestamp);
    object.end();
}

/// A batch is this, updates with commas between them, and [`batch_suffix`].
pub const BATCH_PREFIX: &[u8] = b"{\"type\":\"batched_updates\",\"updates\":[";

/// Ends a batch of `count` updates.
pub fn batch_suffix(count: u64, timestamp: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b"],\"count\":");
    push_number(count, out);
    let mut object = Object { out };
    object.timestamp(timestamp);
    object.end();
}

/// A JSON object that is being written; `type` comes first.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    fn new(message_type: &str, out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(b"{\"type\":");
        push_string(message_type, out);
        Self { out }
    }

    /// `name` is one of ours and needs no escape.
    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        push_string(value, self.out);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        push_number(value, self.out);
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(json);
    }

    fn id(&mut self, id: Option<Id<'_>>) {
        if let Some(id) = id {
            self.raw("id", id.as_json().as_bytes());
        }
    }

    fn timestamp(&mut self, timestamp: Timestamp) {
        self.raw("timestamp", b"\"");
        timestamp.push(self.out);
        self.out.push(b'"');
    }

    fn end(self) {
        self.out.push(b'}');
    }
}
