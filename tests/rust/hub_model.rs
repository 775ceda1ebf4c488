//! The hub and a naive model of it, driven by a list of steps. Properties and the fuzzer make up the steps.

#[path = "late_broker.rs"]
pub mod late_broker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use serde_json::Value;

use umbel::broker::memory::MemoryBroker;
use umbel::broker::{Broker, Notify, PublishError, Receipt};
use umbel::channel::ChannelName;
use umbel::hub::{CaughtUp, Delivery, Due, FeedKey, FrameEncoder, Hub, Outbound, Outgoing, ReaderKey};
use umbel::moment::Moment;
use umbel::position::{GapReason, Position, Start, Subscribed, Unrecovered};
use umbel::protocol::event_stream::{ChannelHash, StreamPositions};
use umbel::protocol::message::Timestamp;
use umbel::protocol::wire::Wire;
use umbel::publication::Content;
use umbel::rules::{Access, Mode, Overrun, Presence, Replay, Rule, Rules};
use umbel::stats::Counters;

use late_broker::{Elsewhere, LateBroker};

pub const TICK: Duration = Duration::from_millis(16);
/// How the readers are spoken to, by their number.
const WIRES: [Wire; READERS as usize] = [
    Wire::PLAIN_WEBSOCKET,
    Wire::WebSocket { window: Some(12) },
    Wire::WebSocket { window: Some(9) },
    Wire::SessionEvents { chunked: true },
    Wire::Events { chunked: true, single: false, alone: false },
    Wire::Events { chunked: false, single: false, alone: true },
    Wire::Events { chunked: false, single: true, alone: false },
    Wire::Events { chunked: true, single: true, alone: true },
];

/// The feeds whose logs have moved, in a list that the test empties.
#[derive(Clone, Default)]
pub struct MovedFeeds(pub Arc<Mutex<Vec<FeedKey>>>);

pub struct FeedNotifier(MovedFeeds, FeedKey);

impl Notify for FeedNotifier {
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

    fn lost(&mut self, _: &ChannelName, _: GapReason) {}
    fn finished(&mut self, _: ReaderKey, _: &ChannelName) {}
    fn overrun(&mut self, reader: ReaderKey) {
        self.of.get_mut(&reader).expect("a reader that is served has a socket").overrun = true;
    }
}

/// What the model asks of a broker beside being one.
pub trait ModelBroker: Broker + Sized + 'static {
    fn over(rules: Arc<Rules>) -> Self;

    /// What happens where the logs are, when that is not here.
    fn elsewhere(&self, _: &ChannelName, _: Elsewhere) {}

    /// Everything arrives that is under way.
    fn settle(&self) {}

    /// Where the log of a channel ends, as the hub sees it.
    fn top(&self, channel: &ChannelName) -> Position;

    /// What was published by channel and epoch, beside what was confirmed at once.
    fn histories(&self) -> Histories {
        Histories::new()
    }
}

pub type Histories = HashMap<(String, String), Vec<Value>>;

impl ModelBroker for MemoryBroker {
    fn over(rules: Arc<Rules>) -> Self {
        Self::new(rules, 1 << 30)
    }

    fn top(&self, channel: &ChannelName) -> Position {
        self.promise(channel, Moment::default())
    }
}

impl ModelBroker for LateBroker {
    fn over(rules: Arc<Rules>) -> Self {
        Self::new(rules)
    }

    fn elsewhere(&self, channel: &ChannelName, step: Elsewhere) {
        self.act(channel, step);
    }

    fn settle(&self) {
        Self::settle(self);
    }

    fn top(&self, channel: &ChannelName) -> Position {
        Self::top(self, channel)
    }

    fn histories(&self) -> Histories {
        Self::histories(self)
    }
}

pub struct World<B = MemoryBroker> {
    pub broker: Arc<B>,
    pub hub: Hub,
    pub counters: Arc<Counters>,
    pub moved_feeds: MovedFeeds,
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
        sender: false,
        replay: Replay::Head,
        recheck: false,
        claims: false,
        versions: false,
        resolves: false,
        max_keys: 100,
        state_bytes: 1 << 20,
        presence: Presence::No,
        presence_asks: false,
        presence_told: false,
    }
}

