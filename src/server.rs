//! The composition root: puts the layers together, starts the threads, stops them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::{History, Most, PublishError, Receipt, RoomFor, change_state, read_state};
use crate::change::{Op, StateError, StateRefusal};
use crate::channel::{ChannelName, Name, NameError};
use crate::config::Config;
use crate::jwt::Verifier;
use crate::position::Position;
use crate::publication::{Content, Publication};
use crate::stats::{Snapshot, Totals};
use crate::transport::admin::Admin;
use crate::transport::client_id::ClientId;
use crate::transport::commands::{ClientCommand, Command};
use crate::transport::events::Inbox;
use crate::transport::listener::Listener;
use crate::transport::policy::check_admin;
use crate::transport::prepare::prepare;
use crate::transport::running::Threads;
use crate::transport::shared::Shared;
pub use crate::transport::start_error::StartError;
use crate::transport::thread::run_shard;
use crate::transport::{Page, upkeep};

/// A server: logs from its making, connections from its start. Every method may be called from any thread.
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    threads: Arc<Threads>,
    admin_url: OnceLock<String>,
}

impl Server {
    /// Checks the configuration and makes the broker. Events go to `inbox`. With a verifier, clients are let in by their tokens.
    ///
    /// # Errors
    /// [`StartError::Config`] or [`StartError::Tls`] say what can't be used.
    pub fn new(
        config: Config,
        pages: HashMap<String, Page>,
        inbox: Arc<dyn Inbox>,
        verifier: Option<Arc<Verifier>>,
    ) -> Result<Self, StartError> {
        let shared = prepare(config, pages, inbox, verifier)?;
        Ok(Self { shared: Arc::new(shared), threads: Arc::default(), admin_url: OnceLock::new() })
    }

    /// Binds, starts a thread per shard, and returns the addresses when all of them serve.
    ///
    /// # Errors
    /// [`StartError::Bind`] when the address can't be bound, [`StartError::Io`] when the system has no thread or
    /// descriptor for a shard, [`StartError::Twice`] the second time. Then nothing is left running.
    pub fn start(&self) -> Result<Vec<String>, StartError> {
        let mut running = self.threads.lock();
        if running.started {
            return Err(StartError::Twice);
        }
        let shards = self.shared.commands.len();
        let admin = self.bind_admin()?;
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
            let (shared, threads) = (Arc::clone(&self.shared), Arc::clone(&self.threads));
            let (listener, told) = (listeners.next(), ready.clone());
            let run = move || {
                run_shard(index, Arc::clone(&shared), listener, told);
                threads.shard_ended(&shared);
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
            return self.give_up(failed.unwrap_or_else(|| io::Error::other("a shard panicked at its start")));
        }
        match admin.and_then(|admin| self.start_admin(admin).err()) {
            Some(error) => self.give_up(error),
            None => Ok(addresses),
        }
    }

    fn give_up<T>(&self, error: io::Error) -> Result<T, StartError> {
        self.stop(Duration::ZERO);
        self.join(GIVE_UP);
        Err(error.into())
    }

    fn bind_admin(&self) -> Result<Option<Admin>, StartError> {
        let config = &self.shared.config;
        check_admin(config)?;
        let failed = |source| StartError::Bind { address: config.admin.clone().unwrap_or_default(), source };
        Admin::bind(config).map_err(failed)
    }

    /// Starts the thread that answers operators.
    fn start_admin(&self, admin: Admin) -> io::Result<()> {
        // It is set once, because a server starts once.
        let _ = self.admin_url.set(admin.address()?);
        let (shared, threads) = (Arc::clone(&self.shared), Arc::clone(&self.threads));
        let run = move || {
            admin.run(&shared);
            threads.admin_ended();
        };
        let mut running = self.threads.lock();
        thread::Builder::new().name("umbel-admin".to_owned()).spawn(run)?;
        running.admin = true;
        Ok(())
    }

    /// Where operators find the metrics, without their path; `None` before the start, and without such a listener.
    pub fn admin_url(&self) -> Option<String> {
        self.admin_url.get().cloned()
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

    /// Waits until every thread has ended; `false` when that takes longer than `timeout`.
    pub fn join(&self, timeout: Duration) -> bool {
        self.threads.join(timeout, &self.shared.clock)
    }

    /// Moves the clock forward, for a test: histories and sessions that are over then are gone when this returns, or soon after.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.clock.advance(by);
        while self.shared.broker.tidy(self.shared.clock.now()) {}
        for commands in &self.shared.commands {
            commands.wake();
        }
    }

