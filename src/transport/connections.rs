//! The connections of one shard, with the hub that serves them and the wheel that keeps their deadlines.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::close::CloseReason;
use crate::hub::{Due, FrameEncoder, Hub, ReaderKey};
use crate::moment::Moment;
use crate::protocol::deflate::Inflater;
use crate::protocol::message::Timestamp;
use crate::stats::Counters;
use crate::transport::addresses::Counted;
use crate::transport::client_id::ClientId;
use crate::transport::commands::{Command, CommandQueue, FeedNotifier};
use crate::transport::connection::{Connection, Phase};
use crate::transport::events::Event;
use crate::transport::io::Io;
use crate::transport::shared::Shared;
use crate::transport::sockets::Sockets;
use crate::transport::wheel::Wheel;

/// All connections of a shard. Touched only by the shard's thread, between two awaits: nothing of it is locked.
pub(crate) struct Connections {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub commands: Arc<CommandQueue>,
    pub counters: Arc<Counters>,
    pub hub: Hub,
    pub sockets: Sockets,
    generation: u32,
    /// Connections that would read if the application had room.
    waiting_for_room: Vec<ReaderKey>,
    wheel: Wheel,
    /// When the shard's own task looks at the wheel again, unless it is woken. `None` is never.
    pub asleep_until: Option<Moment>,
    /// Connections whose deadline may be over.
    pub due: Vec<ReaderKey>,
    /// What the connection that is being read has cost in this turn.
    pub work: usize,
    pub buffers: Buffers,
}

/// Memory that is lent to the connection that is being worked on.
#[derive(Default)]
pub(crate) struct Buffers {
    pub replies: Vec<u8>,
    pub text: Vec<u8>,
    pub read: Vec<u8>,
    pub inflater: Option<Box<Inflater>>,
}

impl Connections {
    pub fn new(index: usize, shared: Arc<Shared>) -> Self {
        let commands = Arc::clone(&shared.commands[index]);
        let counters = Arc::clone(&shared.counters[index]);
        let encoder = FrameEncoder::new(shared.config.deflate_level, shared.config.deflate_window);
        let queue = Arc::clone(&commands);
        let notifier = Box::new(move |feed| -> Arc<dyn crate::broker::Notify> {
            Arc::new(FeedNotifier { commands: Arc::clone(&queue), feed })
        });
        let (broker, tick) = (Arc::clone(&shared.broker), shared.config.tick);
        let hub = Hub::new(broker, Arc::clone(&counters), encoder, tick, notifier);
        let now = shared.clock.now();
        Self {
            index,
            commands,
            counters,
            hub,
            sockets: Sockets { now, ..Sockets::default() },
            generation: 0,
            waiting_for_room: Vec::new(),
            wheel: Wheel::new(now),
            asleep_until: None,
            due: Vec::new(),
            work: 0,
            buffers: Buffers::default(),
            shared,
        }
    }

    /// The present moment, as it was when the shard last asked its clock.
    pub fn now(&self) -> Moment {
        self.sockets.now
    }

    /// Asks the clock.
    pub fn update_now(&mut self) {
        self.sockets.now = self.shared.clock.now();
    }

    /// Takes in a connection that was accepted.
    pub fn insert(&mut self, io: Io, counted: Counted, accepted: Moment) -> (ReaderKey, ClientId) {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.sockets.slots.vacant_entry();
        let key = slot.key() as ReaderKey;
        let client = ClientId::new(self.index, key, self.generation);
        slot.insert(Connection::new(client, io, counted, accepted));
        self.counters.accepted.add(1);
        self.counters.connections.add(1);
        self.schedule(key);
        (key, client)
    }

    /// Notes that a socket on its way here can't be used.
    pub fn refuse_socket(&self) {
        self.shared.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        self.counters.refused.add(1);
    }

    pub fn get(&mut self, key: ReaderKey) -> Option<&mut Connection> {
        self.sockets.slots.get_mut(key as usize)
    }

    /// Whether our last word to a connection was not said.
    pub fn is_live(&self, key: ReaderKey) -> bool {
        self.sockets.slots.get(key as usize).is_some_and(Connection::is_live)
    }

    /// The connection of this client, and its key.
    pub fn find(&mut self, client: ClientId) -> Option<(ReaderKey, &mut Connection)> {
        let key = client.slot();
        self.get(key).filter(|connection| connection.id == client).map(|connection| (key, connection))
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReaderKey, &Connection)> {
        self.sockets.slots.iter().map(|(key, connection)| (key as ReaderKey, connection))
    }