impl World {
    pub fn new(rules: &[Rule]) -> Self {
        Self::over(rules)
    }

    pub fn publish(&self, channel: &str, data: &str, key: Option<&str>) -> Position {
        let receipt = self.append(channel, data, key);
        receipt.position().expect("a log in memory confirms at once")
    }
}

impl<B: ModelBroker> World<B> {
    pub fn over(rules: &[Rule]) -> Self {
        let broker = Arc::new(B::over(Arc::new(Rules::new(rules).expect("legal rules"))));
        let (counters, moved_feeds) = (Arc::new(Counters::default()), MovedFeeds::default());
        let list = moved_feeds.clone();
        let notifier =
            Box::new(move |feed| -> Arc<dyn Notify> { Arc::new(FeedNotifier(list.clone(), feed)) });
        let hub = Hub::new(
            Arc::clone(&broker) as _,
            Arc::clone(&counters),
            FrameEncoder::new(1, 12),
            TICK,
            notifier,
        );
        Self { broker, hub, counters, moved_feeds, sockets: Sockets::default(), now: Moment::default() }
    }

    pub fn append(&self, channel: &str, data: &str, key: Option<&str>) -> Receipt {
        self.broker.append(name(channel).as_name(), Content::new(data.as_bytes(), key), self.now)
    }

    pub fn join(&mut self, reader: ReaderKey) {
        let wire = wire_of(reader);
        self.hub.join(reader, wire);
        if let Wire::Events { alone, .. } = wire {
            let channels = followed(alone).iter().map(|name| (ChannelHash::of(name), None));
            let mut positions = StreamPositions::new(channels);
            if let Some(secret) = secret_of(reader) {
                positions.set_secret(&secret);
            }
            self.hub.follow(reader, positions);
        }
        self.sockets.of.insert(reader, Socket::default());
    }

    pub fn leave(&mut self, reader: ReaderKey) {
        self.hub.leave(reader);
        self.sockets.of.remove(&reader);
    }

    /// One turn of a shard.
    pub fn turn(&mut self) {
        for feed in self.moved_feeds.0.lock().expect("no test panics here").drain(..) {
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
                Due::Never if self.moved_feeds.0.lock().expect("no test panics here").is_empty() => break,
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
        match wire_of(reader) {
            Wire::WebSocket { .. } => messages(&bytes),
            Wire::Events { chunked, .. } | Wire::SessionEvents { chunked } => events(&bytes, chunked),
        }
    }
}

/// Those beyond the readers of the model are WebSockets.
fn wire_of(reader: ReaderKey) -> Wire {
    WIRES.get(reader as usize).copied().unwrap_or(WIRES[reader as usize % 4])
}

/// What the ids of a stream begin with that was opened with a ticket. It shares no events.
fn secret_of(reader: ReaderKey) -> Option<String> {
    matches!(wire_of(reader), Wire::Events { alone: false, .. }).then(|| format!("{reader:036}"))
}

/// The channels in the ids of a stream. One that is alone may have other channels all the same.
fn followed(alone: bool) -> &'static [&'static str] {
    if alone { &CHANNELS[..1] } else { &CHANNELS }
}

pub fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).expect("a legal name")
}

