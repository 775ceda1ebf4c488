//! What readers of states have, compared with a naive model: the sentence of docs/protocol.md, "States".

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use umbel::broker::{Broker, Most, PublishError, Receipt, change_state};
use umbel::change::{Expected, Op, StateRefusal};
use umbel::hub::ReaderKey;
use umbel::position::{Epoch, Position, Start, Subscribed, Unrecovered};
use umbel::publication::Content;
use umbel::rules::{Mode, Overrun, Rule};

use crate::protocol_fuzz::targets::hub_model::{TICK, World, name, rule};

/// All changes of a log: offset, key, and the value or `None`.
type Changes = Vec<(u64, String, Option<Value>)>;
type Map = BTreeMap<String, Value>;

/// What was done to the states, by channel and epoch.
#[derive(Default)]
struct Truth(HashMap<(String, String), Changes>);

impl Truth {
    fn note(&mut self, channel: &str, position: Position, key: &str, value: Option<Value>) {
        let changes = self.0.entry((channel.into(), position.epoch.to_string())).or_default();
        changes.push((position.offset, key.into(), value));
    }

    fn changes(&self, channel: &str, epoch: &str) -> &[(u64, String, Option<Value>)] {
        self.0.get(&(channel.into(), epoch.into())).map_or(&[], |changes| changes)
    }

    fn at(&self, channel: &str, epoch: &str, offset: u64) -> Map {
        let mut map = Map::new();
        for (_, key, value) in self.changes(channel, epoch).iter().filter(|(at, ..)| *at <= offset) {
            match value {
                Some(value) => drop(map.insert(key.clone(), value.clone())),
                None => drop(map.remove(key)),
            }
        }
        map
    }
}

/// A client as docs/protocol.md asks for it.
#[derive(Clone, Debug, Default)]
struct Client {
    epoch: String,
    offset: u64,
    /// The highest that it was told since it began or had a gap.
    top: u64,
    map: Map,
    gaps: u32,
    exact: u32,
}

impl Client {
    fn position(&self) -> Option<Position> {
        let epoch: Epoch = self.epoch.parse().ok()?;
        Some(Position { epoch, offset: self.offset })
    }

    fn begin(&mut self, subscribed: Subscribed) {
        match subscribed {
            Subscribed::From { position, top, recovered, is_state } => {
                assert!(is_state);
                match recovered {
                    Some(Ok(())) => assert_eq!(self.position(), Some(position)),
                    Some(Err(_)) => {
                        assert_eq!(position.offset, 0);
                        self.map.clear();
                    }
                    None => panic!("a state says what becomes of the map"),
                }
                (self.epoch, self.offset, self.top) = (position.epoch.to_string(), position.offset, top);
            }
            Subscribed::Existing { position, top, is_state } => {
                assert!(is_state && self.position() == Some(position));
                self.top = self.top.max(top);
            }
            Subscribed::TooMany { .. } => panic!("it may have both"),
        }
    }

    fn gap(&mut self, gap: &Value) {
        assert_eq!(
            (&gap["from"], &gap["to"], &gap["reason"]),
            (&self.offset.into(), &0.into(), &"reset".into())
        );
        self.epoch = gap["epoch"].as_str().expect("an epoch").into();
        (self.offset, self.top) = (0, gap["top"].as_u64().expect("a top"));
        self.map.clear();
        self.gaps += 1;
    }

    fn update(&mut self, update: &Value) {
        let offset = update["offset"].as_u64().expect("an offset");
        let from = update.get("from").map_or(offset - 1, |from| from.as_u64().expect("a number"));
        assert_eq!(from, self.offset, "it continues the position");
        self.offset = offset;
        self.top = self.top.max(update["top"].as_u64().unwrap_or(0));
        let key = update["key"].as_str().expect("a key").to_owned();
        if update["removed"] == true {
            assert!(update.get("data").is_none());
            self.map.remove(&key);
        } else {
            self.map.insert(key, update["data"].clone());
        }
    }

