//! The hub's side of a socket: what it hands over, and what it learns.

use bytes::Bytes;

use crate::channel::ChannelName;
use crate::hub::keys::ReaderKey;
use crate::position::GapReason;

/// Where frames go: the connections of the shard.
pub trait Outbound {
    /// Writes bytes for a reader without waiting.
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery;

    /// A reader was told that publications of a channel will not come.
    fn lost(&mut self, channel: &ChannelName, reason: GapReason);

    /// A reader has all of a channel in which nothing more comes. Its owner unsubscribes it after this flush.
    fn finished(&mut self, reader: ReaderKey, channel: &ChannelName);

    /// Ends a reader that is too far behind in a channel with `overrun="close"` (close code 4413).
    fn overrun(&mut self, reader: ReaderKey);
}

/// Bytes on their way to a socket.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// Shared with other readers: what the socket does not take can be kept without a copy.
    Shared(&'a Bytes),
    /// Made for this reader alone: a rest has to be copied.
    Own(&'a [u8]),
}

impl Outgoing<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// The socket took them all.
    Sent,
    /// The socket took a part, the connection keeps the rest. The reader is blocked.
    Parked,
    /// The socket took nothing. The reader is blocked, and its cursor stays.
    Refused,
    /// The connection has ended. Its owner will call [`Hub::leave`](crate::hub::Hub::leave).
    Gone,
}

impl Delivery {
    /// The bytes count as sent.
    pub(super) fn is_taken(self) -> bool {
        matches!(self, Self::Sent | Self::Parked)
    }

    pub(super) fn is_blocked(self) -> bool {
        matches!(self, Self::Parked | Self::Refused)
    }
}
