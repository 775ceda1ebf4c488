//! What the server says, as JSON text. Frames are the wire's.

use serde::Serialize;

use super::client::Id;
use super::timestamp::Timestamp;
use crate::json::push_number;
use crate::position::Epoch;

/// One message of the server, except batches of updates.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ServerMessage<'a> {
    /// The first message to a client that was let in.
    ConnectionEstablished {
        /// The client's public id.
        client_id: &'a str,
        /// In seconds.
        heartbeat: u64,
        /// In milliseconds.
        tick: u64,
        /// In milliseconds.
        reconnect_window: u64,
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
        /// Everything since the position that the client asked for follows.
        recovered: bool,
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
    /// The answer to `publish`.
    Published {
        /// The name of the channel.
        channel: &'a str,
        /// The offset of the publication.
        offset: u64,
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
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
        /// For people and programs: why.
        reason: &'a str,
    },
    /// Asks the client to connect again at a random moment within a time.
    Reconnect {
        /// In milliseconds.
        within: u64,
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
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// When it was written.
        timestamp: Timestamp,
    },
}

impl ServerMessage<'_> {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("its fields are legal JSON, and a Vec takes all of it");
    }
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