    /// The sentence: at the top told it has exactly the state, and below it each key is right that did not change later.
    fn judge(&mut self, channel: &str, truth: &Truth) -> Result<(), TestCaseError> {
        if self.offset >= self.top {
            self.exact += 1;
            prop_assert_eq!(&self.map, &truth.at(channel, &self.epoch, self.offset));
            return Ok(());
        }
        let mut newest = BTreeMap::new();
        for (offset, key, value) in truth.changes(channel, &self.epoch) {
            newest.insert(key, (*offset, value));
        }
        for (key, (offset, value)) in newest {
            if offset <= self.offset {
                prop_assert_eq!(self.map.get(key), value.as_ref(), "{} at {}", key, self.offset);
            }
        }
        Ok(())
    }
}

/// A reader, and what its client has of each channel.
#[derive(Default)]
struct Reader {
    is_here: bool,
    of: BTreeMap<&'static str, Client>,
}

struct States {
    world: World,
    truth: Truth,
    readers: BTreeMap<ReaderKey, Reader>,
    written: u64,
    closed: u32,
}

const CHANNELS: [&str; 2] = ["a", "b"];
/// The wires of their numbers share frames or not, compressed or not.
const READERS: [ReaderKey; 6] = [0, 1, 2, 3, 8, 9];
const LARGE: usize = 25_000;

fn state(history: usize) -> Rule {
    Rule { history_seconds: Duration::from_secs(30), ..rule("{x}", history, Mode::State, Overrun::Gap) }
}

impl States {
    fn new(rule: Rule) -> Self {
        let readers = READERS.iter().map(|reader| (*reader, Reader::default())).collect();
        Self { world: World::new(&[rule]), truth: Truth::default(), readers, written: 0, closed: 0 }
    }

    fn append(&mut self, channel: &str, content: Content<'_>) -> Receipt {
        self.world.broker.append(name(channel).as_name(), content, self.world.now)
    }

    /// Where a log stands. A promise would keep removals for a second, so it is made only where there is no log.
    fn top(&self, channel: &str) -> Position {
        let most = Most { count: 0, bytes: 0 };
        let known = self.world.broker.history(&name(channel), None, most).top;
        known.unwrap_or_else(|| self.world.broker.promise(&name(channel), self.world.now))
    }

