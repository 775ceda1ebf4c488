//! The composition root: puts the layers together, starts the threads, stops them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::Receipt;
use crate::broker::memory::MemoryBroker;
use crate::channel::{ChannelName, NameError};
use crate::close::CloseCode;
use crate::config::{Config, ConfigError, OriginSetting};
use crate::pattern::Pattern;
use crate::protocol::deflate::DeflatePolicy;
use crate::protocol::handshake::{Origins, Policy, SUBPROTOCOL};
use crate::rules::Rules;
use crate::session::Decision;
use crate::stats::{Counters, Snapshot, Totals};
use crate::transport::Page;
use crate::transport::addresses::Addresses;
use crate::transport::budget::Budget;
use crate::transport::client_id::ClientId;
use crate::transport::clock::Clock;
use crate::transport::commands::Command;
use crate::transport::connections::Connections;
use crate::transport::deadlines::Timeouts;
use crate::transport::events::{Event, Inbox, Level};
use crate::transport::listener::{self, Listener};
use crate::transport::shard::Shard;
use crate::transport::shared::Shared;
use crate::transport::tls::{self, TlsError};

/// A server: logs from its making, connections from its start. Every method may be called from any thread.
pub struct Server {
    shared: Arc<Shared>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Shards that run. The condition is signalled when it becomes zero.
    running: Mutex<Running>,
    ended: Condvar,
}

#[derive(Default)]
struct Running {
    started: bool,
    shards: usize,
}

/// Why a server can't be made or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting or a declaration of the application is not legal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address can't be bound.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// As it is configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no thread or descriptor for a shard.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A server can be started once.
    #[error("this server was started before; make a new one")]
    Twice,
}

