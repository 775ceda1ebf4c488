//! The hub and a naive model of it, driven by a list of steps. Properties and the fuzzer make up the steps.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use serde_json::Value;

use umbel::broker::memory::MemoryBroker;
use umbel::broker::{Broker, Notify};
use umbel::channel::ChannelName;
use umbel::hub::{CaughtUp, Delivery, Due, FeedKey, FrameEncoder, Hub, Outbound, Outgoing, ReaderKey};
use umbel::moment::Moment;
use umbel::position::{Position, Subscribed};
use umbel::protocol::message::Timestamp;
use umbel::protocol::wire::Wire;
use umbel::rules::{Access, Mode, Overrun, Rule, Rules};
use umbel::stats::Counters;

pub const TICK: Duration = Duration::from_millis(16);
/// Window bits of the readers, by their number.
const WINDOWS: [Option<u8>; 4] = [None, Some(12), Some(9), None];

/// Bells of feeds, rung into a list that the test empties.
#[derive(Clone, Default)]
pub struct Bells(pub Arc<Mutex<Vec<FeedKey>>>);

pub struct Bell(Bells, FeedKey);

impl Notify for Bell {
    fn notify(&self) {
        self.0.0.lock().expect("no test panics here").push(self.1);
    }
}

/// What a reader's socket does, and what it was given.
#[derive(Default)]
pub struct Socket {
    pub stuck: bool,
    /// A stuck socket takes one more frame, as a kernel buffer does that has some room left.
    pub takes_one: bool,
    pub bytes: Vec<u8>,
    pub overrun: bool,
}

#[derive(Default)]
pub struct Sockets {
    pub of: HashMap<ReaderKey, Socket>,
    /// Every shared frame that was delivered, once, by its address.
    frames: HashMap<*const u8, Bytes>,
}

impl Sockets {
    /// Whether the hub still has a share in a frame that it delivered.
    pub fn are_frames_kept(&self) -> bool {
        self.frames.values().any(|frame| !frame.is_unique())
    }
}

impl Outbound for Sockets {
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Some(socket) = self.of.get_mut(&reader) else { return Delivery::Gone };
        if let Outgoing::Shared(frame) = bytes {
            self.frames.entry(frame.as_ptr()).or_insert_with(|| frame.clone());
        }
        if socket.stuck && !std::mem::take(&mut socket.takes_one) {
            return Delivery::Refused;
        }
        socket.bytes.extend_from_slice(bytes.as_slice());
        if socket.stuck { Delivery::Parked } else { Delivery::Sent }
    }

    fn overrun(&mut self, reader: ReaderKey) {
        self.of.get_mut(&reader).expect("a reader that is served has a socket").overrun = true;
    }
}

pub struct World {
    pub broker: Arc<MemoryBroker>,
    pub hub: Hub,
    pub counters: Arc<Counters>,
    pub bells: Bells,
    pub sockets: Sockets,
    pub now: Moment,
}

pub fn rule(pattern: &str, history: usize, mode: Mode, overrun: Overrun) -> Rule {
    Rule {
        pattern: pattern.into(),
        subscribe: Access::Open,
        publish: Access::Open,
        history,
        history_bytes: 1 << 20,
        history_seconds: Duration::from_secs(60),
        mode,
        overrun,
        compress: true,
    }
}

impl World {
    pub fn new(rules: &[Rule]) -> Self {
        let broker = Arc::new(MemoryBroker::new(Arc::new(Rules::new(rules).expect("legal rules")), 1 << 30));
        let (counters, bells) = (Arc::new(Counters::default()), Bells::default());
        let rung = bells.clone();
        let notifier = Box::new(move |feed| -> Arc<dyn Notify> { Arc::new(Bell(rung.clone(), feed)) });
        let hub = Hub::new(
            Arc::clone(&broker) as _,
            Arc::clone(&counters),
            FrameEncoder::new(1, 12),
            TICK,
            notifier,
        );
        Self { broker, hub, counters, bells, sockets: Sockets::default(), now: Moment::default() }
    }