/// What a client does with what it is told: checks that it is contiguous, and keeps what a channel says.
#[derive(Default)]
pub struct Client {
    pub positions: HashMap<String, u64>,
    pub epochs: HashMap<String, String>,
    /// The offset from which on it has everything: it loaded its state anew there.
    pub complete_from: HashMap<String, u64>,
    pub seen: HashMap<String, BTreeMap<u64, Value>>,
    pub gaps: u64,
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
                let epoch = message["epoch"].as_str().expect("an epoch");
                let known = self.epochs.insert(channel.into(), epoch.into());
                let is_new = known.is_some_and(|known| known != epoch);
                match message["reason"].as_str() {
                    Some("overrun" | "burst" | "memory") => assert!(to > from, "a gap is not empty"),
                    Some("turn") => assert!(is_new && to == from, "the same position in a new epoch"),
                    Some("reset") => assert!(is_new, "only a new epoch takes back what was there"),
                    other => panic!("unexpected reason {other:?}"),
                }
                self.positions.insert(channel.into(), to);
                if message["reason"] != "turn" {
                    self.load_anew(channel, to);
                    self.gaps += 1;
                    self.lost += to.saturating_sub(from);
                }
            }
            Some("batched_updates") => {
                let updates = message["updates"].as_array().expect("updates");
                assert_eq!(message["count"].as_u64(), Some(updates.len() as u64));
                updates.iter().for_each(|update| self.update(update));
            }
            other => panic!("unexpected message {other:?}"),
        }
    }

    pub fn subscribed(&mut self, channel: &str, Position { epoch, offset }: Position) {
        self.positions.insert(channel.into(), offset);
        self.epochs.insert(channel.into(), epoch.to_string());
        self.load_anew(channel, offset);
    }

    fn load_anew(&mut self, channel: &str, offset: u64) {
        self.complete_from.insert(channel.into(), offset);
        self.seen.remove(channel);
        self.state.remove(channel);
    }

    /// Checks an answer against what was asked, and begins there.
    pub fn begin(&mut self, channel: &str, start: Start, subscribed: Subscribed) {
        match subscribed {
            Subscribed::From { position, top, recovered, .. } => {
                assert!(position.offset <= top, "nobody begins after the top");
                let reached = self.position(channel).map(|reached| reached.offset);
                let goes_on = match (start, recovered) {
                    (Start::Newcomer, None) | (Start::After(_), Some(Err(Unrecovered::Epoch))) => {
                        assert!(channel.ends_with('b') || position.offset == top, "only these replay");
                        false
                    }
                    (Start::Promised(from), None) => {
                        assert_eq!(position.offset, from.offset);
                        Some(from.offset) == reached
                    }
                    (Start::Promised(_), Some(Err(Unrecovered::Epoch | Unrecovered::Ahead))) => {
                        assert_eq!(position.offset, 0, "all of the new log was promised");
                        false
                    }
                    (Start::After(from), Some(Ok(()))) => {
                        assert_eq!(position.offset, from.offset);
                        Some(from.offset) == reached
                    }
                    (Start::After(from), Some(Err(Unrecovered::Trimmed))) => {
                        assert!(position.offset > from.offset, "something was missed");
                        false
                    }
                    (Start::After(from), Some(Err(Unrecovered::Ahead))) => {
                        assert!(from.offset > top);
                        false
                    }
                    other => panic!("{other:?}"),
                };
                if goes_on {
                    self.epochs.insert(channel.into(), position.epoch.to_string());
                } else {
                    self.subscribed(channel, position);
                }
            }
            Subscribed::Existing { position, .. } => {
                assert_eq!(self.positions[channel], position.offset);
                // The log may have forgotten the epoch that this reader knows.
                self.epochs.insert(channel.into(), position.epoch.to_string());
            }
            Subscribed::TooMany { most } => assert_eq!(most, 3),
        }
    }

    /// Where it wants to begin.
    fn start(&self, channel: &str, from: From) -> Start {
        let Some(reached) = self.position(channel) else { return Start::Newcomer };
        match from {
            From::Newcomer => Start::Newcomer,
            From::Reached { is_promised: true } => Start::Promised(reached),
            From::Reached { is_promised: false } => Start::After(reached),
            From::Offset(offset) => Start::After(Position { offset, ..reached }),
        }
    }

    /// The position that it would come back with.
    pub fn position(&self, channel: &str) -> Option<Position> {
        let epoch = self.epochs.get(channel)?.parse().expect("an epoch");
        Some(Position { epoch, offset: *self.positions.get(channel)? })
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
    Publish {
        channel: usize,
        key: u8,
        length: usize,
    },
    Subscribe {
        reader: ReaderKey,
        channel: usize,
        from: From,
    },
    Resubscribe {
        reader: ReaderKey,
        channel: usize,
    },
    Restart {
        reader: ReaderKey,
        channel: usize,
        from: From,
    },
    Unsubscribe {
        reader: ReaderKey,
        channel: usize,
    },
    Stick {
        reader: ReaderKey,
        takes_one: bool,
    },
    Free {
        reader: ReaderKey,
    },
    Reconnect {
        reader: ReaderKey,
    },
    /// The connection breaks. The client has read what was sent to it, or has not.
    Away {
        reader: ReaderKey,
        has_read: bool,
    },
    /// The client comes back with its positions, also when the server has not noticed that it is away.
    Resume {
        reader: ReaderKey,
        has_read: bool,
    },
    Turn,
    Wait(u64),
    Elsewhere {
        channel: usize,
        step: Elsewhere,
    },
}