    pub fn keys(&self) -> Vec<ReaderKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.sockets.slots.is_empty()
    }

    /// Drops a connection.
    pub fn finish(&mut self, key: ReaderKey, reason: &CloseReason) {
        let Some(connection) = self.sockets.slots.try_remove(key as usize) else { return };
        self.hub.leave(key);
        connection.wake();
        self.counters.connections.sub(1);
        if matches!(connection.phase, Phase::Head(_)) {
            self.counters.refused.add(1);
        }
        self.shared.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        self.tell_closed(connection.id, connection.known, reason);
    }

    /// Forgets a client, and tells the application where it knew it.
    pub fn tell_closed(&self, client: ClientId, known: bool, reason: &CloseReason) {
        self.shared.clients().remove(&client);
        if known {
            let (code, reason) = (reason.number(), reason.text().to_owned());
            self.shared.inbox.push(Event::Closed { client, code, reason });
        }
    }

    // ---- the hub ----

    /// Counts the bytes that sockets took.
    pub fn count_sent(&mut self) {
        self.counters.bytes_sent.add(std::mem::take(&mut self.sockets.sent));
    }

    /// Whether the hub has something to write now.
    pub fn is_due(&self) -> bool {
        self.hub.due(self.now()) == Due::Now
    }

    /// Wakes the shard if it would sleep past what the hub has to do. The tasks of connections call it, because they can give
    /// the hub something to do.
    pub fn wake_for_hub(&mut self) {
        match self.hub.due(self.now()) {
            Due::Now => self.commands.wake(),
            Due::Rest(moment) => self.wake_at(moment),
            Due::At(_) | Due::Never => {}
        }
    }

    // ---- time ----

    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.shared.clock.unix_millis())
    }

    /// Makes sure that the wheel comes round to a connection in time.
    pub fn schedule(&mut self, key: ReaderKey) {
        let now = self.now();
        let Some(connection) = self.sockets.slots.get_mut(key as usize) else { return };
        let next = connection.deadlines.next(&self.shared.timeouts);
        if connection.timer <= now || next < connection.timer {
            connection.timer = next;
            self.wheel.enter(key, next);
            self.wake_at(next);
        }
    }

    /// Collects the connections whose deadline may be over in `due`.
    pub fn advance_wheel(&mut self) {
        self.wheel.advance(self.sockets.now, &mut self.due);
    }

    pub fn next_deadline(&self) -> Option<Moment> {
        self.wheel.due()
    }

    fn wake_at(&mut self, moment: Moment) {
        if self.asleep_until.is_none_or(|until| moment < until) {
            self.asleep_until = Some(moment);
            self.commands.wake();
        }
    }

    // ---- bounds ----

    /// Lets a connection wait until the application has room for its messages.
    pub fn wait_for_room(&mut self, key: ReaderKey) {
        self.waiting_for_room.push(key);
    }

    /// The application has room again.
    pub fn wake_waiting(&mut self) {
        while let Some(key) = self.waiting_for_room.pop() {
            if let Some(connection) = self.get(key) {
                connection.wake();
            }
        }
    }

    /// Notes what a connection holds for an unfinished message.
    pub fn hold_input(&mut self, key: ReaderKey, bytes: usize) {
        let Some(connection) = self.sockets.slots.get_mut(key as usize) else { return };
        let (budget, client) = (&self.shared.budget, connection.id);
        connection.share.get_or_insert_with(|| budget.share(client)).hold(bytes);
        self.keep_to_budget();
    }

    /// Notes what waits for a socket, when it is more than a little.
    pub fn hold_output(&mut self, key: ReaderKey) {
        let Some(connection) = self.sockets.slots.get_mut(key as usize) else { return };
        let (budget, client) = (&self.shared.budget, connection.id);
        if let Some(outbox) = connection.outbox.as_mut().filter(|outbox| outbox.own_bytes() > UNCOUNTED) {
            let bytes = outbox.own_bytes();
            outbox.share.get_or_insert_with(|| budget.share(client)).hold(bytes);
            self.keep_to_budget();
        }
    }

    /// While too much is held, evicts the server's oldest shares, with their connections.
    fn keep_to_budget(&self) {
        while let Some((client, number)) = self.shared.budget.excess() {
            if let Some(commands) = self.shared.commands_for(client) {
                commands.push(Command::Evict(client, number));
            }
        }
    }
}

/// Bytes that may wait for a socket without being counted.
const UNCOUNTED: usize = 64 * 1024;