    pub fn publish(&self, channel: &str, data: &str, key: Option<&str>) -> Position {
        let receipt = self.broker.append(&name(channel), data.as_bytes(), key, self.now);
        receipt.position().expect("a log in memory confirms at once")
    }

    pub fn join(&mut self, reader: ReaderKey) {
        let window = WINDOWS[reader as usize % WINDOWS.len()];
        self.hub.join(reader, Wire::WebSocket { window });
        self.sockets.of.insert(reader, Socket::default());
    }

    pub fn leave(&mut self, reader: ReaderKey) {
        self.hub.leave(reader);
        self.sockets.of.remove(&reader);
    }

    /// One turn of a shard.
    pub fn turn(&mut self) {
        for feed in self.bells.0.lock().expect("no test panics here").drain(..) {
            self.hub.moved(feed);
        }
        if self.hub.due(self.now) == Due::Now {
            self.hub.flush(self.now, Timestamp::from_unix_millis(0), &mut self.sockets);
        }
    }

    pub fn catch_up(&mut self, reader: ReaderKey) -> CaughtUp {
        self.hub.catch_up(reader, self.now, Timestamp::from_unix_millis(0), &mut self.sockets)
    }

    /// Turns, and time, until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            self.turn();
            match self.hub.due(self.now) {
                Due::Now => {}
                Due::At(moment) | Due::Rest(moment) => self.now = moment,
                Due::Never if self.bells.0.lock().expect("no test panics here").is_empty() => break,
                Due::Never => {}
            }
        }
        assert!(!self.sockets.are_frames_kept(), "a hub with nothing to do keeps nothing");
        self.sockets.frames.clear();
    }

    pub fn free(&mut self, reader: ReaderKey) {
        if let Some(socket) = self.sockets.of.get_mut(&reader) {
            socket.stuck = false;
            self.hub.writable(reader);
        }
    }

    pub fn take(&mut self, reader: ReaderKey) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.sockets.of.get_mut(&reader).expect("a reader").bytes);
        messages(&bytes)
    }
}

pub fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).expect("a legal name")
}

/// What a client does with what it is told: checks that it is contiguous, and keeps what a channel says.
#[derive(Default)]
pub struct Client {
    pub positions: HashMap<String, u64>,
    pub seen: HashMap<String, BTreeMap<u64, Value>>,
    pub lost: u64,
    /// Key to newest value, per channel.
    pub state: HashMap<String, BTreeMap<String, Value>>,
}

impl Client {
    pub fn apply(&mut self, message: &Value) {
        match message["type"].as_str() {
            Some("gap") => {
                let channel = message["channel"].as_str().expect("a channel");
                let (from, to) =
                    (message["from"].as_u64().expect("from"), message["to"].as_u64().expect("to"));
                assert_eq!(self.positions[channel], from, "a gap begins at the reader's position");
                assert!(to > from, "a gap is not empty");
                self.positions.insert(channel.into(), to);
                self.lost += to - from;
            }
            Some("batched_updates") => {
                let updates = message["updates"].as_array().expect("updates");
                assert_eq!(message["count"].as_u64(), Some(updates.len() as u64));
                updates.iter().for_each(|update| self.update(update));
            }
            other => panic!("unexpected message {other:?}"),
        }
    }