    /// Appends one JSON text to a channel. The cost does not depend on the number of subscribers.
    ///
    /// # Errors
    /// [`NameError`] when the name is not one an application may publish to.
    pub fn publish(&self, channel: &str, content: Content<'_>) -> Result<Receipt, NameError> {
        let channel = Name::new(channel)?;
        Ok(self.shared.broker.append(channel, content, self.shared.clock.now()))
    }

    /// Changes an entry of a state.
    ///
    /// # Errors
    /// [`StateError`] when there can be no such channel, or it has no state.
    pub fn change_state(&self, channel: &str, content: Content<'_>) -> Result<Receipt, StateError> {
        // The log of the channel refuses what is no patch, so the rules are not asked for each change.
        let is_patch = content.op == Op::Patch;
        let channel = if is_patch { self.state(channel)? } else { Name::new(channel)? };
        let receipt = change_state(&*self.shared.broker, channel, content, self.shared.clock.now()).0;
        match receipt.outcome() {
            Some(Err(PublishError::Refused(StateRefusal::NoState))) => {
                Err(StateError::NoState(channel.to_channel()))
            }
            _ => Ok(receipt),
        }
    }

    /// The entry of this key of a state, or all of them, in the order of their last changes.
    ///
    /// # Errors
    /// [`StateError`] when there can be no such channel, or it has no state.
    pub fn entries(&self, channel: &str, key: Option<&str>) -> Result<Vec<Entry>, StateError> {
        let (channel, broker) = (self.state(channel)?, &*self.shared.broker);
        let found = match key {
            Some(key) => broker
                .entry(channel, key, None)
                .and_then(|found| Some((found.version()?, vec![found.entry?]))),
            None => read_state(broker, &channel.to_channel()),
        };
        let Some((position, entries)) = found else { return Ok(Vec::new()) };
        let dates = self.dates(&entries);
        let entries = entries.into_iter().zip(dates);
        Ok(entries.map(|(entry, millis)| (position.at(entry.offset), entry, millis)).collect())
    }

