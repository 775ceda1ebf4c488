//! The connections of one shard, with the hub that serves them and the wheel that keeps their deadlines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use slab::Slab;

use crate::close::CloseReason;
use crate::hub::{Delivery, Due, FrameEncoder, Hub, Outbound, Outgoing, ReaderKey};
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
use crate::transport::wheel::Wheel;

/// All connections of a shard. Touched only by the shard's thread, between two awaits: nothing of it is locked.
pub(crate) struct Connections {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub commands: Arc<CommandQueue>,
    pub counters: Arc<Counters>,
    pub hub: Hub,
    pub now: Moment,
    slots: Slab<Connection>,
    generation: u32,
    /// Connections that would read if the application had room.
    waiting_for_room: Vec<ReaderKey>,
    wheel: Wheel,
    /// When the shard's own task looks at the wheel again, unless it is woken; `None` is never.
    pub asleep_until: Option<Moment>,
    /// Connections whose deadline may be over.
    pub due: Vec<ReaderKey>,
    /// Connections whose socket turned out to be broken in a write of the hub.
    pub broken: Vec<ReaderKey>,
    /// Readers past whom a log has moved, in a channel that closes them for it.
    pub overrun: Vec<ReaderKey>,
    /// What the connection that is being read has cost in this turn.
    pub work: usize,
    pub buffers: Buffers,
}

/// Memory that is lent to whichever connection is being worked on.
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
        let notifier = Box::new(move |feed| -> Arc<dyn crate::broker::log::Alarm> {
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
            now,
            slots: Slab::new(),
            generation: 0,
            waiting_for_room: Vec::new(),
            wheel: Wheel::new(now),
            asleep_until: None,
            due: Vec::new(),
            broken: Vec::new(),
            overrun: Vec::new(),
            work: 0,
            buffers: Buffers::default(),
            shared,
        }
    }

    /// Takes in a connection that was accepted.
    pub fn insert(&mut self, io: Io, counted: Counted, accepted: Moment) -> (ReaderKey, ClientId) {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.vacant_entry();
        let key = slot.key() as ReaderKey;
        let client = ClientId::new(self.index, key, self.generation);
        slot.insert(Connection::new(client, io, counted, accepted));
        self.counters.accepted.add(1);
        self.counters.connections.add(1);
        self.schedule(key);
        (key, client)
    }

    /// Notes a socket that was on its way here and can't be used.
    pub fn refuse_socket(&self) {
        self.shared.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        self.counters.refused.add(1);
    }

    pub fn get(&mut self, key: ReaderKey) -> Option<&mut Connection> {
        self.slots.get_mut(key as usize)
    }

    /// Whether our last word to a connection was not said.
    pub fn is_live(&self, key: ReaderKey) -> bool {
        self.slots.get(key as usize).is_some_and(Connection::is_live)
    }

    /// The connection of this client, and its key.
    pub fn find(&mut self, client: ClientId) -> Option<(ReaderKey, &mut Connection)> {
        let key = client.slot();
        self.get(key).filter(|connection| connection.id == client).map(|connection| (key, connection))
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReaderKey, &Connection)> {
        self.slots.iter().map(|(key, connection)| (key as ReaderKey, connection))
    }

    pub fn keys(&self) -> Vec<ReaderKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Drops a connection.
    pub fn finish(&mut self, key: ReaderKey, reason: &CloseReason) {
        let Some(connection) = self.slots.try_remove(key as usize) else { return };
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

    /// Lets the hub write to sockets. What it found, in `broken` and `overrun`, is for the caller to act on; so is a panic.
    pub fn write(
        &mut self,
        write: impl FnOnce(&mut Hub, Moment, Timestamp, &mut Sockets<'_>),
    ) -> thread::Result<()> {
        let time = self.timestamp();
        let mut sockets = Sockets {
            slots: &mut self.slots,
            now: self.now,
            sent: 0,
            broken: &mut self.broken,
            overrun: &mut self.overrun,
        };
        let written = catch_unwind(AssertUnwindSafe(|| write(&mut self.hub, self.now, time, &mut sockets)));
        self.counters.bytes_sent.add(sockets.sent);
        written
    }

    /// Whether the hub has something to write now.
    pub fn is_due(&self) -> bool {
        self.hub.due(self.now) == Due::Now
    }

    /// Wakes the shard for what the hub has to do, where it would sleep past it. For connections' tasks, which can cause that
    /// too.
    pub fn wake_for_hub(&mut self) {
        match self.hub.due(self.now) {
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
        let Some(connection) = self.slots.get_mut(key as usize) else { return };
        let next = connection.deadlines.next(&self.shared.timeouts);
        if connection.timer <= self.now || next < connection.timer {
            connection.timer = next;
            self.wheel.enter(key, next);
            self.wake_at(next);
        }
    }

    /// Collects the connections whose deadline may be over in `due`.
    pub fn advance_wheel(&mut self) {
        self.wheel.advance(self.now, &mut self.due);
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
        let Some(connection) = self.slots.get_mut(key as usize) else { return };
        let (budget, client) = (&self.shared.budget, connection.id);
        connection.share.get_or_insert_with(|| budget.share(client)).hold(bytes);
        self.keep_to_budget();
    }

    /// Notes what waits for a socket, when it is more than a little.
    pub fn hold_output(&mut self, key: ReaderKey) {
        let Some(connection) = self.slots.get_mut(key as usize) else { return };
        let (budget, client) = (&self.shared.budget, connection.id);
        if let Some(outbox) = connection.outbox.as_mut().filter(|outbox| outbox.own_bytes() > UNCOUNTED) {
            let bytes = outbox.own_bytes();
            outbox.share.get_or_insert_with(|| budget.share(client)).hold(bytes);
            self.keep_to_budget();
        }
    }

    /// Where too much is held, the oldest shares of the server end with their connections.
    fn keep_to_budget(&self) {
        while let Some((client, number)) = self.shared.budget.excess() {
            if let Some(commands) = self.shared.commands_for(client) {
                commands.push(Command::Evict(client, number));
            }
        }
    }
}

/// The connections of a shard as the hub sees them.
pub(crate) struct Sockets<'a> {
    slots: &'a mut Slab<Connection>,
    now: Moment,
    sent: u64,
    broken: &'a mut Vec<ReaderKey>,
    pub overrun: &'a mut Vec<ReaderKey>,
}

impl Outbound for Sockets<'_> {
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Some(connection) = self.slots.get_mut(reader as usize) else { return Delivery::Gone };
        let delivery = connection.deliver(bytes, self.now, &mut self.sent);
        if delivery == Delivery::Gone {
            self.broken.push(reader);
        }
        delivery
    }

    fn overrun(&mut self, reader: ReaderKey) {
        self.overrun.push(reader);
    }
}

/// Bytes that may wait for a socket uncounted.
const UNCOUNTED: usize = 64 * 1024;
