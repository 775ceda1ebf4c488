//! What the server says, as JSON text. Frames are the wire's.

use serde::Serialize;
use serde_json::value::RawValue;

use super::client::Id;
use super::timestamp::Timestamp;
use crate::json::{push_line, push_number, push_string};
use crate::position::Epoch;

/// One message of the server, except batches of updates.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ServerMessage<'a> {
    /// The first message to a client that was let in.
    ConnectionEstablished {
        /// The client's public id.
        client_id: &'a str,
        /// Who the application says that it is; `None` when it is anonymous.
        subject: Option<&'a str>,
        /// What lets the client come back.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<SessionToken<'a>>,
        /// Whether it has its session again, if it wanted one.
        #[serde(skip_serializing_if = "Option::is_none")]
        resumed: Option<bool>,
        /// Why it has not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// In seconds.
        heartbeat: u64,
        /// In milliseconds.
        tick: u64,
        /// In milliseconds.
        reconnect_window: u64,
        /// Requests with an `id` that may be unanswered.
        max_unanswered: u16,
        /// When it was written.
        timestamp: Timestamp,
    },
    /// The answer to `subscribe_updates`, one for each channel. Also tells of a subscription that the application made.
    SubscriptionEstablished {
        /// The name of the channel.
        channel: &'a str,
        /// The life of its log in which `offset` counts.
        epoch: Epoch,
        /// The client's position now: the next update is the one after it.
        offset: u64,
        /// The offset of the newest publication: a client that is there has caught up.
        top: u64,
        /// The client was subscribed before, and nothing has changed.
        #[serde(skip_serializing_if = "Option::is_none")]
        existing: Option<bool>,
        /// Where the client asked for a position: everything after that follows.
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
        /// Why it does not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// The channel has a state.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<bool>,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
    },
    /// The answer to `unsubscribe_updates`. Also tells of a subscription that the application ended.
    SubscriptionEnded {
        /// The name of the channel.
        channel: &'a str,
        /// For people and programs: why.
        reason: &'a str,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
    },
    /// The answer to `publish`, and to a change of a state.
    Published {
        /// The name of the channel.
        channel: &'a str,
        /// The life of its log in which `offset` counts.
        epoch: Epoch,
        /// The key of the publication.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        /// The offset of the publication.
        offset: u64,
        /// A conflict was resolved, and this is not what the client sent.
        #[serde(skip_serializing_if = "Option::is_none")]
        resolved: Option<bool>,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
    },
    /// The answer to `presence_update` with an `id`.
    PresenceUpdated {
        /// The name of the channel.
        channel: &'a str,
        /// The `id` of the request.
        id: Id<'a>,
    },
    /// The answer to `heartbeat`.
    HeartbeatAck {
        /// When it was written.
        timestamp: Timestamp,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
    },
    /// Tells that the publications in `(from, to]` will not come.
    Gap {
        /// The name of the channel.
        channel: &'a str,
        /// The life of its log in which `from` and `to` count.
        epoch: Epoch,
        /// The client's position before.
        from: u64,
        /// The client's position now.
        to: u64,
        /// Of a state, all of which comes anew: where its log ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        top: Option<u64>,
        /// For people and programs: why.
        reason: &'a str,
    },
    /// The answer to `authenticate` on an open connection.
    Authenticated {
        /// Who the client is, as before.
        subject: &'a str,
        /// In seconds: how long the token is good.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in: Option<u64>,
        /// When it was written.
        timestamp: Timestamp,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
    },
    /// Tells that the credentials of the client are good for a short time only.
    TokenExpiring {
        /// In seconds.
        expires_in: u64,
    },
    /// Asks the client to connect again at a random moment within a time.
    Reconnect {
        /// In milliseconds.
        within: u64,
    },
    /// The first message of an event stream.
    Connected {
        /// The client's public id.
        client_id: &'a str,
        /// Who the application says that it is; `None` when it is anonymous.
        subject: Option<&'a str>,
        /// The channel of a stream of one.
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a str>,
        /// The channels of a stream of several.
        #[serde(skip_serializing_if = "Option::is_none")]
        channels: Option<&'a [&'a str]>,
        /// When it was written.
        timestamp: Timestamp,
    },
    /// Shows that an event stream is alive, where the client wants to see that.
    Heartbeat {
        /// When it was written.
        timestamp: Timestamp,
    },
    /// The last message of an event stream that the server ends.
    Closed {
        /// As in a close frame.
        code: u16,
        /// For people.
        reason: &'a str,
        /// Whether the client should come back.
        reconnect: bool,
    },
    /// Tells that a message was not carried out.
    Error {
        /// For programs: see [`ErrorCode`](crate::error_code::ErrorCode).
        code: &'a str,
        /// For people.
        message: &'a str,
        /// The channel that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a str>,
        /// What the application has to say of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<&'a RawValue>,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// When it was written.
        timestamp: Timestamp,
    },
}

/// What a client has to say to have its session again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SessionToken<'a> {
    /// Only the client knows it.
    pub token: &'a str,
    /// In seconds: how long the session waits for it.
    pub ttl: f64,
}

impl ServerMessage<'_> {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("its fields are legal JSON, and a Vec takes all of it");
    }
}

/// Appends the answer to a message of the application: `data`, one JSON text, in an envelope.
pub fn write_result(
    message_type: &str,
    id: Option<Id<'_>>,
    data: &[u8],
    timestamp: Timestamp,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"type\":");
    push_string(message_type, out);
    out.pop(); // its quotation mark
    out.extend_from_slice(b"_result\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_json().as_bytes());
    }
    out.extend_from_slice(b",\"data\":");
    push_line(data, out);
    out.extend_from_slice(b",\"timestamp\":\"");
    timestamp.push(out);
    out.extend_from_slice(b"\"}");
}

/// A batch is this, then updates with commas between them, then [`batch_suffix`].
pub const BATCH_PREFIX: &[u8] = b"{\"type\":\"batched_updates\",\"updates\":[";

/// Ends a batch of `count` updates.
pub fn batch_suffix(count: u64, timestamp: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(b"],\"count\":");
    push_number(count, out);
    out.extend_from_slice(b",\"timestamp\":\"");
    timestamp.push(out);
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_carry_the_type_and_the_id_as_they_came_on_one_line() {
        let timestamp = Timestamp::from_unix_millis(1);
        for (message_type, id, data) in [("add", Some("\"x\""), "[1,\r\n2]"), ("\"\\\u{1}é", None, "null")] {
            let mut out = Vec::new();
            write_result(message_type, id.and_then(Id::from_json), data.as_bytes(), timestamp, &mut out);
            assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
            let body: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(body["type"], format!("{message_type}_result"));
            assert_eq!(body.get("id"), id.map(|_| "x".into()).as_ref());
            assert_eq!(body["data"], serde_json::from_str::<serde_json::Value>(data).expect("JSON"));
            assert_eq!(body["timestamp"], "1970-01-01T00:00:00.001Z");
        }
    }
}
