//! What all shards of a server share.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::{Broker, RoomFor};
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::config::Config;
use crate::jwt::Verifier;
use crate::pattern::Pattern;
use crate::presence::{MemberId, Registry};
use crate::protocol::handshake::Policy;
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::session::{Secret, Terms};
use crate::stats::Counters;
use crate::ticket::{Limits, Tickets};
use crate::transport::addresses::Addresses;
use crate::transport::budget::Budget;
use crate::transport::client_id::ClientId;
use crate::transport::clock::Clock;
use crate::transport::commands::{Command, CommandQueue};
use crate::transport::deadlines::Timeouts;
use crate::transport::events::{About, Event, Inbox, Level};
use crate::transport::excess::ExcessPlaces;
use crate::transport::idempotency::Idempotency;
use crate::transport::repeated::RepeatedKinds;
use crate::transport::subjects::Subjects;
use crate::transport::tls::Tls;

/// The state of a server that does not belong to one shard.
pub(crate) struct Shared {
    pub config: Config,
    pub timeouts: Timeouts,
    pub rules: Arc<Rules>,
    pub routes: Vec<Pattern>,
    pub pages: HashMap<String, Page>,
    pub policy: Policy,
    pub route_policy: Policy,
    pub tls: Option<Tls>,
    /// Says who clients are by their tokens. `None`: the application says it, or they are anonymous.
    pub verifier: Option<Arc<Verifier>>,
    pub tickets: Tickets,
    pub clock: Clock,
    pub broker: Arc<dyn Broker>,
    /// Who is in which channel. The first shard tells it.
    pub presence: Registry,
    pub inbox: Arc<dyn Inbox>,
    /// One per shard, as the counters and the loads are.
    pub commands: Vec<Arc<CommandQueue>>,
    pub counters: Vec<Arc<Counters>>,
    /// Connections of each shard, those on their way to it included.
    pub loads: Vec<AtomicUsize>,
    pub addresses: Arc<Addresses>,
    pub subjects: Arc<Subjects>,
    /// For connections beyond a limit.
    pub excess: Arc<ExcessPlaces>,
    pub draining: AtomicBool,
    /// Told when all shards have ended.
    pub ended: Notify,
    /// The log wants DEBUG lines.
    pub debug: AtomicBool,
    /// The last number that a connection got.
    pub serial: AtomicU32,
    /// The lines about refusals, and about tokens that are refused on open connections.
    pub refusals: RepeatedKinds<{ Refusal::LABELS.len() + 1 }>,
    /// Mixed into public ids, so that they tell nothing about the order of connections.
    pub salt: u64,
    /// For hashes that nobody can foresee.
    pub hasher: RandomState,
    /// What all clients are told first.
    pub terms: Terms,
    pub budget: Arc<Budget>,
    /// Calls that were made with a key.
    pub idempotency: Arc<Idempotency>,
    /// Clients that are upgraded and not closed. Locked for one look-up, change, insertion or removal.
    pub clients: Mutex<HashMap<ClientId, KnownClient>>,
}

/// What every thread may ask about a client.
#[derive(Debug, Default)]
pub(crate) struct KnownClient {
    /// On a websocket path, the bytes between the application and the socket.
    pub backlog: Option<Arc<AtomicUsize>>,
    /// The number of its connection, or of the last one that it had.
    pub connection: u32,
    /// Its shard was told to open its private channel.
    pub has_private: bool,
    /// It is a program that makes calls, and hears nothing but their answers.
    pub is_caller: bool,
}

/// A fixed answer to `GET`.
#[derive(Clone, Debug)]
pub struct Page {
    /// Names and values. A request whose `If-None-Match` has the value of their `ETag` gets 304.
    pub headers: Vec<(String, String)>,
    /// The bytes of the page.
    pub body: Vec<u8>,
    /// The same for clients that accept gzip.
    pub gzip: Option<Vec<u8>>,
}

impl Page {
    /// What the paths of pages for operators have before them: the other listener has no such paths.
    pub const OF_OPERATORS: &str = "operators:";
}

impl Shared {
    /// The id that clients and applications see. There is one for each inner id, and its order tells nothing.
    pub fn public_id(&self, client: ClientId) -> String {
        self.member_id(client).to_string()
    }

    /// The same, as members have it.
    pub fn member_id(&self, client: ClientId) -> MemberId {
        // The finalizer of splitmix64, a bijection of 64-bit numbers.
        let mut mixed = client.0 ^ self.salt;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        MemberId(mixed ^ (mixed >> 31))
    }

