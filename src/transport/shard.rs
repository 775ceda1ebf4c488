//! One shard: a thread with its own event loop, its connections, and its part of the subscriptions.
//!
//! Everything of a shard lives in one [`Shard`] behind a `RefCell`, and is touched only between two awaits, so nothing
//! is locked and nothing is shared. A connection's task does nothing but wait for its socket; the flush writes to all sockets
//! directly and wakes no task.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConnection;
use slab::Slab;
use tokio::task::AbortHandle;

use crate::broker::Broker;
use crate::channel::Pattern;
use crate::close::CloseCode;
use crate::config::{Config, Rules};
use crate::connection::keepalive::{Deadlines, Verdict};
use crate::hub::{CaughtUp, Delivery, Due, FrameEncoder, Hub, Outbound, Outgoing, ReaderKey};
use crate::moment::Moment;
use crate::protocol::deflate::Inflater;
use crate::protocol::frame;
use crate::protocol::handshake::Policy;
use crate::protocol::http::HttpError;
use crate::protocol::message::Timestamp;
use crate::stats::Counters;
use crate::transport::addresses::{Addresses, Counted};
use crate::transport::budget::Budget;
use crate::transport::clock::Clock;
use crate::transport::connection::{Connection, Phase};
use crate::transport::drive::ConnectionTask;
use crate::transport::ending::{ABNORMAL, Drain, Latecomers};
use crate::transport::events::{ClientId, Event, Inbox, Level};
use crate::transport::io::{Accepted, Io, Stream};
use crate::transport::mailbox::{Bell, Letter, Mailbox};
use crate::transport::wheel::Wheel;

#[cfg(test)]
mod tests;

/// What all shards of a server share.
pub(crate) struct Shared {
    pub config: Config,
    pub deadlines: Deadlines,
    pub rules: Arc<Rules>,
    pub routes: Vec<Pattern>,
    pub pages: HashMap<String, Page>,
    pub policy: Policy,
    pub route_policy: Policy,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub clock: Clock,
    pub broker: Arc<dyn Broker>,
    pub inbox: Arc<dyn Inbox>,
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub counters: Vec<Arc<Counters>>,
    /// Connections of each shard, those on their way to it included.
    pub loads: Vec<AtomicUsize>,
    pub addresses: Arc<Addresses>,
    pub draining: AtomicBool,
    /// Mixed into public ids, so that they tell nothing about the order of connections.
    pub salt: u64,
    pub budget: Arc<Budget>,
    /// Clients that are upgraded and not closed; of those on websocket routes, the bytes between the application and
    /// the socket. Locked for one look-up, insertion or removal.
    pub clients: Mutex<HashMap<ClientId, Option<Arc<AtomicUsize>>>>,
}

/// A fixed answer to `GET`.
#[derive(Clone, Debug)]
pub struct Page {
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Shared {
    /// The id that clients and applications see: one to one with the inner id, and without its order.
    pub fn public_id(&self, client: ClientId) -> String {
        // The finalizer of splitmix64, a bijection of 64-bit numbers.
        let mut mixed = client.0 ^ self.salt;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", mixed ^ (mixed >> 31))
    }

    pub fn mailbox(&self, client: ClientId) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get((client.0 >> 56) as usize)
    }

    pub fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// A client that is connected, and its backlog when it is on a websocket route.
    pub fn client(&self, client: ClientId) -> Option<Option<Arc<AtomicUsize>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&client).cloned()
    }
}

pub(crate) struct Shard {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub mailbox: Arc<Mailbox>,
    pub counters: Arc<Counters>,
    pub hub: Hub,
    pub connections: Slab<Connection>,
    pub now: Moment,
    /// Connections that would read if the application had room.
    pub waiting: Vec<ReaderKey>,
    /// Control frames for the connection that is being read, sent together at the end of the read.
    pub replies: Vec<u8>,
    pub scratch: Vec<u8>,
    pub inflater: Option<Box<Inflater>>,
    /// What the connection that is being read has cost in this turn.
    pub work: usize,
    wheel: Wheel,
    /// When the shard's own task looks at the wheel again, unless it is woken; `None` is never.
    asleep_until: Option<Moment>,
    due: Vec<u32>,
    letters: VecDeque<Letter>,
    generation: u32,
    /// Connections that a flush found broken.
    broken: Vec<ReaderKey>,
    overrun: Vec<ReaderKey>,
    pub latecomers: Latecomers,
    pub drain: Option<Drain>,
    /// The task of this shard's listener, ended when the server drains.
    pub accepting: Option<AbortHandle>,
    pub read_buffer: Option<Vec<u8>>,
}