    fn state<'a>(&self, channel: &'a str) -> Result<Name<'a>, StateError> {
        let name = Name::new(channel)?;
        let channel = name.to_channel();
        let has_state = self.shared.rules.retention(&channel).is_state();
        if has_state { Ok(name) } else { Err(StateError::NoState(channel)) }
    }

    /// When these were published, in milliseconds since 1970.
    fn dates(&self, publications: &[Publication]) -> Vec<u64> {
        let (now, millis) = (self.shared.clock.now(), self.shared.clock.unix_millis());
        let age = |publication: &Publication| now.since(publication.appended).as_millis() as u64;
        publications.iter().map(|entry| millis.saturating_sub(age(entry))).collect()
    }

    /// Appends one JSON text to the private channel of a client.
    /// `None` when the client is gone.
    pub fn send(&self, client: ClientId, data: &[u8], key: Option<&str>) -> Option<Receipt> {
        let had_private = match self.shared.clients().get_mut(&client) {
            Some(known) if !known.is_caller => std::mem::replace(&mut known.has_private, true),
            _ => return None,
        };
        let channel = ChannelName::private(&self.shared.public_id(client));
        let now = self.shared.clock.now();
        // The client reads from the beginning, so it does not matter when an append is confirmed, or whose is the first.
        if !had_private {
            let from = Position { offset: 0, ..self.shared.broker.promise(&channel, now) };
            let channel = channel.clone();
            self.tell(client, ClientCommand::Subscribe { channel, from, request: None, number: None });
        }
        let receipt = self.shared.broker.append(channel.as_name(), Content::new(data, key), now);
        if !self.shared.clients().contains_key(&client) {
            // It went meanwhile, and its end did not find this.
            self.shared.forget_private(client);
        }
        Some(receipt)
    }

    /// Sends a message on a websocket route. Returns the bytes on their way to the socket, `None` when the client is gone.
    pub fn send_route(&self, client: ClientId, is_text: bool, data: Bytes) -> Option<usize> {
        let backlog = self.shared.clients().get(&client)?.backlog.clone()?;
        let waiting = backlog.fetch_add(data.len(), Ordering::AcqRel) + data.len();
        self.tell(client, ClientCommand::SendRoute(is_text, data));
        Some(waiting)
    }

    /// Subscribes a client from this call on: what is published after it, is delivered. The command finds the log of this
    /// position, because the broker keeps a log that was used for a minute, if memory allows ([`crate::broker`], "Life").
    ///
    /// With a number, the application is told whether it is subscribed
    /// ([`Event::Subscribed`](crate::transport::events::Event::Subscribed)).
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn subscribe(
        &self,
        client: ClientId,
        channel: &str,
        request: Option<String>,
        number: Option<u64>,
    ) -> Result<bool, NameError> {
        let channel = ChannelName::new(channel)?;
        if self.shared.clients().get(&client).is_none_or(|known| known.is_caller) {
            return Ok(false); // without a promise, which would make the channel
        }
        let from = self.shared.broker.promise(&channel, self.shared.clock.now());
        Ok(self.tell(client, ClientCommand::Subscribe { channel, from, request, number }))
    }

    /// Says that nothing more comes in a channel. Its readers are told, and unsubscribed, when they have all of it.
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn finish(&self, channel: &str) -> Result<(), NameError> {
        self.shared.broker.finish(&ChannelName::new(channel)?);
        Ok(())
    }

    /// Drops a channel and all that it keeps.
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn forget(&self, channel: &str) -> Result<(), NameError> {
        self.shared.broker.forget(&ChannelName::new(channel)?, self.shared.clock.now());
        Ok(())
    }

    /// At most so many publications that a channel still has ([`Broker::history`]), each with the milliseconds since 1970 at which it
    /// was published.
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn history(
        &self,
        channel: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<(History, Vec<u64>), NameError> {
        let most = Most { count: limit, bytes: usize::MAX };
        let history = self.shared.broker.history(&ChannelName::new(channel)?, after, most);
        let dates = self.dates(&history.entries);
        Ok((history, dates))
    }

    /// Where the log of a channel stands. It is made if there is none, and kept for a minute, if memory allows.
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn position(&self, channel: &str) -> Result<Position, NameError> {
        Ok(self.shared.broker.promise(&ChannelName::new(channel)?, self.shared.clock.now()))
    }

    /// What its threads share.
    #[cfg(feature = "python")]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// How many clients are subscribed to a channel.
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn subscribers(&self, channel: &str) -> Result<u64, NameError> {
        Ok(self.shared.broker.readers(&ChannelName::new(channel)?))
    }

    /// Whether there is room in a channel. If not, the application is told when there is, with this number
    /// ([`Event::Room`](crate::transport::events::Event::Room)).
    ///
    /// # Errors
    /// [`NameError`] when there can be no such channel.
    pub fn when_room(&self, channel: &str, number: u64) -> Result<bool, NameError> {
        Ok(self.shared.tell_room(&ChannelName::new(channel)?, RoomFor::KeepingUp, number))
    }

    /// As [`Server::when_room`], for the private channel of a client, which may be late. `true` when the client is gone.
    pub fn when_client_room(&self, client: ClientId, number: u64) -> bool {
        if !self.shared.clients().get(&client).is_some_and(|known| known.has_private) {
            return true; // nothing was sent to it
        }
        let channel = ChannelName::private(&self.shared.public_id(client));
        if self.shared.broker.readers(&channel) == 0 {
            // Its shard is about to seat it, and asks after that: until then there is nobody to wait for.
            return !self.tell(client, ClientCommand::WhenRoom(number));
        }
        self.shared.tell_room(&channel, RoomFor::Everybody, number)
    }

    /// The application has taken events: shards that had stopped reading go on.
    pub fn room(&self) {
        self.shared.commands.iter().for_each(|commands| commands.push(Command::RoomForEvents));
    }

    /// Keys of tokens that were asked for have come, or do not come.
    pub fn keys_settled(&self) {
        self.shared.commands.iter().for_each(|commands| commands.push(Command::KeysSettled));
    }

    /// The application has finished with a batch of events: what it has said is carried out now.
    pub fn batch_over(&self) {
        self.shared.commands.iter().for_each(|commands| commands.batch_over());
    }

    /// Reads the certificate and its key again, for new connections; the log says whether they can be used. `false` without TLS.
    pub fn reread_certificate(&self) -> bool {
        upkeep::reread_certificate(&self.shared)
    }

    /// Says whether the log wants DEBUG lines.
    pub fn set_debug(&self, wanted: bool) {
        self.shared.debug.store(wanted, Ordering::Relaxed);
    }

    /// What was counted so far, by the shards and by the broker.
    pub fn stats(&self) -> (Snapshot, Totals) {
        (Snapshot::of(self.shared.counters.iter().map(|it| &**it)), self.shared.broker.totals())
    }

    /// Asks for something to be done for a client. `false` when that client is gone.
    pub fn tell(&self, client: ClientId, command: ClientCommand) -> bool {
        let is_here = self.shared.clients().contains_key(&client);
        let commands = self.shared.commands_for(client).filter(|_| is_here);
        commands.map(|commands| commands.push_for(client, command)).is_some()
    }
}

/// An entry of a state, the position of its last change, and when that was, in milliseconds since 1970.
pub type Entry = (Position, Publication, u64);

/// What the shards that did start may take to end when another one did not.
const GIVE_UP: Duration = Duration::from_secs(5);
