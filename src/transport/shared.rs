//! What all shards of a server share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::broker::Broker;
use crate::config::Config;
use crate::pattern::Pattern;
use crate::protocol::handshake::Policy;
use crate::rules::Rules;
use crate::stats::Counters;
use crate::transport::addresses::Addresses;
use crate::transport::budget::Budget;
use crate::transport::client_id::ClientId;
use crate::transport::clock::Clock;
use crate::transport::commands::CommandQueue;
use crate::transport::deadlines::Timeouts;
use crate::transport::events::{Event, Inbox, Level};

/// The state of a server that does not belong to one shard.
pub(crate) struct Shared {
    pub config: Config,
    pub timeouts: Timeouts,
    pub rules: Arc<Rules>,
    pub routes: Vec<Pattern>,
    pub pages: HashMap<String, Page>,
    pub policy: Policy,
    pub route_policy: Policy,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub clock: Clock,
    pub broker: Arc<dyn Broker>,
    pub inbox: Arc<dyn Inbox>,
    /// One per shard, as the counters and the loads are.
    pub commands: Vec<Arc<CommandQueue>>,
    pub counters: Vec<Arc<Counters>>,
    /// Connections of each shard, those on their way to it included.
    pub loads: Vec<AtomicUsize>,
    pub addresses: Arc<Addresses>,
    pub draining: AtomicBool,
    /// Mixed into public ids, so that they tell nothing about the order of connections.
    pub salt: u64,
    pub budget: Arc<Budget>,
    /// Clients that are upgraded and not closed. Locked for one look-up, change, insertion or removal.
    pub clients: Mutex<HashMap<ClientId, KnownClient>>,
}

/// What every thread may ask about a client.
#[derive(Debug, Default)]
pub(crate) struct KnownClient {
    /// On a websocket path, the bytes between the application and the socket.
    pub backlog: Option<Arc<AtomicUsize>>,
    /// Its shard was told to open its private channel.
    pub has_private: bool,
}

/// A fixed answer to `GET`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// The bytes of the page.
    pub body: Vec<u8>,
}

impl Shared {
    /// The id that clients and applications see. There is one for each inner id, and its order tells nothing.
    pub fn public_id(&self, client: ClientId) -> String {
        // The finalizer of splitmix64, a bijection of 64-bit numbers.
        let mut mixed = client.0 ^ self.salt;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", mixed ^ (mixed >> 31))
    }

    /// The commands of the shard that has this client's connection.
    pub fn commands_for(&self, client: ClientId) -> Option<&Arc<CommandQueue>> {
        self.commands.get(client.shard())
    }

    /// Connections of all shards.
    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    pub fn clients(&self) -> MutexGuard<'_, HashMap<ClientId, KnownClient>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub fn log(&self, level: Level, text: impl Into<String>) {
        self.inbox.push(Event::Log { level, text: text.into() });
    }
}