/// What the shard's task does next.
enum Next {
    Again,
    WaitUntil(Moment),
    Wait,
    End,
}

impl Shard {
    pub fn new(index: usize, shared: Arc<Shared>) -> Self {
        let mailbox = Arc::clone(&shared.mailboxes[index]);
        let counters = Arc::clone(&shared.counters[index]);
        let encoder = FrameEncoder::new(shared.config.deflate_level, shared.config.deflate_window);
        let box_of_bells = Arc::clone(&mailbox);
        let notifier = Box::new(move |feed| -> Arc<dyn crate::broker::log::Alarm> {
            Arc::new(Bell { mailbox: Arc::clone(&box_of_bells), feed })
        });
        let hub = Hub::new(
            Arc::clone(&shared.broker),
            Arc::clone(&counters),
            encoder,
            shared.config.tick,
            notifier,
        );
        let now = shared.clock.now();
        Self {
            index,
            mailbox,
            counters,
            hub,
            connections: Slab::new(),
            now,
            waiting: Vec::new(),
            replies: Vec::new(),
            scratch: Vec::new(),
            inflater: None,
            work: 0,
            wheel: Wheel::new(now),
            asleep_until: None,
            due: Vec::new(),
            letters: VecDeque::new(),
            generation: 0,
            broken: Vec::new(),
            overrun: Vec::new(),
            latecomers: Latecomers::default(),
            drain: None,
            accepting: None,
            read_buffer: None,
            shared,
        }
    }

    /// Runs until the server stops. Its connections are tasks of the same runtime.
    pub async fn run(shard: Rc<RefCell<Self>>) {
        let (mailbox, clock) = {
            let shard = shard.borrow();
            (Arc::clone(&shard.mailbox), shard.shared.clock)
        };
        loop {
            let turn = catch_unwind(AssertUnwindSafe(|| Self::turn(&shard)));
            match turn.unwrap_or_else(|_| shard.borrow().recovered()) {
                // Lets the runtime look at the sockets.
                Next::Again => tokio::task::yield_now().await,
                Next::WaitUntil(moment) => {
                    let deadline = clock.instant(moment).into();
                    // Elapsed is as good as a letter: both mean another turn.
                    let _ = tokio::time::timeout_at(deadline, mailbox.wait_letter()).await;
                }
                Next::Wait => mailbox.wait_letter().await,
                Next::End => break,
            }
        }
    }

    fn recovered(&self) -> Next {
        self.counters.panics.add(1);
        self.log(Level::Error, "a turn of a shard panicked; its connections go on".into());
        Next::Again
    }

    /// Opens letters, looks at deadlines, flushes a slice.
    fn turn(cell: &Rc<RefCell<Self>>) -> Next {
        let mut shard = cell.borrow_mut();
        let this = &mut *shard;
        this.now = this.shared.clock.now();
        // Taken from where they are kept: what a panic leaves is for the next turn, here and with deadlines and feeds.
        this.mailbox.take(&mut this.letters);
        while let Some(letter) = this.letters.pop_front() {
            match letter {
                Letter::Accepted(Accepted { socket, counted, at }) => match Stream::new(socket) {
                    Ok(stream) => this.accept(cell, stream, counted, at),
                    Err(_) => this.give_up_socket(),
                },
                letter => this.open_letter(letter),
            }
        }
        this.look_at_deadlines();
        this.flush();
        if this.drain.is_some() && this.drain_some() {
            return Next::End;
        }
        let next = this.next();
        this.asleep_until = if let Next::WaitUntil(moment) = next { Some(moment) } else { None };
        next
    }

    fn next(&self) -> Next {
        let flush = match self.hub.due(self.now) {
            Due::Now => return Next::Again,
            Due::At(moment) => {
                self.mailbox.let_bells_wait();
                Some(moment)
            }
            Due::Rest(moment) => Some(moment),
            Due::Never => None,
        };
        let drain = self.drain.as_ref().map(|drain| drain.next.min(drain.end));
        let soonest = [flush, self.wheel.due(), drain].into_iter().flatten().min();
        soonest.map_or(Next::Wait, Next::WaitUntil)
    }

    fn flush(&mut self) {
        if self.hub.due(self.now) != Due::Now {
            return;
        }
        self.with_sockets(|hub, now, time, sockets| hub.flush(now, time, sockets));
    }

    /// Ends a subscription after what was published before; `false` when there was none.
    pub fn unsubscribe(&mut self, key: ReaderKey, channel: &str) -> bool {
        self.catch_up(key);
        self.hub.unsubscribe(key, channel)
    }

