//! What the dashboard asks a shard for, and what it is told.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::hub::ReaderKey;
use crate::identity::Identity;

/// A look at a shard, which goes on from turn to turn.
#[derive(Debug)]
pub(crate) struct Look {
    /// The reader with which it goes on.
    pub next: usize,
    /// The slowest readers so far.
    pub found: Vec<Found>,
    /// Who looks.
    pub told: Sender<ShardSight>,
}

/// A reader that is behind, as the hub knows it. The order is that of what they lack.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub lag: u64,
    pub channels: usize,
    pub reader: ReaderKey,
    pub channel: ChannelName,
}

/// What is seen of a shard.
#[derive(Debug)]
pub(crate) struct ShardSight {
    /// Its index.
    pub shard: usize,
    /// Processor time of its thread.
    pub busy: Duration,
    /// Sessions without a connection.
    pub away: usize,
    /// The slowest first.
    pub slow: Vec<SlowReader>,
}

/// A client whose socket takes nothing.
#[derive(Debug)]
pub(crate) struct SlowReader {
    /// The id that clients and applications see.
    pub client: String,
    pub identity: Option<Arc<Identity>>,
    /// The channel in which it is furthest behind.
    pub channel: ChannelName,
    /// In how many it is behind.
    pub channels: usize,
    /// Publications of that channel that it was not offered.
    pub lag: u64,
    /// Age of the oldest of them.
    pub age: Option<Duration>,
    /// For how long its socket has taken nothing.
    pub stalled: Option<Duration>,
    /// Bytes that wait for the socket.
    pub buffered: usize,
}

/// Readers that are told of each shard, and of all of them.
pub(crate) const MOST_SLOW: usize = 20;
