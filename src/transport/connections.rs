//! The connections of one shard, with the hub that serves them and the wheel that keeps their deadlines.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::hub::{Due, FrameEncoder, Hub, ReaderKey};
use crate::jwt::Needs;
use crate::moment::Moment;
use crate::protocol::message::Timestamp;
use crate::refusal::Refusal;
use crate::stats::Counters;
use crate::transport::addresses::Counted;
use crate::transport::away::Away;
use crate::transport::buffers::Buffers;
use crate::transport::client_id::ClientId;
use crate::transport::commands::{ClientCommand, CommandQueue, FeedNotifier};
use crate::transport::connection::Connection;
use crate::transport::events::{Event, Level};
use crate::transport::excess::Excess;
use crate::transport::farewells::Farewells;
use crate::transport::io::Io;
use crate::transport::lists::Lists;
use crate::transport::repeated::Repeated;
use crate::transport::shared::Shared;
use crate::transport::sockets::Sockets;
use crate::transport::turns::Turns;
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
    /// Sessions without a connection.
    pub away: Away,
    pub lists: Lists,
    pub farewells: Farewells,
    /// Connections that would read if the application had room.
    waiting_for_room: Vec<ReaderKey>,
    /// How often one was added to these because messages take too much, for the log.
    full: Repeated,
    /// Channels whose members found no room for a list, for the log.
    pub unlisted: Repeated,
    /// Connections that have had their turn, and have more to say.
    pub turns: Turns,
    wheel: Wheel,
    /// When the shard's own task looks at the wheel again, unless it is woken. `None` is never.
    pub asleep_until: Option<Moment>,
    /// When the next tick is to begin, while there is something for it.
    pub tick_due: Option<Moment>,
    /// Connections whose deadline may be over.
    pub due: Vec<ReaderKey>,
    /// What the connection that is being read has cost in this turn.
    pub work: usize,
    pub buffers: Buffers,
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
            away: Away::default(),
            lists: Lists::default(),
            farewells: Farewells::default(),
            waiting_for_room: Vec::new(),
            full: Repeated::default(),
            unlisted: Repeated::default(),
            turns: Turns::default(),
            wheel: Wheel::new(now),
            asleep_until: None,
            tick_due: None,
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

    /// Takes in a connection that was accepted, here or by another shard.
    pub fn insert(&mut self, io: Io, serial: u32, counted: Counted, accepted: Moment) -> ReaderKey {
        let slot = self.sockets.slots.vacant_entry();
        let key = slot.key() as ReaderKey;
        self.generation = self.generation.wrapping_add(1);
        let client = ClientId::new(self.index, key, self.generation);
        slot.insert(Connection::new(client, serial, io, counted, accepted));
        self.counters.connections.add(1);
        self.schedule(key);
        key
    }

    /// Lets a connection that is beyond a limit send its request, and soon.
    pub fn hurry(&mut self, key: ReaderKey, excess: Excess) {
        let Some(connection) = self.get(key) else { return };
        connection.deadlines.hurry();
        if let Some(head) = connection.head() {
            head.excess = Some(excess);
        }
        self.schedule(key);
    }

    /// A connection is no longer that of its client, who may have another one before this one is gone. What is done for the client
    /// does not find it any more.
    pub fn disown(&mut self, key: ReaderKey) {
        self.generation = self.generation.wrapping_add(1);
        let id = ClientId::new(self.index, key, self.generation);
        if let Some(connection) = self.get(key) {
            connection.id = id;
            if let Some(outbox) = &mut connection.outbox {
                outbox.share = None; // it is counted again, for the new id
            }
        }
    }

    /// Gives a connection away that another shard takes in.
    pub fn release(&mut self, key: ReaderKey) -> Option<Connection> {
        let connection = self.sockets.slots.try_remove(key as usize)?;
        self.counters.connections.sub(1);
        self.shared.loads[self.index].fetch_sub(1, Ordering::Release);
        Some(connection)
    }

    /// Notes that a socket on its way to a shard can't be used.
    pub fn refuse_socket(&self, shard: usize, why: &dyn Display) {
        self.shared.loads[shard].fetch_sub(1, Ordering::Relaxed);
        self.refuse(
            Refusal::NoDescriptor,
            || "an address that is not known".to_owned(),
            format_args!(": {why}"),
        );
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
        let is_at = |key: ReaderKey| self.sockets.slots.get(key as usize).is_some_and(|it| it.id == client);
        let key = Some(client.slot()).filter(|key| is_at(*key)).or_else(|| self.away.slot_of(client))?;
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

    // ---- the hub ----

    /// Counts the bytes that sockets took.
    pub fn count_sent(&mut self) {
        self.counters.bytes_sent.add(std::mem::take(&mut self.sockets.sent));
    }

    /// Logs what readers have lost.
    pub fn log_losses(&mut self) {
        let now = self.now();
        for line in self.sockets.losses.lines(now) {
            self.shared.log(Level::Warning, line);
        }
    }

    /// Counts how late a tick begins, if one does.
    pub fn note_tick(&mut self) {
        if let Some(due) = self.tick_due.take_if(|due| self.sockets.now >= *due) {
            self.counters.tick_lag.record(self.sockets.now.since(due));
        }
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

    /// Tells the application something that a client has said. It is woken in the next turn, for all that was read until then.
    pub fn tell(&mut self, event: Event) {
        self.shared.inbox.push_of_many(event);
        self.commands.wake();
    }

    // ---- time ----

    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.shared.clock.unix_millis())
    }

    /// Makes sure that the wheel comes round to a connection in time.
    pub fn schedule(&mut self, key: ReaderKey) {
        let now = self.now();
        let Some(connection) = self.sockets.slots.get_mut(key as usize) else { return };
        let deadline = connection.deadlines.next(&self.shared.timeouts);
        let quiet = connection.quiet_until().filter(|until| *until > now);
        let look = connection.is_paused(now, &self.shared).then(|| now + PAUSED_LOOK);
        let next = quiet.into_iter().chain(look).fold(deadline, Moment::min);
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
        self.wheel
            .due()
            .into_iter()
            .chain(self.turns.next_for_keys())
            .chain(self.away.oldest().map(|(since, _)| since + self.shared.config.session_ttl))
            .chain(self.shared.presence.due().filter(|_| self.index == 0))
            .min()
    }

    pub(super) fn wake_at(&mut self, moment: Moment) {
        if self.asleep_until.is_none_or(|until| moment < until) {
            self.asleep_until = Some(moment);
            self.commands.wake();
        }
    }

    // ---- bounds ----

    /// Reads a connection again after all others that wait for this, and not before the sockets were looked at. However many clients
    /// ask for much, the others wait for one of them.
    pub fn wait_for_turn(&mut self, key: ReaderKey) {
        self.turns.wait(&mut self.sockets, key);
        self.commands.wake();
    }

    /// Whether the token that a connection shows may be judged now. If not, the connection waits for its turn, or for a key. However
    /// many come at once, all of them together get as much time between two looks at the sockets as one client that asks for much.
    pub fn may_judge(&mut self, key: ReaderKey, needs: Needs) -> bool {
        let Self { turns, sockets, shared, .. } = &mut *self;
        let may = match needs {
            Needs::Nothing => true,
            Needs::Verifying(cost) => turns.may_verify(sockets, key, cost),
            Needs::Keys => !turns.wait_for_keys(sockets, key, || shared.wants_keys()),
        };
        if may {
            self.work += needs.cost()
        } else {
            self.commands.wake()
        }
        may
    }

    /// Lets a connection wait until the application has room for its messages.
    pub fn wait_for_room(&mut self, key: ReaderKey) {
        if let Some(connection) = self.get(key)
            && !std::mem::replace(&mut connection.waits_for_room, true)
        {
            self.waiting_for_room.push(key);
            self.log_full();
        }
    }

    /// Logs which setting keeps clients waiting: somebody should learn that functions do not end.
    fn log_full(&mut self) {
        let budget = &self.shared.budget;
        let what = [
            (&budget.messages, "whose functions have not ended take max_held_bytes"),
            (
                &budget.of_routes,
                "that functions of websocket paths have not received take half of max_held_bytes",
            ),
        ];
        let Some((_, what)) = what.into_iter().find(|(account, _)| !account.has_room()) else { return };
        self.full.note();
        if let Some(count) = self.full.due(self.now()) {
            self.shared
                .log(Level::Warning, format!("clients that are not heard: {count}, because messages {what}"));
        }
    }

    /// The application has room again.
    pub fn wake_waiting(&mut self) {
        // In their order, so that each has its turn.
        for key in std::mem::take(&mut self.waiting_for_room) {
            if let Some(connection) = self.get(key) {
                connection.waits_for_room = false;
                connection.wake();
            }
        }
    }

    /// Notes what a connection holds for an unfinished message.
    pub fn hold_input(&mut self, key: ReaderKey, bytes: usize) {
        let Some(connection) = self.sockets.slots.get_mut(key as usize) else { return };
        let (shares, client) = (&self.shared.budget.unfinished, connection.id);
        connection.share.get_or_insert_with(|| shares.share(client)).hold(bytes);
        self.keep_to_budget();
    }

    /// Notes what waits for a socket, when it is more than a little.
    pub fn hold_output(&mut self, key: ReaderKey) {
        let Some(connection) = self.sockets.slots.get_mut(key as usize) else { return };
        let (shares, client) = (&self.shared.budget.unfinished, connection.id);
        if let Some(outbox) = connection.outbox.as_mut().filter(|outbox| outbox.own_bytes() > UNCOUNTED) {
            let bytes = outbox.own_bytes();
            outbox.share.get_or_insert_with(|| shares.share(client)).hold(bytes);
            self.keep_to_budget();
        }
    }

    /// While sessions remember too much, lets those forget their answers that began first to remember them.
    pub fn forget_oldest_answers(&self) {
        let shared = &self.shared;
        while let Some((client, number)) = shared.budget.remembered.excess() {
            if let Some(commands) = shared.commands_for(client) {
                commands.push_for(client, ClientCommand::ForgetAnswers(number));
            }
        }
    }

    /// While too much is held, evicts the server's oldest shares, with their connections.
    fn keep_to_budget(&self) {
        while let Some((client, number)) = self.shared.budget.unfinished.excess() {
            if let Some(commands) = self.shared.commands_for(client) {
                commands.push_for(client, ClientCommand::Evict(number));
            }
        }
    }
}

/// Between two looks whether a client that is not read has ended. A look is a system call.
const PAUSED_LOOK: Duration = Duration::from_secs(1);

/// Bytes that may wait for a socket without being counted.
const UNCOUNTED: usize = 64 * 1024;
