//! The hub against a naive model: what every reader is told adds up to what was published.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use umbel::broker::Broker;
use umbel::broker::log::Alarm;
use umbel::broker::memory::MemoryBroker;
use umbel::channel::ChannelName;
use umbel::config::{Access, Mode, Overrun, Rule, Rules};
use umbel::hub::prepared::{Form, Press};
use umbel::hub::{Delivery, Due, FeedKey, Hub, Outbound, Outgoing, ReaderKey, Subscribed};
use umbel::moment::Moment;
use umbel::position::Position;
use umbel::protocol::message::Timestamp;
use umbel::stats::Counters;

use crate::server_frames::messages;

const TICK: Duration = Duration::from_millis(16);
/// Forms of the readers, by their number.
const FORMS: [Form; 4] = [Form::Plain, Form::Deflated(12), Form::Deflated(9), Form::Plain];

/// Bells of feeds, rung into a list that the test empties.
#[derive(Clone, Default)]
struct Bells(Arc<Mutex<Vec<FeedKey>>>);

struct Bell(Bells, FeedKey);

impl Alarm for Bell {
    fn ring(&self) {
        self.0.0.lock().expect("no test panics here").push(self.1);
    }
}

/// What a reader's socket does, and what it was given.
#[derive(Default)]
struct Socket {
    stuck: bool,
    /// A stuck socket takes one more piece, as a kernel buffer does that has some room left.
    takes_one: bool,
    bytes: Vec<u8>,
    overrun: bool,
}

#[derive(Default)]
struct Sockets(HashMap<ReaderKey, Socket>);

impl Outbound for Sockets {
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Some(socket) = self.0.get_mut(&reader) else { return Delivery::Gone };
        if socket.stuck && !std::mem::take(&mut socket.takes_one) {
            return Delivery::Refused;
        }
        socket.bytes.extend_from_slice(bytes.as_slice());
        if socket.stuck { Delivery::Parked } else { Delivery::Sent }
    }

    fn overrun(&mut self, reader: ReaderKey, _channel: &str) {
        self.0.get_mut(&reader).expect("a reader that is served has a socket").overrun = true;
    }
}

pub struct World {
    broker: Arc<MemoryBroker>,
    hub: Hub,
    counters: Arc<Counters>,
    bells: Bells,
    sockets: Sockets,
    now: Moment,
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
    }
}

impl World {
    pub fn new(rules: &[Rule]) -> Self {
        let broker = Arc::new(MemoryBroker::new(Arc::new(Rules::new(rules).expect("legal rules"))));
        let (counters, bells) = (Arc::new(Counters::default()), Bells::default());
        let rung = bells.clone();
        let bell = Box::new(move |feed| -> Arc<dyn Alarm> { Arc::new(Bell(rung.clone(), feed)) });
        let hub = Hub::new(Arc::clone(&broker) as _, Arc::clone(&counters), Press::new(1, 12), TICK, bell);
        Self { broker, hub, counters, bells, sockets: Sockets::default(), now: Moment::default() }
    }

    fn publish(&self, channel: &str, data: &str, key: Option<&str>) -> Position {
        self.broker.append(&name(channel), data.as_bytes(), key, self.now)
    }

    fn join(&mut self, reader: ReaderKey) {
        self.hub.join(reader, FORMS[reader as usize % FORMS.len()]);
        self.sockets.0.insert(reader, Socket::default());
    }

    fn leave(&mut self, reader: ReaderKey) {
        self.hub.leave(reader);
        self.sockets.0.remove(&reader);
    }

    /// One turn of a shard.
    fn turn(&mut self) {
        for feed in self.bells.0.lock().expect("no test panics here").drain(..) {
            self.hub.moved(feed);
        }
        if self.hub.due(self.now) == Due::Now {
            self.hub.flush(self.now, Timestamp::from_unix_millis(0), &mut self.sockets);
        }
    }

    /// Turns, and time, until nothing is left to do.
    fn settle(&mut self) {
        loop {
            self.turn();
            match self.hub.due(self.now) {
                Due::Now => {}
                Due::At(moment) => self.now = moment,
                Due::Never if self.bells.0.lock().expect("no test panics here").is_empty() => return,
                Due::Never => {}
            }
        }
    }

    fn free(&mut self, reader: ReaderKey) {
        if let Some(socket) = self.sockets.0.get_mut(&reader) {
            socket.stuck = false;
            self.hub.writable(reader);
        }
    }

    fn take(&mut self, reader: ReaderKey) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.sockets.0.get_mut(&reader).expect("a reader").bytes);
        messages(&bytes)
    }
}

fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).expect("a legal name")
}