    /// Gives a connection what it was answered and what was published to it, as far as its socket takes it and one
    /// slice goes; `false` when there is more than that.
    pub fn catch_up(&mut self, key: ReaderKey) -> bool {
        self.flush_replies(key);
        let mut caught_up = CaughtUp { cost: 0, unfinished: false };
        self.with_sockets(|hub, now, time, sockets| caught_up = hub.catch_up(key, now, time, sockets));
        self.work += caught_up.cost as usize;
        self.wake_to_rest();
        !caught_up.unfinished
    }

    /// The same for a connection that is closed next, for a reason that stands: being too far behind is not another one.
    pub fn catch_up_last(&mut self, key: ReaderKey) {
        self.flush_replies(key);
        // Who was found too far behind meanwhile is closed by whoever is closing those, and not from in here.
        self.write_to_sockets(|hub, now, time, sockets| {
            let _ = hub.catch_up(key, now, time, sockets);
            sockets.overrun.retain(|&other| other != key);
        });
        self.wake_to_rest();
    }

    /// A connection's task may make the hub hold something, too: the shard wakes up to give it back.
    fn wake_to_rest(&mut self) {
        if let Due::Rest(moment) = self.hub.due(self.now) {
            self.wake_at(moment);
        }
    }

    /// The connection, unless it is gone or our last word to it was said. Whoever acts on a connection asks here again
    /// after each call that may write to it: a socket can break in any write, and a client that does not read, or errs too
    /// often, is closed in the middle of its message.
    pub fn live(&mut self, key: ReaderKey) -> Option<&mut Connection> {
        self.connections.get_mut(key as usize).filter(|connection| connection.is_live())
    }

    /// Lets the hub write to sockets, and ends those that turn out to be broken or too far behind.
    fn with_sockets(&mut self, write: impl FnOnce(&mut Hub, Moment, Timestamp, &mut Sockets<'_>)) {
        let written = catch_unwind(AssertUnwindSafe(|| self.write_to_sockets(write)));
        while let Some(key) = self.overrun.pop() {
            let reason = "the log has moved past this reader";
            self.guarded(key, |shard| shard.close(key, CloseCode::TOO_FAR_BEHIND, reason));
        }
        if let Err(panic) = written {
            resume_unwind(panic);
        }
    }

    /// Lets the hub write to sockets, and ends those that turn out to be broken.
    fn write_to_sockets(&mut self, write: impl FnOnce(&mut Hub, Moment, Timestamp, &mut Sockets<'_>)) {
        let time = self.timestamp();
        let mut sockets = Sockets {
            connections: &mut self.connections,
            now: self.now,
            sent: 0,
            broken: &mut self.broken,
            overrun: &mut self.overrun,
        };
        let written = catch_unwind(AssertUnwindSafe(|| write(&mut self.hub, self.now, time, &mut sockets)));
        let sent = sockets.sent;
        self.counters.bytes_sent.add(sent);
        let interrupted = self.hub.interrupted();
        if let Some(key) = interrupted {
            self.panicked(key);
        }
        while let Some(key) = self.broken.pop() {
            self.guarded(key, |shard| shard.finish(key, ABNORMAL, "the connection broke"));
        }
        if let Err(panic) = written
            && interrupted.is_none()
        {
            resume_unwind(panic);
        }
    }

    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.shared.clock.unix_millis())
    }

    pub fn log(&self, level: Level, text: String) {
        self.shared.inbox.push(Event::Log { level, text });
    }

    // ---- the life of a connection ----

    /// Takes a socket over.
    pub fn accept(&mut self, cell: &Rc<RefCell<Self>>, stream: Stream, counted: Counted, at: Moment) {
        let session = self.shared.tls.as_ref().map(|config| ServerConnection::new(Arc::clone(config)));
        let Ok(tls) = session.transpose() else { return self.give_up_socket() };
        let io = Io::new(stream, tls.map(Box::new));
        self.generation = self.generation.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let key = entry.key() as ReaderKey;
        let id = (self.index as u64) << 56 | u64::from(key & 0xff_ffff) << 32 | u64::from(self.generation);
        entry.insert(Connection::new(ClientId(id), io, counted, at));
        self.counters.accepted.add(1);
        self.counters.connections.add(1);
        self.schedule(key);
        drop(tokio::task::spawn_local(ConnectionTask::new(cell, key, ClientId(id))));
    }

    fn give_up_socket(&self) {
        self.shared.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        self.counters.refused.add(1);
    }

    /// The connection with this id, and its key.
    pub fn find(&mut self, client: ClientId) -> Option<(ReaderKey, &mut Connection)> {
        let key = (client.0 >> 32) as ReaderKey & 0xff_ffff;
        self.connections
            .get_mut(key as usize)
            .filter(|connection| connection.id == client)
            .map(|it| (key, it))
    }