    /// The client that a token of a session names, and what that client has to know. `None`: there can be no such session here.
    pub fn session_of(&self, token: &str) -> Option<(ClientId, Secret)> {
        let (public_id, secret) = token.split_once('.')?;
        let is_plain = public_id.len() == 16 && public_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut id = u64::from_str_radix(public_id, 16).ok().filter(|_| is_plain)?;
        // The way of `member_id` back.
        id = (id ^ (id >> 31) ^ (id >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
        id = (id ^ (id >> 27) ^ (id >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
        let client = ClientId(id ^ (id >> 30) ^ (id >> 60) ^ self.salt);
        Some((client, Secret::from_hex(secret)?)).filter(|_| client.shard() < self.commands.len())
    }

    /// An empty table of tickets. `None`: the system has no random bytes.
    pub fn new_tickets(config: &Config, clock: &Clock) -> Option<Tickets> {
        let key = config.ticket_key.as_ref().map(|key| &*key.0);
        // Streams that are open have room, and as many tickets that wait.
        let in_all = config.max_connections.saturating_mul(2).max(FEW_TICKETS);
        // A URL may have half of a head. A quarter of it is enough for this in a ticket.
        let bytes = LONGEST_CLAIMS.min(config.max_head_bytes / 8);
        let lifetime = u64::try_from(config.session_lifetime.as_millis()).unwrap_or(u64::MAX);
        let limits = Limits { of_subject: config.max_tickets_per_identity, in_all, bytes, lifetime };
        Tickets::new(key, limits, clock.unix_millis())
    }

    /// What a new client has to know to come back. `None`: it can't come back.
    pub fn new_secret(&self) -> Option<Secret> {
        let mut random = [0; 16];
        let has_sessions = !self.config.session_ttl.is_zero();
        (has_sessions && getrandom::fill(&mut random).is_ok()).then(|| Secret::new(random))
    }

    /// Asks for the key of a token. `false`: it does not come soon.
    pub fn wants_keys(&self) -> bool {
        self.verifier.as_ref().is_some_and(|verifier| verifier.wanted().ask())
    }

    /// A random part of the time in which clients come back that lose their connections together.
    pub fn spread(&self, client: ClientId) -> Duration {
        use std::hash::BuildHasher as _;
        let random = (self.hasher.hash_one(client.0) >> 40) as f64 / (1_u64 << 24) as f64;
        self.config.reconnect_window.mul_f64(random)
    }

    /// Drops the private channel of a client that is gone: nobody can read it any more.
    pub fn forget_private(&self, client: ClientId) {
        self.broker.forget(&ChannelName::private(&self.public_id(client)), self.clock.now());
    }

    /// Lets sessions of a subject that are away give way to its connections.
    pub fn give_way(&self, subject: &str) {
        if self.subjects.is_crowded(subject) {
            let subject: Arc<str> = subject.into();
            for commands in &self.commands {
                commands.push(Command::GiveWay(Arc::clone(&subject)));
            }
        }
    }

    /// Ends the connections of a subject, its tickets, and its sessions that wait for their clients.
    pub fn end_subject(&self, subject: &str, reason: &CloseReason) {
        // First: a stream that is opened meanwhile is found below.
        self.tickets.end_subject(subject);
        let subject: Arc<str> = subject.into();
        for commands in &self.commands {
            commands.push(Command::EndSubject(Arc::clone(&subject), reason.clone()));
        }
    }

    /// Whether there is room in a channel. If not, the application is told when there is.
    pub fn tell_room(&self, channel: &ChannelName, who: RoomFor, number: u64) -> bool {
        let inbox = Arc::clone(&self.inbox);
        self.broker.when_room(channel, who, Box::new(move || inbox.push(Event::Room { number })))
    }

    /// The commands of the shard that has this client's connection.
    pub fn commands_for(&self, client: ClientId) -> Option<&Arc<CommandQueue>> {
        self.commands.get(client.shard())
    }

    /// Connections of all shards.
    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Acquire)).sum()
    }

    /// Whether there are as many connections as may be, those not counted that are only told so.
    pub fn is_full(&self) -> bool {
        // In this order: who ends gives its place back first.
        self.connections() >= self.config.max_connections.saturating_add(self.excess.taken())
    }

    pub fn clients(&self) -> MutexGuard<'_, HashMap<ClientId, KnownClient>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Logs a DEBUG line about something that happens often. The line is made only when the log wants it.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.debug.load(Ordering::Relaxed) {
            self.log(Level::Debug, line());
        }
    }

    /// Logs a DEBUG line about a client. It must not be called while the clients are locked.
    pub fn trace_client(&self, client: ClientId, what: impl FnOnce() -> String) {
        if self.debug.load(Ordering::Relaxed) {
            let connection = self.clients().get(&client).map_or(0, |known| known.connection);
            self.trace_connection(client, connection, what);
        }
    }

    /// Logs a DEBUG line about a client and one of its connections.
    pub fn trace_connection(&self, client: ClientId, connection: u32, what: impl FnOnce() -> String) {
        if self.debug.load(Ordering::Relaxed) {
            let client_id = self.public_id(client);
            let text = format!("client {client_id}: {}", what());
            let about = Some(Box::new(About { client_id, connection }));
            self.inbox.push(Event::Log { level: Level::Debug, text, about });
        }
    }

    pub fn log(&self, level: Level, text: impl Into<String>) {
        self.inbox.push(Event::Log { level, text: text.into(), about: None });
    }

    /// A number that no other connection has. The first is 1.
    pub fn next_serial(&self) -> u32 {
        self.serial.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// Bytes of the subject and claims of a ticket. Proxies allow 8 KiB for a URL, some of them less.
const LONGEST_CLAIMS: usize = 2000;

/// Tickets that there may be however few connections there may be.
const FEW_TICKETS: usize = 1000;