/// Where a client wants to begin.
#[derive(Clone, Copy, Debug)]
pub enum From {
    Newcomer,
    /// At its own position, as it says itself or as the server has promised it.
    Reached {
        is_promised: bool,
    },
    /// At an offset, whatever it has.
    Offset(u64),
}

pub const READERS: ReaderKey = 8;
pub const CHANNELS: [&str; 4] = ["all:a", "all:b", "latest:a", "latest:b"];

/// The naive model: every publication of every channel, for ever.
#[derive(Default)]
pub struct Model {
    pub published: Vec<(&'static str, Value, Receipt)>,
    pub clients: HashMap<ReaderKey, Client>,
    pub gaps_before: u64,
    pub lost_before: u64,
    /// Those whose connections broke, and who have not come back.
    away: BTreeSet<ReaderKey>,
}

impl Step {
    /// The reader that needs a connection for this.
    fn reader(&self) -> Option<ReaderKey> {
        match *self {
            Self::Subscribe { reader, .. }
            | Self::Resubscribe { reader, .. }
            | Self::Restart { reader, .. }
            | Self::Unsubscribe { reader, .. }
            | Self::Stick { reader, .. }
            | Self::Free { reader }
            | Self::Reconnect { reader }
            | Self::Away { reader, .. } => Some(reader),
            Self::Resume { .. }
            | Self::Publish { .. }
            | Self::Turn
            | Self::Wait(_)
            | Self::Elsewhere { .. } => None,
        }
    }
}

/// The connection of a reader breaks.
fn go_away<B: ModelBroker>(world: &mut World<B>, model: &mut Model, reader: ReaderKey, has_read: bool) {
    if has_read {
        drain_into(world, model, reader);
    } else {
        // It was told of these gaps all the same.
        for gap in world.take(reader).iter().filter(|message| message["type"] == "gap") {
            let [from, to] = ["from", "to"].map(|field| gap[field].as_u64().expect("an offset"));
            if gap["reason"] != "turn" {
                model.gaps_before += 1;
                model.lost_before += to.saturating_sub(from);
            }
        }
    }
    world.leave(reader);
    model.away.insert(reader);
}

/// A client comes back with the positions that it has reached.
fn resume<B: ModelBroker>(world: &mut World<B>, model: &mut Model, reader: ReaderKey) {
    if !model.away.remove(&reader) {
        return;
    }
    world.join(reader);
    let client = model.clients.get_mut(&reader).expect("joined");
    let channels: Vec<_> = client.positions.keys().cloned().collect();
    for channel in channels {
        let start = client.start(&channel, From::Reached { is_promised: false });
        let subscribed = world.hub.subscribe(reader, &name(&channel), start, 3, world.now);
        assert!(matches!(subscribed, Subscribed::From { recovered: Some(_), .. }), "it had no more before");
        client.begin(&channel, start, subscribed);
    }
}

pub fn drain_into<B: ModelBroker>(world: &mut World<B>, model: &mut Model, reader: ReaderKey) {
    let client = model.clients.get_mut(&reader).expect("joined");
    for message in world.take(reader) {
        client.apply(&message);
        let id = message.get("id of the event").and_then(Value::as_str);
        let is_stream = wire_of(reader).has_ids();
        assert_eq!(id.is_some(), is_stream);
        let Some((secret, id)) = id.map(StreamPositions::split_secret) else { continue };
        assert_eq!(secret, secret_of(reader).as_deref());
        let told = StreamPositions::parse(id).expect("a whole id");
        for channel in CHANNELS {
            let (told, reached) = (told.get(ChannelHash::of(channel)), client.position(channel));
            if let (Some(told), Some(reached)) = (told, reached) {
                assert_eq!(told, Some(reached), "{channel}: the id is what the client has");
            }
        }
    }
}

/// What a shard does before a reader leaves a channel, or goes.
fn catch_up<B: ModelBroker>(world: &mut World<B>, model: &mut Model, reader: ReaderKey) {
    let caught_up = world.catch_up(reader);
    assert!(!caught_up.unfinished, "the histories of all channels are less than a slice");
    drain_into(world, model, reader);
    if !world.sockets.of[&reader].stuck {
        let client = &model.clients[&reader];
        for channel in client.positions.keys() {
            let top = world.broker.top(&name(channel));
            assert_eq!(client.position(channel), Some(top), "{channel}: a reader that catches up arrives");
        }
    }
}

fn publish<B: ModelBroker>(
    world: &World<B>,
    model: &mut Model,
    channel: &'static str,
    key: u8,
    length: usize,
) {
    let (number, key) = (model.published.len(), key.to_string());
    let data = serde_json::json!({"n": number, "key": key, "pad": "x".repeat(length)});
    let receipt = world.append(channel, &data.to_string(), Some(&key));
    model.published.push((channel, data, receipt));
}

pub fn run<B: ModelBroker>(steps: &[Step]) -> (World<B>, Model) {
    let rules = [
        Rule { replay: Replay::Start, ..rule("all:b", 5, Mode::All, Overrun::Gap) },
        rule("all:{x}", 5, Mode::All, Overrun::Gap),
        Rule { compress: false, replay: Replay::Start, ..rule("latest:b", 3, Mode::Latest, Overrun::Gap) },
        rule("latest:{x}", 3, Mode::Latest, Overrun::Gap),
    ];
    let (mut world, mut model) = (World::<B>::over(&rules), Model::default());
    // Keeps the logs, and their epochs, when the last reader goes.
    CHANNELS.iter().for_each(|channel| publish(&world, &mut model, channel, 0, 0));
    for reader in 0..READERS {
        world.join(reader);
        model.clients.insert(reader, Client::default());
    }
    for step in steps {
        if step.reader().is_some_and(|reader| model.away.contains(&reader)) {
            continue;
        }
        match *step {
            Step::Publish { channel, key, length } => {
                publish(&world, &mut model, CHANNELS[channel], key, length);
            }
            Step::Subscribe { reader, channel, from } => {
                drain_into(&mut world, &mut model, reader);
                let (client, channel) = (model.clients.get_mut(&reader).expect("joined"), CHANNELS[channel]);
                let start = client.start(channel, from);
                let subscribed = world.hub.subscribe(reader, &name(channel), start, 3, world.now);
                client.begin(channel, start, subscribed);
            }
            Step::Resubscribe { reader, channel } => {
                // Comes back to a channel with the position it had reached.
                drain_into(&mut world, &mut model, reader);
                let (client, channel) = (model.clients.get_mut(&reader).expect("joined"), CHANNELS[channel]);
                let start = client.start(channel, From::Reached { is_promised: false });
                if world.hub.unsubscribe(reader, channel) {
                    let subscribed = world.hub.subscribe(reader, &name(channel), start, 3, world.now);
                    client.begin(channel, start, subscribed);
                }
            }
            Step::Restart { reader, channel, from } => {
                drain_into(&mut world, &mut model, reader);
                let (client, channel) = (model.clients.get_mut(&reader).expect("joined"), CHANNELS[channel]);
                let start = client.start(channel, from);
                let restarted = world.hub.restart(reader, channel, start, world.now);
                assert_eq!(restarted.is_some(), client.positions.contains_key(channel));
                if let Some(subscribed) = restarted {
                    client.begin(channel, start, subscribed);
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
                model.gaps_before += client.gaps;
                model.lost_before += client.lost;
            }
            Step::Away { reader, has_read } => go_away(&mut world, &mut model, reader, has_read),
            Step::Resume { reader, has_read } => {
                if !model.away.contains(&reader) {
                    go_away(&mut world, &mut model, reader, has_read);
                }
                resume(&mut world, &mut model, reader);
            }
            Step::Turn => world.turn(),
            Step::Wait(millis) => world.now = world.now + Duration::from_millis(millis),
            Step::Elsewhere { channel, step } => world.broker.elsewhere(&name(CHANNELS[channel]), step),
        }
    }
    world.broker.settle();
    for reader in 0..READERS {
        resume(&mut world, &mut model, reader);
        world.free(reader);
    }
    world.settle();
    for reader in 0..READERS {
        drain_into(&mut world, &mut model, reader);
    }
    (world, model)
}

/// Carries the steps out, and checks what must hold whatever they were.
pub fn check<B: ModelBroker>(steps: &[Step]) {
    let (world, model) = run::<B>(steps);
    let histories = histories(&world, &model);
    for client in model.clients.values() {
        for (channel, &position) in &client.positions {
            let published = &histories[&(channel.clone(), client.epochs[channel].clone())];
            assert_eq!(position, published.len() as u64, "every reader arrives at the top");
            let complete_from = client.complete_from[channel] as usize;
            let mut state = BTreeMap::new();
            for data in &published[complete_from..] {
                state.insert(data["key"].as_str().expect("a key").to_owned(), data.clone());
            }
            assert_eq!(client.state.get(channel).cloned().unwrap_or_default(), state, "nothing is missing");
            for (offset, data) in client.seen.get(channel).into_iter().flatten() {
                assert_eq!(data, &published[*offset as usize - 1], "what arrives is what was published");
            }
        }
    }
    let clients = model.clients.values();
    let (gaps, lost) = clients.fold((0, 0), |(gaps, lost), client| (gaps + client.gaps, lost + client.lost));
    assert_eq!(world.counters.gaps.load(), gaps + model.gaps_before, "every gap is counted");
    assert_eq!(world.counters.lost.load(), lost + model.lost_before, "gaps add up to what was dropped");
}

/// What was published, by channel and epoch: every receipt told the truth.
fn histories<B: ModelBroker>(world: &World<B>, model: &Model) -> Histories {
    let mut histories = world.broker.histories();
    let are_here = histories.is_empty();
    for (channel, data, receipt) in &model.published {
        match receipt.outcome().expect("every receipt becomes known") {
            Ok(Position { epoch, offset }) => {
                let history = histories.entry(((*channel).into(), epoch.to_string())).or_default();
                if are_here {
                    history.push(data.clone());
                    assert_eq!(offset, history.len() as u64, "offsets count");
                }
                assert_eq!(&history[offset as usize - 1], data, "it is where its receipt says");
            }
            Err(PublishError::NotPublished(_)) => {
                assert!(!histories.values().flatten().any(|other| other == data), "certain is certain");
            }
            Err(PublishError::Refused(refusal)) => panic!("this is no state: {refusal}"),
            Err(PublishError::MaybePublished(_)) => {}
        }
    }
    for history in histories.values() {
        assert!(history.is_sorted_by_key(|data| data["n"].as_u64()), "in the order of the calls");
    }
    histories
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

/// The JSON messages in a sequence of complete events, each with its id.
pub fn events(bytes: &[u8], chunked: bool) -> Vec<Value> {
    let mut text = std::str::from_utf8(bytes).expect("UTF-8").to_owned();
    if chunked {
        let mut rest = std::mem::take(&mut text);
        while let Some((length, chunk)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).expect("a length");
            text.push_str(&chunk[..length]);
            rest = chunk[length..].strip_prefix("\r\n").expect("the end of a chunk").to_owned();
        }
    }
    let mut messages = Vec::new();
    for event in text.split_terminator("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let mut message: Value = serde_json::from_str(&field("data: ").expect("data")).expect("JSON");
        let named = field("event: ").unwrap_or_else(|| "batched_updates".into());
        if message.get("type").is_none() {
            assert_eq!(named, "batched_updates", "nobody named it");
            message = serde_json::json!({"type": named, "count": 1, "updates": [message]});
        }
        assert_eq!(message["type"], named);
        message["id of the event"] = field("id: ").into();
        messages.push(message);
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
