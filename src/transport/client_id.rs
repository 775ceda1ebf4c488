//! The name of one client within a server.

/// Names one client of one server for as long as the server runs: shard, slot and a count, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl ClientId {
    /// `generation` tells apart the clients that had a slot one after the other.
    pub(crate) fn new(shard: usize, slot: u32, generation: u32) -> Self {
        Self((shard as u64) << 56 | u64::from(slot & SLOTS) << 32 | u64::from(generation))
    }

    /// The shard that has its connection.
    pub(crate) fn shard(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// The slot of its connection within the shard.
    pub(crate) fn slot(self) -> u32 {
        (self.0 >> 32) as u32 & SLOTS
    }
}

/// 24 bits: 16 million connections per shard.
const SLOTS: u32 = 0xff_ffff;