    // ---- writing ----

    /// Writes control frames to a connection, in order with all else that it is sent, and never behind our last word.
    pub fn send(&mut self, key: ReaderKey, bytes: &[u8]) {
        let now = self.now;
        let Some(connection) = self.live(key) else { return };
        let mut sent = 0;
        let delivery = connection.deliver(Outgoing::Own(bytes), now, &mut sent);
        if delivery == Delivery::Refused {
            connection.block(now).push(bytes::Bytes::copy_from_slice(bytes));
        }
        let is_route = matches!(&connection.phase, Phase::Open(protocol) if protocol.is_route);
        let waiting = if is_route { 0 } else { connection.waiting_bytes() };
        self.counters.bytes_sent.add(sent);
        match delivery {
            Delivery::Sent => {}
            Delivery::Parked | Delivery::Refused => {
                self.hub.blocked(key);
                self.hold_output(key);
            }
            Delivery::Gone => return self.finish(key, ABNORMAL, "the connection broke"),
        }
        if waiting > MAX_WAITING_ANSWERS {
            self.close(key, CloseCode::POLICY, "answers were not read");
        }
        self.schedule(key);
    }

    pub fn flush_replies(&mut self, key: ReaderKey) {
        if !self.replies.is_empty() {
            let replies = std::mem::take(&mut self.replies);
            self.send(key, &replies);
            self.replies = replies;
            self.replies.clear();
        }
    }

    // ---- deadlines ----

    /// Makes sure that the wheel comes round to a connection in time.
    pub fn schedule(&mut self, key: ReaderKey) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let next = connection.keepalive.next(&self.shared.deadlines);
        if connection.timer <= self.now || next < connection.timer {
            connection.timer = next;
            self.wheel.enter(key, next);
            self.wake_at(next);
        }
    }

    fn wake_at(&mut self, moment: Moment) {
        if self.asleep_until.is_none_or(|until| moment < until) {
            self.asleep_until = Some(moment);
            self.mailbox.wake();
        }
    }

    fn look_at_deadlines(&mut self) {
        self.wheel.advance(self.now, &mut self.due);
        while let Some(key) = self.due.pop() {
            self.guarded(key, |shard| shard.look_at_deadline(key));
        }
    }

    fn look_at_deadline(&mut self, key: ReaderKey) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if connection.timer > self.now {
            return;
        }
        let listening = connection.listens() && self.shared.inbox.has_room();
        match connection.keepalive.check(self.now, listening, &self.shared.deadlines) {
            Verdict::Wait(_) => {}
            Verdict::Ping => self.ping(key),
            Verdict::Late => self.late(key),
            Verdict::Close(code, reason) => self.close(key, code, reason),
            Verdict::Drop if connection.is_ending() => self.close(key, CloseCode::NORMAL, ""),
            Verdict::Drop => self.finish(key, ABNORMAL, "the client did not end its side"),
        }
        self.schedule(key);
    }

    fn ping(&mut self, key: ReaderKey) {
        let mut bytes = Vec::with_capacity(2);
        frame::ping(b"", &mut bytes);
        self.send(key, &bytes);
    }

    fn late(&mut self, key: ReaderKey) {
        let Some(connection) = self.live(key) else { return };
        match &connection.phase {
            Phase::Head(head) if !head.buffer.is_empty() => {
                self.counters.refused.add(1);
                self.say_last(key, &HttpError::TIMEOUT.to_response(), ABNORMAL, "");
            }
            Phase::Asked(_) => {
                self.close(key, CloseCode::TRY_LATER, "the application did not answer in time")
            }
            Phase::Head(_) | Phase::Open(_) | Phase::Closing { .. } => self.finish(key, ABNORMAL, "silent"),
        }
    }
}

/// The connections of a shard as the hub sees them.
struct Sockets<'a> {
    connections: &'a mut Slab<Connection>,
    now: Moment,
    sent: u64,
    broken: &'a mut Vec<ReaderKey>,
    overrun: &'a mut Vec<ReaderKey>,
}

impl Outbound for Sockets<'_> {
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Some(connection) = self.connections.get_mut(reader as usize) else { return Delivery::Gone };
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

/// One buffer per shard, for whichever connection is being read.
pub const READ_BYTES: usize = 64 * 1024;

/// Bytes of answers that wait for one socket: those of all functions that may run for a client, and long ones. The core's own
/// are much fewer, because nothing is read from a client for whom something waits. A client that reads nothing at all is
/// closed by the deadline for that.
const MAX_WAITING_ANSWERS: usize = 16 << 20;