/// What a client does with what it is told: checks that it is contiguous, and keeps what a channel says.
#[derive(Default)]
struct Client {
    positions: HashMap<String, u64>,
    seen: HashMap<String, BTreeMap<u64, Value>>,
    lost: u64,
    /// Key to newest value, per channel.
    state: HashMap<String, BTreeMap<String, Value>>,
}

impl Client {
    fn apply(&mut self, message: &Value) {
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

    fn update(&mut self, update: &Value) {
        let channel = update["channel"].as_str().expect("a channel");
        let offset = update["offset"].as_u64().expect("an offset");
        let from = update.get("from").map_or(offset - 1, |from| from.as_u64().expect("from"));
        assert_eq!(self.positions.get(channel), Some(&from), "{channel}: an update follows what came before");
        self.positions.insert(channel.into(), offset);
        let data = update["data"].clone();
        if let Some(key) = data["key"].as_str() {
            self.state.entry(channel.into()).or_default().insert(key.into(), data.clone());
        }
        self.seen.entry(channel.into()).or_default().insert(offset, data);
    }
}

#[derive(Clone, Debug)]
enum Step {
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

const READERS: ReaderKey = 4;
const CHANNELS: [&str; 4] = ["all:a", "all:b", "latest:a", "latest:b"];

fn step() -> impl Strategy<Value = Step> {
    let (reader, channel) = (0..READERS, 0..CHANNELS.len());
    prop_oneof![
        6 => (channel.clone(), 0..4_u8, 0..400_usize).prop_map(|(channel, key, length)| Step::Publish { channel, key, length }),
        3 => (reader.clone(), channel.clone()).prop_map(|(reader, channel)| Step::Subscribe { reader, channel }),
        1 => (reader.clone(), channel.clone()).prop_map(|(reader, channel)| Step::Resubscribe { reader, channel }),
        1 => (reader.clone(), channel).prop_map(|(reader, channel)| Step::Unsubscribe { reader, channel }),
        1 => (reader.clone(), any::<bool>()).prop_map(|(reader, takes_one)| Step::Stick { reader, takes_one }),
        2 => reader.clone().prop_map(|reader| Step::Free { reader }),
        1 => reader.prop_map(|reader| Step::Reconnect { reader }),
        4 => Just(Step::Turn),
        2 => (1..40_u64).prop_map(Step::Wait),
    ]
}

/// The naive model: every publication of every channel, for ever.
#[derive(Default)]
struct Model {
    published: HashMap<&'static str, Vec<Value>>,
    clients: HashMap<ReaderKey, Client>,
    lost_before: u64,
}

fn drain_into(world: &mut World, model: &mut Model, reader: ReaderKey) {
    let client = model.clients.get_mut(&reader).expect("joined");
    world.take(reader).iter().for_each(|message| client.apply(message));
}

fn run(steps: &[Step]) -> (World, Model) {
    let rules =
        [rule("all:{x}", 5, Mode::All, Overrun::Gap), rule("latest:{x}", 3, Mode::Latest, Overrun::Gap)];
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
                    Subscribed::TooMany => assert_eq!(world.hub.subscriptions(reader), 3),
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
                drain_into(&mut world, &mut model, reader);
                let had = world.hub.unsubscribe(reader, CHANNELS[channel]);
                let client = model.clients.get_mut(&reader).expect("joined");
                assert_eq!(client.positions.remove(CHANNELS[channel]).is_some(), had);
            }
            Step::Stick { reader, takes_one } => {
                let socket = world.sockets.0.get_mut(&reader).expect("joined");
                (socket.stuck, socket.takes_one) = (true, takes_one);
            }
            Step::Free { reader } => world.free(reader),
            Step::Reconnect { reader } => {
                drain_into(&mut world, &mut model, reader);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn readers_get_all_that_was_published_or_are_told_what_they_do_not_get(steps in prop::collection::vec(step(), 1..120)) {
        let (_, model) = run(&steps);
        for client in model.clients.values() {
            for (channel, &position) in &client.positions {
                let published = &model.published[channel.as_str()];
                prop_assert_eq!(position, published.len() as u64, "everybody arrives at the head");
                for (offset, data) in client.seen.get(channel).into_iter().flatten() {
                    prop_assert_eq!(data, &published[*offset as usize - 1], "what arrives is what was published");
                }
            }
        }
    }

    #[test]
    fn announced_gaps_add_up_to_what_was_dropped(steps in prop::collection::vec(step(), 1..120)) {
        let (world, model) = run(&steps);
        let announced: u64 = model.clients.values().map(|client| client.lost).sum();
        prop_assert_eq!(world.counters.lost.load(), announced + model.lost_before);
    }

    #[test]
    fn folding_then_applying_gives_the_state_of_applying_all(keys in prop::collection::vec(0..3_u8, 1..60), stuck in 0..60_usize) {
        // Three keys fit into a history of three: a reader that was away for most of it still gets the whole state.
        let mut world = World::new(&[rule("latest:{x}", 3, Mode::Latest, Overrun::Gap)]);
        let mut client = Client::default();
        world.join(0);
        let Subscribed::From { position, .. } = world.hub.subscribe(0, &name("latest:a"), None, 1) else {
            panic!("a first subscription is one");
        };
        client.positions.insert("latest:a".into(), position.offset);
        let mut state = BTreeMap::new();
        for (number, key) in keys.iter().enumerate() {
            world.sockets.0.get_mut(&0).expect("joined").stuck = number < stuck;
            let data = serde_json::json!({"n": number, "key": key.to_string()});
            world.publish("latest:a", &data.to_string(), Some(&key.to_string()));
            state.insert(key.to_string(), data);
            world.turn();
            world.now = world.now + TICK;
        }
        world.free(0);
        world.settle();
        world.take(0).iter().for_each(|message| client.apply(message));
        prop_assert_eq!(&client.state["latest:a"], &state);
        prop_assert_eq!(client.lost, 0);
    }
}

#[test]
fn the_first_publication_after_a_quiet_window_leaves_at_once_and_the_next_ones_together() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(world.hub.subscribe(0, &name("a"), None, 1), Subscribed::From { .. }));
    world.now = world.now + Duration::from_secs(1);
    let began = world.now;
    world.publish("a", "1", None);
    world.turn();
    assert_eq!(world.take(0).len(), 1);
    world.publish("a", "2", None);
    world.publish("a", "3", None);
    world.turn();
    assert_eq!(world.take(0).len(), 0, "the window is not over");
    assert_eq!(world.hub.due(world.now), Due::At(began + TICK));
    world.now = began + TICK;
    world.turn();
    let batches = world.take(0);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0]["count"], 2);
}