impl Server {
    /// Checks the configuration and makes the broker. Events go to `inbox`.
    ///
    /// # Errors
    /// [`StartError::Config`] or [`StartError::Tls`] say what can't be used.
    pub fn new(
        config: Config,
        pages: HashMap<String, Page>,
        inbox: Arc<dyn Inbox>,
    ) -> Result<Self, StartError> {
        let shards = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let rules = Arc::new(Rules::new(&config.channels).map_err(ConfigError::from)?);
        let routes = config.websocket_routes.iter().map(|route| Pattern::new(route, '/'));
        let routes = routes.collect::<Result<Vec<_>, _>>().map_err(ConfigError::from)?;
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::server_config(certificate, key)?),
            _ => None,
        };
        let route_policy = policy(&config, Vec::new());
        let policy = policy(&config, vec![SUBPROTOCOL.to_owned()]);
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let shared = Shared {
            timeouts: Timeouts::from(&config),
            broker: Arc::new(MemoryBroker::new(Arc::clone(&rules), config.max_log_bytes)),
            rules,
            routes,
            pages,
            policy,
            route_policy,
            tls,
            clock: Clock::new(),
            inbox,
            commands: (0..shards).map(|_| Arc::default()).collect(),
            counters: (0..shards).map(|_| Arc::<Counters>::default()).collect(),
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            addresses: Addresses::new(config.max_connections_per_address),
            draining: AtomicBool::new(false),
            salt: u64::from_ne_bytes(salt),
            budget: Arc::new(Budget::new(config.max_held_bytes)),
            clients: Mutex::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared), state: Arc::default() })
    }

    /// Binds, starts a thread per shard, and returns the addresses when all of them serve.
    ///
    /// # Errors
    /// [`StartError::Bind`] when the address can't be bound, [`StartError::Io`] when the system has no thread or
    /// descriptor for a shard, [`StartError::Twice`] the second time. Then nothing is left running.
    pub fn start(&self) -> Result<Vec<String>, StartError> {
        let mut running = self.state.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.started {
            return Err(StartError::Twice);
        }
        let shards = self.shared.commands.len();
        let listeners = Listener::bind(&self.shared.config, shards)
            .map_err(|source| StartError::Bind { address: self.address(), source })?;
        let secure = self.shared.tls.is_some();
        let mut addresses = Vec::new();
        for listener in &listeners {
            let address = listener.address(secure)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        running.started = true;
        let mut listeners = listeners.into_iter();
        let (ready, started) = mpsc::channel();
        for index in 0..shards {
            let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
            let (listener, told) = (listeners.next(), ready.clone());
            let run = move || {
                run_shard(index, Arc::clone(&shared), listener, told);
                state.shard_ended(&*shared.inbox);
            };
            match thread::Builder::new().name(format!("umbel-shard-{index}")).spawn(run) {
                Ok(_) => running.shards += 1,
                Err(error) => drop(ready.send(Err(error))),
            }
        }
        drop((running, ready));
        let mut serving = 0;
        let failed = started.iter().find_map(|told| told.map(|()| serving += 1).err());
        if serving < shards {
            let error = failed.unwrap_or_else(|| io::Error::other("a shard panicked at its start"));
            self.stop(Duration::ZERO);
            self.join(GIVE_UP);
            return Err(error.into());
        }
        Ok(addresses)
    }

    fn address(&self) -> String {
        let config = &self.shared.config;
        config.unix_socket.clone().unwrap_or_else(|| format!("{}:{}", config.host, config.port))
    }

    /// Begins the graceful stop, which takes at most `within`. A second call hastens it.
    pub fn stop(&self, within: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        for commands in &self.shared.commands {
            commands.push(Command::Drain(within));
        }
    }

    /// Waits until every shard has ended; `false` when that takes longer than `timeout`.
    pub fn join(&self, timeout: Duration) -> bool {
        let clock = self.shared.clock;
        let end = clock.now() + timeout;
        let mut running = self.state.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.shards > 0 {
            let left = end.since(clock.now());
            if left.is_zero() {
                return false;
            }
            running = self.state.ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Appends one JSON text to a channel. The cost does not depend on the number of subscribers.
    ///
    /// # Errors
    /// [`NameError`] when the name is not one an application may publish to.
    pub fn publish(&self, channel: &str, data: &[u8], key: Option<&str>) -> Result<Receipt, NameError> {
        let channel = ChannelName::new(channel)?;
        Ok(self.shared.broker.append(&channel, data, key, self.shared.clock.now()))
    }

    /// Appends one JSON text to the private channel of a client.
    /// `None` when the client is gone.
    pub fn send(&self, client: ClientId, data: &[u8], key: Option<&str>) -> Option<Receipt> {
        let had_private = std::mem::replace(&mut self.shared.clients().get_mut(&client)?.has_private, true);
        let channel = ChannelName::private(&self.shared.public_id(client));
        let receipt = self.shared.broker.append(&channel, data, key, self.shared.clock.now());
        // The client reads from the beginning, so it does not matter when the append is confirmed.
        if !had_private {
            self.post(client, Command::OpenPrivate(client));
        }
        Some(receipt)
    }

    /// Sends a message on a websocket route. Returns the bytes on their way to the socket, `None` when the client is gone.
    pub fn send_route(&self, client: ClientId, is_text: bool, data: Bytes) -> Option<usize> {
        let backlog = self.shared.clients().get(&client)?.backlog.clone()?;
        let waiting = backlog.fetch_add(data.len(), Ordering::AcqRel) + data.len();
        self.post(client, Command::SendRoute(client, is_text, data));
        Some(waiting)
    }

    /// Lets a client in. Like all that names a client: `false` when that client is gone.
    pub fn admit(&self, client: ClientId) -> bool {
        self.post(client, Command::Admit(client))
    }

    /// Sends one JSON text to a client, past the logs.
    pub fn reply(&self, client: ClientId, message: Bytes) -> bool {
        self.post(client, Command::Reply(client, message))
    }

    /// As [`Server::reply`], with an error that the client made: too many of them in a while close it (1008).
    pub fn reply_error(&self, client: ClientId, message: Bytes) -> bool {
        self.post(client, Command::ReplyError(client, message))
    }

    /// Closes a client's connection after everything that was sent to it before.
    pub fn close(&self, client: ClientId, code: CloseCode, reason: String) -> bool {
        self.post(client, Command::Close(client, code, reason))
    }

    /// Subscribes a client from this call on: what is published after it, is delivered. The letter finds the log of this
    /// position, because the broker keeps a log that was used for a minute ([`crate::broker`], "Life").
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn subscribe(
        &self,
        client: ClientId,
        channel: &str,
        request: Option<String>,
    ) -> Result<bool, NameError> {
        let channel = ChannelName::new(channel)?;
        let from = self.shared.broker.position(&channel);
        Ok(self.post(client, Command::Subscribe(client, channel, from, request)))
    }

    /// Ends a subscription, and tells the client why.
    pub fn unsubscribe(&self, client: ClientId, channel: String, reason: String) -> bool {
        self.post(client, Command::Unsubscribe(client, channel, reason))
    }

    /// Answers a question of this number ([`Event::Question`]).
    pub fn decide(&self, client: ClientId, number: u64, decision: Decision) -> bool {
        self.post(client, Command::Decide(client, number, decision))
    }

    /// Stops reading from a client.
    pub fn pause_reading(&self, client: ClientId) -> bool {
        self.post(client, Command::PauseReading(client))
    }

    /// Reads from a client again.
    pub fn resume_reading(&self, client: ClientId) -> bool {
        self.post(client, Command::ResumeReading(client))
    }

    /// The application has taken events: shards that had stopped reading go on.
    pub fn room(&self) {
        for commands in &self.shared.commands {
            commands.push(Command::RoomForEvents);
        }
    }

    /// What was counted so far, by the shards and by the broker.
    pub fn stats(&self) -> (Snapshot, Totals) {
        (Snapshot::of(self.shared.counters.iter().map(|it| &**it)), self.shared.broker.totals())
    }

    /// `false` when the client is gone.
    fn post(&self, client: ClientId, command: Command) -> bool {
        let is_here = self.shared.clients().contains_key(&client);
        let commands = self.shared.commands_for(client).filter(|_| is_here);
        commands.map(|commands| commands.push(command)).is_some()
    }
}

impl State {
    fn shard_ended(&self, inbox: &dyn Inbox) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.shards -= 1;
        if running.shards == 0 {
            inbox.push(Event::Stopped);
            self.ended.notify_all();
        }
    }
}

fn policy(config: &Config, subprotocols: Vec<String>) -> Policy {
    let origins = match &config.origins {
        None => Origins::SameHost,
        Some(OriginSetting::Any(_)) => Origins::Any,
        Some(OriginSetting::List(list)) => Origins::List(list.clone()),
    };
    Policy { subprotocols, deflate: config.deflate.then(DeflatePolicy::default), origins }
}

/// The life of one thread: it tells once whether it serves. Ends when its shard has drained.
fn run_shard(
    index: usize,
    shared: Arc<Shared>,
    listener: Option<Listener>,
    told: mpsc::Sender<io::Result<()>>,
) {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, started) = match built {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // Whoever started this waits for it, and for the end of all that could tell.
    let _ = told.send(started);
    drop(told);
    let Some(runtime) = runtime else { return };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let spread = shared.config.reuse_port;
        let (broker, clock) = (Arc::clone(&shared.broker), shared.clock);
        let connections = Rc::new(RefCell::new(Connections::new(index, Arc::clone(&shared))));
        let accepting = listener.map(|listener| {
            let cell = Rc::clone(&connections);
            let accepting = tokio::task::spawn_local(async move {
                if let Err(error) = listener::serve(listener, cell, spread).await {
                    shared.log(Level::Error, format!("shard {index} accepts no connections: {error}"));
                }
            });
            accepting.abort_handle()
        });
        // One shard tidies for all, and lets others have their turn between two steps. Ended with the runtime.
        if index == 0 {
            tokio::task::spawn_local(async move {
                loop {
                    tokio::time::sleep(TIDY_INTERVAL).await;
                    while broker.tidy(clock.now()) {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        // A task like those of the connections: as the root future it would wait for 61 of them at every turn. It does not
        // panic, because each of its turns is caught.
        let _ = tokio::task::spawn_local(Shard::new(connections, accepting).run()).await;
    });
}

/// What the shards that did start may take to end when another one did not.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Publications outlive their age by at most this much when nothing is appended.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);