    pub fn update(&mut self, update: &Value) {
        let channel = update["channel"].as_str().expect("a channel");
        let offset = update["offset"].as_u64().expect("an offset");
        let from = update.get("from").map_or(offset - 1, |from| from.as_u64().expect("from"));
        assert_eq!(self.positions.get(channel), Some(&from), "{channel}: an update follows what came before");
        assert!(
            channel.starts_with("latest:") || from + 1 == offset,
            "only channels of the newest values fold"
        );
        self.positions.insert(channel.into(), offset);
        let data = update["data"].clone();
        if let Some(key) = data["key"].as_str() {
            self.state.entry(channel.into()).or_default().insert(key.into(), data.clone());
        }
        self.seen.entry(channel.into()).or_default().insert(offset, data);
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    Publish { channel: usize, key: u8, length: usize },
    Subscribe { reader: ReaderKey, channel: usize },
    Resubscribe { reader: ReaderKey, channel: usize },
    Unsubscribe { reader: ReaderKey, channel: usize },
    Stick { reader: ReaderKey, takes_one: bool },
    Free { reader: ReaderKey },
    Reconnect { reader: ReaderKey },
    Turn,
    Wait(u64),
}

pub const READERS: ReaderKey = 4;
pub const CHANNELS: [&str; 4] = ["all:a", "all:b", "latest:a", "latest:b"];

/// The naive model: every publication of every channel, for ever.
#[derive(Default)]
pub struct Model {
    pub published: HashMap<&'static str, Vec<Value>>,
    pub clients: HashMap<ReaderKey, Client>,
    pub lost_before: u64,
}

pub fn drain_into(world: &mut World, model: &mut Model, reader: ReaderKey) {
    let client = model.clients.get_mut(&reader).expect("joined");
    world.take(reader).iter().for_each(|message| client.apply(message));
}

/// What a shard does before a reader leaves a channel, or goes.
fn catch_up(world: &mut World, model: &mut Model, reader: ReaderKey) {
    let caught_up = world.catch_up(reader);
    assert!(!caught_up.unfinished, "the histories of all channels are less than a slice");
    drain_into(world, model, reader);
    if !world.sockets.of[&reader].stuck {
        for (channel, &position) in &model.clients[&reader].positions {
            let top = model.published[channel.as_str()].len() as u64;
            assert_eq!(position, top, "{channel}: a reader that catches up arrives at the top");
        }
    }
}

pub fn run(steps: &[Step]) -> (World, Model) {
    let rules = [
        rule("all:{x}", 5, Mode::All, Overrun::Gap),
        Rule { compress: false, ..rule("latest:b", 3, Mode::Latest, Overrun::Gap) },
        rule("latest:{x}", 3, Mode::Latest, Overrun::Gap),
    ];
    let (mut world, mut model) = (World::new(&rules), Model::default());
    // Keeps the logs, and their epochs, when the last reader goes.
    CHANNELS.iter().for_each(|channel| {
        let first = serde_json::json!({"n": 0, "key": "0"});
        world.publish(channel, &first.to_string(), Some("0"));
        model.published.entry(channel).or_default().push(first);
    });
    for reader in 0..READERS {
        world.join(reader);
        model.clients.insert(reader, Client::default());
    }
    for step in steps {
        match *step {
            Step::Publish { channel, key, length } => {
                let published = model.published.entry(CHANNELS[channel]).or_default();
                let data = serde_json::json!({"n": published.len(), "key": key.to_string(), "pad": "x".repeat(length)});
                let position = world.publish(CHANNELS[channel], &data.to_string(), Some(&key.to_string()));
                published.push(data);
                assert_eq!(position.offset, published.len() as u64, "offsets count");
            }
            Step::Subscribe { reader, channel } => {
                drain_into(&mut world, &mut model, reader);
                let client = model.clients.get_mut(&reader).expect("joined");
                match world.hub.subscribe(reader, &name(CHANNELS[channel]), None, 3) {
                    Subscribed::From { position, recovered } => {
                        assert!(!recovered);
                        client.positions.insert(CHANNELS[channel].into(), position.offset);
                        client.seen.remove(CHANNELS[channel]);
                        client.state.remove(CHANNELS[channel]);
                    }
                    Subscribed::Already { position } => {
                        assert_eq!(client.positions[CHANNELS[channel]], position.offset);
                    }
                    Subscribed::TooMany { .. } => assert_eq!(world.hub.subscriptions(reader), 3),
                }
            }
            Step::Resubscribe { reader, channel } => {
                // Comes back to a channel with the position it had reached.
                drain_into(&mut world, &mut model, reader);
                let client = model.clients.get_mut(&reader).expect("joined");
                let Some(&offset) = client.positions.get(CHANNELS[channel]) else { continue };
                if !world.hub.unsubscribe(reader, CHANNELS[channel]) {
                    continue;
                }
                let (log, watcher) =
                    world.broker.watch(&name(CHANNELS[channel]), Arc::new(Bell(Bells::default(), 0)));
                let from = Position { epoch: log.epoch(), offset };
                world.broker.unwatch(&name(CHANNELS[channel]), &watcher);
                match world.hub.subscribe(reader, &name(CHANNELS[channel]), Some(from), 3) {
                    Subscribed::From { position, recovered: true } => assert_eq!(position.offset, offset),
                    Subscribed::From { position, recovered: false } => {
                        client.positions.insert(CHANNELS[channel].into(), position.offset);
                        client.seen.remove(CHANNELS[channel]);
                        client.state.remove(CHANNELS[channel]);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Step::Unsubscribe { reader, channel } => {
                catch_up(&mut world, &mut model, reader);
                let had = world.hub.unsubscribe(reader, CHANNELS[channel]);
                let client = model.clients.get_mut(&reader).expect("joined");
                assert_eq!(client.positions.remove(CHANNELS[channel]).is_some(), had);
            }
            Step::Stick { reader, takes_one } => {
                let socket = world.sockets.of.get_mut(&reader).expect("joined");
                (socket.stuck, socket.takes_one) = (true, takes_one);
            }
            Step::Free { reader } => world.free(reader),
            Step::Reconnect { reader } => {
                catch_up(&mut world, &mut model, reader);
                world.leave(reader);
                world.join(reader);
                let client = model.clients.insert(reader, Client::default()).expect("joined");
                model.lost_before += client.lost;
            }
            Step::Turn => world.turn(),
            Step::Wait(millis) => world.now = world.now + Duration::from_millis(millis),
        }
    }
    for reader in 0..READERS {
        world.free(reader);
    }
    world.settle();
    for reader in 0..READERS {
        drain_into(&mut world, &mut model, reader);
    }
    (world, model)
}

/// Carries the steps out, and checks what must hold whatever they were.
pub fn check(steps: &[Step]) {
    let (world, model) = run(steps);
    for client in model.clients.values() {
        for (channel, &position) in &client.positions {
            let published = &model.published[channel.as_str()];
            assert_eq!(position, published.len() as u64, "every reader arrives at the top");
            for (offset, data) in client.seen.get(channel).into_iter().flatten() {
                assert_eq!(data, &published[*offset as usize - 1], "what arrives is what was published");
            }
        }
    }
    let announced: u64 = model.clients.values().map(|client| client.lost).sum();
    assert_eq!(world.counters.lost.load(), announced + model.lost_before, "gaps add up to what was dropped");
}

/// The JSON messages in a sequence of complete text frames, compressed or not.
pub fn messages(mut bytes: &[u8]) -> Vec<Value> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        assert!(matches!(bytes[0], 0x81 | 0xc1), "a final text frame, and not {:#x}", bytes[0]);
        let (length, header) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = &bytes[header..header + length];
        let text = if bytes[0] & 0x40 == 0 { payload.to_vec() } else { inflated(payload) };
        messages.push(serde_json::from_slice(&text).expect("the server sends JSON"));
        bytes = &bytes[header + length..];
    }
    messages
}

pub fn inflated(payload: &[u8]) -> Vec<u8> {
    // RFC 7692 §7.2.2, and a final empty block so that the decoder knows the end.
    let whole = [payload, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::new();
    DeflateDecoder::new(&whole[..]).read_to_end(&mut text).expect("the server compresses rightly");
    text
}