#[test]
fn a_reader_that_is_served_late_in_a_pass_also_gets_what_was_published_meanwhile() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    // More readers than fit in one slice.
    for reader in 0..600 {
        world.join(reader);
        assert!(matches!(world.hub.subscribe(reader, &name("a"), None, 1), Subscribed::From { .. }));
    }
    world.publish("a", "1", None);
    world.turn();
    world.publish("a", "2", None);
    world.turn();
    world.turn();
    let counts: Vec<_> = (0..600).map(|reader| world.take(reader)).collect();
    assert_eq!(counts[0].len(), 1, "the first was served before the second publication");
    assert_eq!(counts[0][0]["count"], 1);
    assert_eq!(counts[599].len(), 1, "the last was served once");
    assert_eq!(counts[599][0]["count"], 2);
}

#[test]
fn a_channel_may_close_a_reader_that_is_too_far_behind() {
    let mut world = World::new(&[rule("{x}", 2, Mode::All, Overrun::Close)]);
    world.join(0);
    assert!(matches!(world.hub.subscribe(0, &name("a"), None, 1), Subscribed::From { .. }));
    for number in 0..5 {
        world.publish("a", &number.to_string(), None);
    }
    world.settle();
    assert!(world.sockets.0[&0].overrun);
    assert!(world.take(0).is_empty());
}

#[test]
fn a_blocked_reader_costs_a_cursor_and_its_next_frame_is_larger() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(world.hub.subscribe(0, &name("a"), None, 1), Subscribed::From { .. }));
    world.sockets.0.get_mut(&0).expect("joined").stuck = true;
    for number in 0..50 {
        world.publish("a", &number.to_string(), None);
        world.settle();
    }
    assert_eq!(world.counters.blocked.load(), 1);
    world.free(0);
    world.settle();
    let batches = world.take(0);
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0]["count"], 50);
    assert_eq!(world.counters.blocked.load(), 0);
}

#[test]
fn readers_at_one_position_share_one_frame() {
    struct Frames(Vec<*const u8>);
    impl Outbound for Frames {
        fn deliver(&mut self, _: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
            self.0.push(bytes.as_slice().as_ptr());
            Delivery::Sent
        }
        fn overrun(&mut self, _: ReaderKey, _: &str) {}
    }
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    for reader in 0..200 {
        world.hub.join(reader, Form::Deflated(12));
        assert!(matches!(world.hub.subscribe(reader, &name("a"), None, 1), Subscribed::From { .. }));
    }
    world.publish("a", &format!("\"{}\"", "text ".repeat(200)), None);
    for feed in world.bells.0.lock().expect("no panics").drain(..) {
        world.hub.moved(feed);
    }
    let mut frames = Frames(Vec::new());
    world.hub.flush(world.now, Timestamp::from_unix_millis(0), &mut frames);
    assert_eq!(frames.0.len(), 200);
    assert!(frames.0.iter().all(|frame| *frame == frames.0[0]));
}