    fn set(&mut self, channel: &str, key: &str, size: usize) -> Option<Position> {
        self.written += 1;
        let value = Value::from(format!("{}{}", self.written, "x".repeat(size)));
        let data = value.to_string();
        match self.append(channel, Content::new(data.as_bytes(), Some(key))).outcome().expect("known") {
            Ok(position) => {
                self.truth.note(channel, position, key, Some(value));
                Some(position)
            }
            Err(PublishError::Refused(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets so many keys of `a`.
    fn fill(&mut self, count: usize, size: usize) {
        for key in 0..count {
            self.set("a", &key.to_string(), size);
        }
    }

    fn delete(&mut self, channel: &str, key: &str) -> Position {
        let before = self.top(channel);
        let receipt = self.append(channel, Content::removal(key));
        let position = receipt.position().expect("a delete is never refused");
        if position != before {
            self.truth.note(channel, position, key, None);
        }
        position
    }

    /// What a key has now: its version and its value.
    fn entry(&self, channel: &str, key: &str) -> Option<(Position, Value)> {
        let epoch = self.top(channel).epoch;
        let changes = self.truth.changes(channel, &epoch.to_string());
        let (offset, _, value) = changes.iter().rfind(|(_, other, _)| other == key)?;
        Some((Position { epoch, offset: *offset }, value.clone()?))
    }

    /// Changes an entry of which something is expected. The answer has to be that of the model.
    fn change(&mut self, channel: &str, key: &str, op: Op, names: Names) -> Result<(), TestCaseError> {
        let top = self.top(channel);
        let entry = self.entry(channel, key);
        let version = entry.as_ref().map(|(version, _)| *version);
        let expected = match names {
            Names::Nothing => Expected::Any,
            Names::Absent => Expected::Absent,
            Names::Present => Expected::At(version.unwrap_or(top)),
            Names::Older(back) => Expected::At(top.at(top.offset.saturating_sub(back.into()))),
            Names::Foreign => Expected::At(Position { epoch: Epoch::new(7), ..version.unwrap_or(top) }),
        };
        let holds = match expected {
            Expected::Any => op != Op::Patch || version.is_some(),
            Expected::Absent => version.is_none(),
            Expected::At(wanted) => version == Some(wanted),
        };
        self.written += 1;
        let (number, field) = (self.written, format!("f{}", self.written % 3));
        let (data, value) = match op {
            Op::Patch => {
                let (patch, mut value) = (json!({ &field: number, "f0": null }), Map::new());
                if let Some((_, Value::Object(old))) = &entry {
                    value.extend(old.clone());
                }
                value.insert(field, number.into());
                value.remove("f0");
                (patch.to_string(), Some(value.into_iter().collect()))
            }
            Op::Delete => (String::new(), None),
            Op::Publish | Op::Set => (number.to_string(), Some(Value::from(number))),
        };
        let content = Content { op, expected, ..Content::new(data.as_bytes(), Some(key)) };
        let (receipt, _) =
            change_state(&*self.world.broker, name(channel).as_name(), content, self.world.now);
        match receipt.outcome().expect("known") {
            Ok(position) if op == Op::Delete && version.is_none() => prop_assert_eq!(position, top),
            Ok(position) => {
                prop_assert!(holds, "{:?} of {:?} in {:?}", op, expected, version);
                prop_assert_eq!(position, top.at(top.offset + 1));
                self.truth.note(channel, position, key, value);
            }
            Err(PublishError::Refused(StateRefusal::Conflict)) => prop_assert!(!holds),
            // A new key, and there are as many as may be.
            Err(PublishError::Refused(StateRefusal::Keys(_))) => prop_assert!(holds && version.is_none()),
            Err(error) => panic!("{error}"),
        }
        self.check_entry(channel, key, version)
    }

    /// Whether the broker has for a key what it should, and for an earlier version its value or nothing.
    fn check_entry(&self, channel: &str, key: &str, base: Option<Position>) -> Result<(), TestCaseError> {
        let found = self.world.broker.entry(name(channel).as_name(), key, base).expect("a log");
        let value = |data: &[u8]| serde_json::from_slice::<Value>(data).expect("JSON");
        let entry = found.version().zip(found.data().map(value));
        prop_assert_eq!(&entry, &self.entry(channel, key));
        if let (Some(base), Some(data)) = (base, found.base) {
            let then = self.truth.at(channel, &base.epoch.to_string(), base.offset);
            prop_assert_eq!(Some(&value(&data)), then.get(key));
        }
        Ok(())
    }

    fn clear(&mut self, channel: &'static str) {
        let before = self.top(channel);
        self.world.broker.forget(&name(channel), self.world.now);
        let after = self.top(channel);
        if after.epoch == before.epoch && after != before {
            for key in self.truth.at(channel, &before.epoch.to_string(), before.offset).into_keys() {
                self.truth.note(channel, after, &key, None);
            }
        }
    }

    fn is_several(reader: ReaderKey) -> bool {
        reader.is_multiple_of(2)
    }

    /// Joins with the positions that the client has, or without.
    fn join(&mut self, reader: ReaderKey, with_positions: bool) -> Result<(), TestCaseError> {
        self.world.join(reader);
        self.readers.get_mut(&reader).expect("a reader").is_here = true;
        let channels = if Self::is_several(reader) { &CHANNELS[..] } else { &CHANNELS[..1] };
        for channel in channels {
            self.subscribe(reader, channel, with_positions)?;
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        reader: ReaderKey,
        channel: &'static str,
        with_position: bool,
    ) -> Result<(), TestCaseError> {
        self.take(reader)?;
        let client = self.readers.get_mut(&reader).expect("a reader").of.entry(channel).or_default();
        let start = client.position().filter(|_| with_position).map_or(Start::Newcomer, Start::After);
        let name = name(channel);
        let restarted = self.world.hub.restart(reader, channel, start, self.world.now);
        let subscribed =
            restarted.unwrap_or_else(|| self.world.hub.subscribe(reader, &name, start, 2, self.world.now));
        client.begin(subscribed);
        client.judge(channel, &self.truth)
    }

    /// Subscribes to what it has.
    fn again(&mut self, reader: ReaderKey) -> Result<(), TestCaseError> {
        self.take(reader)?;
        let client = self.readers.get_mut(&reader).expect("a reader").of.get_mut("a").expect("its channel");
        let subscribed = self.world.hub.subscribe(reader, &name("a"), Start::Newcomer, 2, self.world.now);
        client.begin(subscribed);
        client.judge("a", &self.truth)
    }

    fn leave(&mut self, reader: ReaderKey) {
        self.world.leave(reader);
        self.readers.get_mut(&reader).expect("a reader").is_here = false;
    }

    /// Lets a client have what came for it.
    fn take(&mut self, reader: ReaderKey) -> Result<(), TestCaseError> {
        let of = &mut self.readers.get_mut(&reader).expect("a reader").of;
        for message in self.world.take(reader) {
            if message["type"] == "gap" {
                let channel = message["channel"].as_str().expect("a channel");
                of.get_mut(channel).expect("subscribed").gap(&message);
                continue;
            }
            assert_eq!(message["type"], "batched_updates");
            for update in message["updates"].as_array().expect("updates") {
                of.get_mut(update["channel"].as_str().expect("a channel"))
                    .expect("subscribed")
                    .update(update);
            }
            // Between two updates of a batch nothing is promised.
            for (channel, client) in &mut *of {
                client.judge(channel, &self.truth)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), TestCaseError> {
        self.world.now = self.world.now + TICK;
        self.world.turn();
        for reader in READERS {
            if !self.readers[&reader].is_here {
                continue;
            }
            let closed = self.world.sockets.of[&reader].overrun;
            if closed || !self.world.sockets.of[&reader].stuck {
                self.take(reader)?;
            }
            if closed {
                self.closed += 1;
                self.leave(reader);
            }
        }
        Ok(())
    }

    /// At rest everybody has everything.
    fn end(&mut self) -> Result<(), TestCaseError> {
        for reader in READERS {
            if self.readers[&reader].is_here {
                self.world.free(reader);
            } else {
                self.join(reader, true)?;
            }
        }
        self.world.settle();
        for reader in READERS {
            self.take(reader)?;
            for (channel, client) in &self.readers[&reader].of {
                let top = self.world.broker.promise(&name(channel), self.world.now);
                prop_assert_eq!(client.position(), Some(top), "{} reads all of {}", reader, channel);
                prop_assert!(client.offset >= client.top);
                prop_assert_eq!(&client.map, &self.truth.at(channel, &client.epoch, client.offset));
            }
        }
        Ok(())
    }
}

/// The version that a change names.
#[derive(Clone, Copy, Debug)]
enum Names {
    Nothing,
    Absent,
    Present,
    /// So far below the top of the log.
    Older(u8),
    Foreign,
}

#[derive(Clone, Debug)]
enum Step {
    Change(usize, u8, Op, Names),
    Set(usize, u8, bool),
    Delete(usize, u8),
    Clear(usize),
    Turn(u8),
    Wait(u16),
    Tidy,
    Stick(usize, bool),
    Free(usize),
    Take(usize),
    CatchUp(usize),
    Leave(usize),
    Join(usize, bool),
    Restart(usize, bool),
    Again(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![2 => Just(Op::Set), 3 => Just(Op::Patch), 1 => Just(Op::Delete)]
}

fn names() -> impl Strategy<Value = Names> {
    prop_oneof![
        2 => Just(Names::Nothing),
        2 => Just(Names::Absent),
        4 => Just(Names::Present),
        2 => (0..6_u8).prop_map(Names::Older),
        1 => Just(Names::Foreign),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let reader = || 0..READERS.len();
    let channel = || prop_oneof![3 => Just(0_usize), 1 => Just(1)];
    prop_oneof![
        20 => (channel(), 0..12_u8, prop::bool::weighted(0.3)).prop_map(|(c, k, large)| Step::Set(c, k, large)),
        12 => (channel(), 0..12_u8).prop_map(|(c, k)| Step::Delete(c, k)),
        16 => (channel(), 0..12_u8, op(), names()).prop_map(|(c, k, op, names)| Step::Change(c, k, op, names)),
        1 => channel().prop_map(Step::Clear),
        16 => (1..4_u8).prop_map(Step::Turn),
        2 => (100..2500_u16).prop_map(Step::Wait),
        1 => Just(Step::Tidy),
        6 => (reader(), any::<bool>()).prop_map(|(r, one)| Step::Stick(r, one)),
        7 => reader().prop_map(Step::Free),
        4 => reader().prop_map(Step::Take),
        2 => reader().prop_map(Step::CatchUp),
        3 => reader().prop_map(Step::Leave),
        8 => (reader(), any::<bool>()).prop_map(|(r, with)| Step::Join(r, with)),
        2 => (reader(), any::<bool>()).prop_map(|(r, with)| Step::Restart(r, with)),
        1 => reader().prop_map(Step::Again),
    ]
}

fn act(states: &mut States, step: Step) -> Result<(), TestCaseError> {
    let here = |states: &States, index: usize| {
        let reader = READERS[index];
        states.readers[&reader].is_here.then_some(reader)
    };
    match step {
        Step::Set(channel, key, large) => {
            states.set(CHANNELS[channel], &format!("k{key}"), if large { LARGE } else { 1 });
        }
        Step::Delete(channel, key) => {
            states.delete(CHANNELS[channel], &format!("k{key}"));
        }
        Step::Change(channel, key, op, names) => {
            states.change(CHANNELS[channel], &format!("k{key}"), op, names)?;
        }
        Step::Clear(channel) => states.clear(CHANNELS[channel]),
        Step::Turn(count) => (0..count).try_for_each(|_| states.turn())?,
        Step::Wait(millis) => {
            states.world.now = states.world.now + Duration::from_millis(millis.into());
            states.turn()?;
        }
        Step::Tidy => while states.world.broker.tidy(states.world.now) {},
        Step::Stick(index, one) => {
            if let Some(socket) = here(states, index).and_then(|it| states.world.sockets.of.get_mut(&it)) {
                (socket.stuck, socket.takes_one) = (true, one);
            }
        }
        Step::Free(index) => here(states, index).into_iter().for_each(|it| states.world.free(it)),
        Step::Take(index) => here(states, index).map_or(Ok(()), |it| states.take(it))?,
        Step::CatchUp(index) => {
            if let Some(reader) = here(states, index) {
                states.world.catch_up(reader);
            }
        }
        Step::Leave(index) => {
            if let Some(reader) = here(states, index) {
                states.take(reader)?;
                states.leave(reader);
            }
        }
        Step::Join(index, with) if here(states, index).is_none() => states.join(READERS[index], with)?,
        Step::Restart(index, with) => {
            here(states, index).map_or(Ok(()), |it| states.subscribe(it, "a", with))?;
        }
        Step::Again(index) => here(states, index).map_or(Ok(()), |it| states.again(it))?,
        Step::Join(..) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_reader_at_the_top_told_has_exactly_the_state(
        history in 1..5_usize,
        resolves in any::<bool>(),
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mut states = States::new(Rule { max_keys: 10, resolves, ..state(history) });
        for step in steps {
            act(&mut states, step)?;
        }
        states.end()?;
    }
}

/// Runs what can't fail there.
fn done(outcome: Result<(), TestCaseError>) {
    outcome.expect("it has what it should");
}

#[test]
fn tops_that_are_told_may_sink_and_the_highest_counts() {
    let mut states = States::new(Rule { max_keys: 10_000, ..state(100) });
    states.fill(600, 1);
    states.join(1, false).expect("it begins");
    (0..40).for_each(|_| done(states.turn()));
    states.fill(30, 1);
    states.join(3, false).expect("it begins");
    assert_eq!(states.readers[&3].of["a"].top, 630);
    states.world.turn();
    let messages = states.world.take(3);
    let mut tops = Vec::new();
    for update in messages.iter().flat_map(|message| message["updates"].as_array().expect("updates")) {
        tops.extend(update["top"].as_u64());
        states.readers.get_mut(&3).and_then(|it| it.of.get_mut("a")).expect("its channel").update(update);
    }
    assert_eq!(tops[0], 600, "the step is shared with one who came before");
    done(states.end());
}

#[test]
fn what_is_forgotten_after_a_shared_read_is_needed_by_its_readers() {
    let mut states = States::new(Rule { max_keys: 10_000, ..state(1) });
    states.fill(600, 1);
    states.join(1, false).expect("it begins");
    (0..40).for_each(|_| done(states.turn()));
    // It is gone from the log when 3 begins. What 3 is given of it was made before.
    states.set("a", "before", 1);
    states.delete("a", "5");
    states.join(3, false).expect("it begins");
    assert_eq!(states.readers[&3].of["a"].top, 602);
    let socket = states.world.sockets.of.get_mut(&3).expect("a socket");
    (socket.stuck, socket.takes_one) = (true, true);
    states.world.turn();
    states.take(3).expect("right so far");
    assert!(states.readers[&3].of["a"].map.contains_key("5") && states.readers[&3].of["a"].offset < 602);
    // It is late, so nothing is kept for it.
    (0..100).for_each(|_| {
        states.set("a", "other", 1);
        done(states.turn());
    });
    states.delete("a", "other");
    states.delete("a", "6");
    (0..100).for_each(|_| done(states.turn()));
    done(states.end());
    assert_eq!(states.readers[&3].of["a"].gaps, 1, "it had to begin anew");
}

#[test]
fn a_read_that_ended_before_what_is_forgotten_is_given_to_nobody() {
    let mut states = States::new(Rule { max_keys: 10_000, ..state(1) });
    states.fill(600, 1);
    states.join(1, false).expect("it begins");
    // As long as something changes in each tick, the reads are kept.
    let change = |states: &mut States| {
        states.set("a", "tick", 1);
        done(states.turn());
    };
    (0..3).for_each(|_| change(&mut states));
    for key in ["5", "6", "7"] {
        states.delete("a", key);
        change(&mut states);
    }
    states.join(3, false).expect("it begins");
    (0..10).for_each(|_| change(&mut states));
    done(states.end());
    let client = &states.readers[&3].of["a"];
    assert_eq!((client.gaps, states.closed, client.map.len()), (0, 0, 598));
}

#[test]
fn who_reads_several_channels_is_exact_while_they_change() {
    let mut states = States::new(state(10));
    states.join(0, false).expect("it begins");
    states.join(2, false).expect("it begins");
    for round in 0..200 {
        for channel in CHANNELS {
            states.set(channel, &format!("k{}", round % 7), 1);
        }
        // Between the beginning of a tick and its reads there are changes, too.
        states.world.now = states.world.now + TICK;
        for feed in std::mem::take(&mut *states.world.moved_feeds.0.lock().expect("no panic")) {
            states.world.hub.moved(feed);
        }
        states.set("a", "k8", 1);
        done(states.turn());
    }
    for reader in [0, 2] {
        let exact: u32 = states.readers[&reader].of.values().map(|client| client.exact).sum();
        assert!(exact > 300, "{exact} of about 400");
    }
}

#[test]
fn a_large_state_reaches_a_slow_reader_while_it_changes() {
    let rule = Rule { max_keys: 200_000, state_bytes: 128 << 20, ..state(1000) };
    let mut states = States::new(rule);
    states.fill(100_000, 1);
    states.join(1, false).expect("it begins");
    let mut turns = 0;
    while states.readers[&1].of["a"].offset < states.top("a").offset {
        let socket = states.world.sockets.of.get_mut(&1).expect("a socket");
        (socket.stuck, socket.takes_one) = (true, true);
        for number in 0..20 {
            states.set("a", &(turns * 7 + number * 4_999).to_string(), 1);
        }
        states.delete("a", &(turns * 31).to_string());
        states.world.now = states.world.now + TICK;
        states.world.turn();
        let client = states.readers.get_mut(&1).and_then(|it| it.of.get_mut("a")).expect("its channel");
        for message in states.world.take(1) {
            message["updates"].as_array().expect("no gap").iter().for_each(|update| client.update(update));
        }
        states.world.free(1);
        turns += 1;
        assert!(turns < 2_000, "it comes nearer");
    }
    done(
        states
            .readers
            .get_mut(&1)
            .and_then(|it| it.of.get_mut("a"))
            .expect("its channel")
            .judge("a", &states.truth),
    );
}

#[test]
fn who_was_reset_three_times_is_closed() {
    let mut states = States::new(Rule { max_keys: 100, ..state(1) });
    states.fill(20, LARGE);
    states.join(1, false).expect("it begins");
    let mut rounds = 0;
    while states.closed == 0 {
        // It takes one frame of several.
        states.world.free(1);
        let socket = states.world.sockets.of.get_mut(&1).expect("a socket");
        (socket.stuck, socket.takes_one) = (true, true);
        done(states.turn());
        if states.closed > 0 {
            break;
        }
        states.take(1).expect("right so far");
        // Meanwhile it is late, and removals are forgotten.
        for key in ["x", "y", "z"] {
            states.set("a", key, 1);
            states.delete("a", key);
        }
        for _ in 0..80 {
            done(states.turn());
            states.set("a", "tick", 1);
        }
        rounds += 1;
        assert!(rounds < 20);
    }
    assert_eq!(states.readers[&1].of["a"].gaps, 3);
}

#[test]
fn a_newcomer_is_told_to_clear_its_map_and_a_position_is_recovered_while_nothing_is_missing() {
    let mut states = States::new(state(1));
    let first = states.set("a", "k1", 1).expect("it fits");
    states.set("a", "k2", 1);
    let mut begin = |start| {
        states.world.join(1);
        match states.world.hub.subscribe(1, &name("a"), start, 2, states.world.now) {
            Subscribed::From { position, recovered, .. } => (position.offset, recovered),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(begin(Start::Newcomer), (0, Some(Err(Unrecovered::New))));
    assert_eq!(begin(Start::After(first.at(0))), (0, Some(Err(Unrecovered::New))));
    assert_eq!(begin(Start::Promised(first)), (0, Some(Err(Unrecovered::New))));
    assert_eq!(begin(Start::After(first)), (1, Some(Ok(()))));
    assert_eq!(begin(Start::After(first.at(9))), (0, Some(Err(Unrecovered::Ahead))));
    assert_eq!(begin(Start::Unknown), (0, Some(Err(Unrecovered::Unknown))));
    states.world.leave(1);
    for key in ["k1", "k2"] {
        states.delete("a", key);
    }
    states.set("a", "k3", 1);
    states.world.now = states.world.now + Duration::from_secs(40);
    states.world.broker.trim(&name("a"), states.world.now);
    states.world.join(1);
    let subscribed = states.world.hub.subscribe(1, &name("a"), Start::After(first), 2, states.world.now);
    assert!(matches!(subscribed, Subscribed::From { recovered: Some(Err(Unrecovered::Trimmed)), .. }));
}

#[test]
fn bounds_refuse_a_change_and_name_the_setting() {
    let mut states = States::new(Rule { max_keys: 2, state_bytes: 4000, ..state(100) });
    let mut refused = |key: Option<&str>, size: usize| {
        let data = format!("\"{}\"", "x".repeat(size));
        match states.append("a", Content::new(data.as_bytes(), key)).outcome() {
            Some(Err(PublishError::Refused(refusal))) => Some(refusal),
            Some(Ok(_)) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(None, 1), Some(StateRefusal::NoKey));
    assert_eq!(refused(Some("a"), 70_000), Some(StateRefusal::Large));
    assert_eq!((refused(Some("a"), 1), refused(Some("b"), 1)), (None, None));
    assert_eq!(refused(Some("c"), 1), Some(StateRefusal::Keys(2)));
    assert_eq!(refused(Some("b"), 5000), Some(StateRefusal::Bytes(4000)));
    assert_eq!(refused(Some("b"), 2000), None, "the older value does not count beside the newer one");
    assert_eq!(refused(Some("b"), 2500), None);
    let position = states.delete("a", "a");
    assert_eq!(states.delete("a", "a"), position, "it is not there, so nothing is appended");
    for number in 0..50 {
        // Removals give way, though they are fewer than the history may have.
        states.set("a", &format!("k{number}"), 1).expect("it fits");
        states.delete("a", &format!("k{number}"));
    }
    let most = Most { count: 1000, bytes: usize::MAX };
    let part = states.world.broker.state_after(&name("a"), 0, most).expect("a log");
    let removals = part.entries.iter().filter(|entry| entry.is_removal()).count();
    assert!((1..20).contains(&removals) && part.forgotten > 0, "{removals}");
}
