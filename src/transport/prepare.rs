//! Checks a configuration, and makes what the threads of a server share.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::Notify;

use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::config::{Config, ConfigError};
use crate::jwt::Verifier;
use crate::pattern::Pattern;
use crate::presence::{Bounds, Registry};
use crate::protocol::handshake::SUBPROTOCOLS;
use crate::rules::Rules;
use crate::stats::Counters;
use crate::transport::addresses::Addresses;
use crate::transport::budget::Budget;
use crate::transport::clock::Clock;
use crate::transport::commands::CommandQueue;
use crate::transport::deadlines::Timeouts;
use crate::transport::events::Inbox;
use crate::transport::idempotency::Idempotency;
use crate::transport::policy::{policy, proxies, terms};
use crate::transport::repeated::RepeatedKinds;
use crate::transport::shared::{Page, Shared};
use crate::transport::start_error::StartError;
use crate::transport::strays;
use crate::transport::subjects::Subjects;
use crate::transport::tls::Tls;

/// Makes it, with nothing running.
///
/// # Errors
/// [`StartError`] when a setting is not legal, the certificate can't be read, or the system has no random bytes.
pub(crate) fn prepare(
    config: Config,
    pages: HashMap<String, Page>,
    inbox: Arc<dyn Inbox>,
    verifier: Option<Arc<Verifier>>,
) -> Result<Shared, StartError> {
    let shards = match config.shards {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let rules = Rules::new(&config.channels).map_err(ConfigError::from)?;
    let rules = rules.with_burst(config.burst_bytes.min(config.max_log_bytes));
    let rules = rules.with_presence_limit(config.presence_limit);
    let rules = Arc::new(rules.with_state_idle(config.state_idle_seconds));
    let routes = config.websocket_routes.iter().map(|route| Pattern::new(route, '/'));
    let routes = routes.collect::<Result<Vec<_>, _>>().map_err(ConfigError::from)?;
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::new(certificate, key)?),
        _ => None,
    };
    let route_policy = policy(&config, Vec::new());
    let policy = policy(&config, SUBPROTOCOLS.map(str::to_owned).into());
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    let clock = Clock::new();
    let tickets = Shared::new_tickets(&config, &clock).ok_or_else(|| io::Error::other("no random bytes"))?;
    let commands: Vec<Arc<CommandQueue>> = (0..shards).map(|_| Arc::default()).collect();
    let broker: Arc<dyn Broker> = Arc::new(
        MemoryBroker::new(Arc::clone(&rules), config.max_log_bytes)
            .with_states(config.max_log_bytes, config.max_state_bytes.unwrap_or(config.max_log_bytes / 4))
            .with_linger(config.session_ttl)
            .on_stray(strays::warn(Arc::clone(&inbox))),
    );
    let first_shard = Arc::clone(&commands[0]);
    Ok(Shared {
        timeouts: Timeouts::from(&config),
        hasher: Default::default(),
        terms: terms(&config, &rules),
        presence: Registry::new(Arc::clone(&broker), Bounds::from(&config), move || first_shard.wake()),
        broker,
        rules,
        routes,
        pages,
        policy,
        route_policy,
        tls,
        verifier,
        tickets,
        clock,
        inbox,
        counters: (0..shards).map(|_| Arc::<Counters>::default()).collect(),
        loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        subjects: Subjects::new(config.max_connections_per_identity),
        addresses: Addresses::new(config.max_connections_per_address, proxies(&config)),
        excess: Arc::default(),
        draining: AtomicBool::new(false),
        ended: Notify::new(),
        debug: AtomicBool::new(false),
        serial: AtomicU32::default(),
        refusals: RepeatedKinds::default(),
        salt: u64::from_ne_bytes(salt),
        budget: Arc::new(Budget::new(config.max_held_bytes, &commands)),
        idempotency: Arc::new(Idempotency::new(config.max_held_bytes, &commands)),
        commands,
        clients: Mutex::default(),
        config,
    })
}
