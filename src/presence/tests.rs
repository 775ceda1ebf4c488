//! The registry on a broker in memory, with time in the hands of the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::broker::memory::MemoryBroker;
use crate::broker::{Broker, read_state};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::GapReason;
use crate::protocol::message::PresenceChange;
use crate::rules::{Access, Mode, Overrun, Presence, Replay, Rule, Rules};

/// What readers of a channel have: by the name of the client, the data.
type Entries = BTreeMap<String, Value>;

/// The id of a client whose name has at most eight bytes: these.
fn id(name: &str) -> MemberId {
    let mut bytes = [0; 8];
    bytes[8 - name.len()..].copy_from_slice(name.as_bytes());
    MemberId(u64::from_be_bytes(bytes))
}

fn name(id: MemberId) -> String {
    id.0.to_be_bytes().into_iter().filter(|byte| *byte > 0).map(char::from).collect()
}

/// The name of the client with this key.
fn named(key: &str) -> String {
    u64::from_str_radix(key, 16).map_or_else(|_| key.to_owned(), |number| name(MemberId(number)))
}

struct World {
    broker: Arc<MemoryBroker>,
    registry: Registry,
    channel: ChannelName,
    presence: ChannelName,
    plan: Plan,
    /// In milliseconds.
    now: u64,
    woken: Arc<AtomicU64>,
    turns: Vec<Turn>,
    /// Channels that are counted for want of room.
    counted: usize,
}

impl World {
    fn new(limit: usize) -> Self {
        Self::with(limit, Presence::List, 1 << 30)
    }

    fn with(limit: usize, presence: Presence, states: usize) -> Self {
        let rule = Rule {
            pattern: "room:{x}".into(),
            subscribe: Access::Open,
            publish: Access::No,
            history: 10,
            history_bytes: 1000,
            history_seconds: Duration::from_secs(60),
            mode: Mode::All,
            overrun: Overrun::Gap,
            compress: true,
            sender: false,
            replay: Replay::Head,
            recheck: false,
            claims: false,
            versions: false,
            resolves: false,
            max_keys: 1,
            state_bytes: 1,
            presence,
            presence_asks: false,
            presence_told: true,
        };
        let rules = Arc::new(Rules::new(&[rule]).expect("legal").with_presence_limit(limit));
        let broker = Arc::new(MemoryBroker::new(rules, 1 << 30).with_states(1 << 30, states));
        let grace = Duration::from_secs(10);
        let bounds = Bounds { interval: Duration::from_millis(100), limit, grace };
        let woken = Arc::new(AtomicU64::new(0));
        let waker = Arc::clone(&woken);
        let registry = Registry::new(Arc::clone(&broker) as _, bounds, move || {
            waker.fetch_add(1, Ordering::Relaxed);
        });
        let channel = ChannelName::new("room:1").expect("legal");
        let presence_channel = ChannelName::presence_of(&channel);
        let plan = Plan { counts: presence == Presence::Count, is_told: true };
        Self {
            broker,
            registry,
            channel,
            presence: presence_channel,
            plan,
            now: 1000,
            woken,
            turns: Vec::new(),
            counted: 0,
        }
    }

    fn now(&self) -> Now {
        Now { moment: Moment::from_nanos(self.now * 1_000_000), millis: self.now }
    }

    fn join(&self, client: &str) {
        let asked = self.registry.join(&self.channel, id(client), Some(client), self.plan, self.now());
        assert_eq!(asked, None);
    }

    fn leave(&self, client: &str) {
        self.registry.leave(&self.channel, id(client), self.now());
    }

    fn says(&self, client: &str, change: &PresenceChange) -> Presented {
        self.registry.change(&self.channel, id(client), change, self.now())
    }

    fn types(&self, client: &str, typing: bool) {
        let change = PresenceChange { typing: Some(typing), ..PresenceChange::default() };
        assert_eq!(self.says(client, &change), Presented::Done);
    }

    fn works_at(&self, client: &str, task: u64) {
        let change =
            PresenceChange { current_task: Some(task.to_string().into()), ..PresenceChange::default() };
        let _ = self.says(client, &change);
    }

    /// Lets time pass, and does everything when it is due.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        let mut rounds = 0;
        while let Some(due) =
            self.registry.due().map(|due| due.as_nanos().div_ceil(1_000_000)).filter(|due| *due <= end)
        {
            self.now = self.now.max(due);
            let advanced = self.registry.advance(self.now());
            self.counted += advanced.counted.len();
            self.turns.extend(advanced.gathered.into_iter().flat_map(|gathered| gathered.turns));
            rounds += 1;
            assert!(rounds < 100_000, "it is due, and nothing is done");
        }
        self.now = end;
    }

    fn entries(&self) -> Entries {
        let state = read_state(&*self.broker, &self.presence).map(|(_, entries)| entries);
        let entry = |entry: &crate::publication::Publication| {
            let key = named(entry.key().expect("entries have keys"));
            (key, serde_json::from_slice(entry.data().expect("no removal")).expect("JSON"))
        };
        state.iter().flatten().map(entry).collect()
    }

    fn keys(&self) -> Vec<String> {
        self.entries().into_keys().collect()
    }

    fn top(&self) -> u64 {
        self.broker.promise(&self.presence, self.now().moment).offset
    }
}

#[test]
fn a_member_has_an_entry_and_its_readers_are_told_when_it_leaves() {
    let mut world = World::new(10);
    world.join("ann");
    assert_eq!(world.woken.load(Ordering::Relaxed), 1);
    world.pass(0);
    let expected = serde_json::json!({
        "type": "client_presence", "clientId": "0000000000616e6e", "subject": "ann", "isActive": true,
        "lastSeen": "1970-01-01T00:00:01.000Z", "currentTask": null, "typing": false, "data": null,
    });
    assert_eq!(world.entries(), Entries::from([("ann".into(), expected)]));
    world.leave("ann");
    assert_eq!(world.keys(), [""; 0], "it never waits");
    world.pass(10_000);
    assert_eq!((world.registry.due(), world.top()), (None, 2));
    let [came, left] = &world.turns[..] else { panic!("{:?}", world.turns) };
    assert!(came.came && !came.left && came.is_here && left.left && !left.came && !left.is_here);
}

#[test]
fn changes_are_gathered_and_those_that_change_nothing_are_not_told() {
    let mut world = World::new(10);
    world.join("ann");
    world.pass(50);
    assert_eq!(world.top(), 1);
    for task in 1..=20 {
        world.works_at("ann", task);
    }
    world.pass(40);
    assert_eq!(world.top(), 1, "not yet");
    world.pass(10);
    assert_eq!((world.top(), world.entries()["ann"]["currentTask"].clone()), (2, 20.into()));
    world.works_at("ann", 20);
    world.types("ann", true);
    world.types("ann", false);
    world.pass(1000);
    assert_eq!(world.top(), 2);
    let all = PresenceChange {
        is_active: Some(false),
        typing: Some(true),
        current_task: Some("null".into()),
        data: Some("{\"x\":\n1}".into()),
    };
    assert_eq!(world.says("ann", &all), Presented::Done);
    world.pass(100);
    let entry = &world.entries()["ann"];
    assert_eq!((&entry["isActive"], &entry["typing"]), (&false.into(), &true.into()));
    assert_eq!((&entry["currentTask"], &entry["data"]["x"]), (&Value::Null, &1.into()));
}

#[test]
fn one_that_types_a_thousand_times_a_second_is_told_five_times() {
    let mut world = World::new(10);
    world.join("ann");
    for round in 0..3000 {
        world.types("ann", round % 2 == 0);
        world.works_at("ann", round);
        world.pass(1);
    }
    assert!((12..=15).contains(&world.top()), "{}", world.top());
    world.pass(1000);
    assert_eq!(world.entries()["ann"]["currentTask"], 2999);
    let top = world.top();
    world.pass(60_000);
    assert_eq!((world.top(), world.registry.due()), (top, None), "nothing at rest");
}

#[test]
fn typing_ends_by_itself_and_to_repeat_it_is_not_told() {
    let mut world = World::new(10);
    world.join("ann");
    world.pass(200);
    for _ in 0..4 {
        world.types("ann", true);
        world.pass(3000);
    }
    assert_eq!((world.top(), world.entries()["ann"]["typing"].clone()), (2, true.into()));
    world.pass(2999);
    assert_eq!(world.top(), 2);
    world.pass(200);
    assert_eq!((world.top(), world.entries()["ann"]["typing"].clone()), (3, false.into()));
}

#[test]
fn a_cut_is_told_after_a_while_and_ends_after_the_grace() {
    let mut world = World::new(10);
    world.join("ann");
    world.pass(500);
    let cut_at = world.now;
    world.types("ann", true);
    world.pass(200);
    world.registry.cut(id("ann"), world.now());
    world.pass(1999);
    assert_eq!(world.top(), 2);
    world.join("ann");
    world.pass(60_000);
    assert_eq!(
        (world.top(), world.entries()["ann"]["isActive"].clone()),
        (3, true.into()),
        "only typing ended"
    );
    assert_eq!(world.entries()["ann"]["lastSeen"], format!("1970-01-01T00:00:01.{:03}Z", cut_at - 1000));

    world.registry.cut(id("ann"), world.now());
    world.pass(1900);
    world.join("ann");
    world.registry.cut(id("ann"), world.now());
    world.pass(1900);
    assert_eq!(world.top(), 3, "the timer of the first cut finds nothing");
    world.pass(200);
    assert_eq!((world.top(), world.entries()["ann"]["isActive"].clone()), (4, false.into()));
    world.join("ann");
    world.pass(100);
    assert_eq!((world.top(), world.entries()["ann"]["isActive"].clone()), (5, true.into()));

    world.works_at("ann", 7);
    world.registry.cut(id("ann"), world.now());
    world.pass(9999);
    assert_eq!(world.keys(), ["ann"]);
    world.turns.clear();
    world.pass(1);
    assert_eq!(world.keys(), [""; 0]);
    world.pass(100);
    assert!(world.turns[0].left);
    world.join("ann");
    world.pass(200);
    assert_eq!(world.entries()["ann"]["currentTask"], 7, "what it said of itself stays");
    assert!(world.turns[1].came);
}

#[test]
fn a_cut_is_told_of_one_that_was_not_active_before_too() {
    let mut world = World::new(10);
    world.join("ann");
    let idle = PresenceChange { is_active: Some(false), ..PresenceChange::default() };
    assert_eq!(world.says("ann", &idle), Presented::Done);
    world.pass(500);
    let seen = |world: &World| world.entries()["ann"]["lastSeen"].as_str().expect("a time").to_owned();
    world.registry.cut(id("ann"), world.now());
    world.pass(2000);
    assert_eq!(seen(&world), "1970-01-01T00:00:01.500Z");
    world.join("ann");
    world.pass(200);
    assert_eq!(seen(&world), "1970-01-01T00:00:03.500Z");
    assert_eq!(world.entries()["ann"]["isActive"], false);
}

#[test]
fn the_end_of_a_session_leaves_at_once_everywhere() {
    let mut world = World::new(10);
    let other = ChannelName::new("room:2").expect("legal");
    world.join("ann");
    world.registry.join(&other, id("ann"), Some("ann"), world.plan, world.now());
    world.pass(100);
    world.registry.cut(id("ann"), world.now());
    world.registry.end(id("ann"), world.now());
    assert_eq!((world.keys(), world.registry.present(&other)), (vec![], vec![]));
    world.pass(2000);
    assert_eq!(world.registry.due(), None);
    assert!(
        format!("{:?}", world.registry.rooms.lock().expect("whole")).contains("rooms: {}, of_client: {}")
    );
}

#[test]
fn the_application_says_who_is_seen_once() {
    let mut world = World::new(10);
    let ask = |world: &World, client| {
        world.registry.join(&world.channel, id(client), None, world.plan, world.now())
    };
    let [ann, bob] = ["ann", "bob"].map(|client| ask(&world, client).expect("somebody is asked"));
    assert_eq!(ask(&world, "ann"), None, "it is there");
    world.works_at("ann", 1);
    world.pass(100);
    assert_eq!((world.top(), world.registry.present(&world.channel)), (0, vec![]));
    world.registry.know(&world.channel, id("ann"), ann, Some("Ann of the office"), world.now());
    world.registry.know(&world.channel, id("bob"), bob, None, world.now());
    world.registry.know(&world.channel, id("bob"), bob, Some("too late"), world.now());
    world.pass(100);
    let present = world.registry.present(&world.channel);
    assert_eq!((present.len(), &*present[0].subject), (1, "Ann of the office"));
    assert_eq!(world.entries()["ann"]["currentTask"], 1);
    assert_eq!(world.says("bob", &PresenceChange::default()), Presented::Hidden);
    assert_eq!(world.says("eve", &PresenceChange::default()), Presented::NotHere);
    world.leave("ann");
    let again = ask(&world, "ann").expect("another membership");
    world.registry.know(&world.channel, id("ann"), ann, Some("an answer of before"), world.now());
    world.pass(1000);
    assert_eq!(world.keys(), [""; 0]);
    world.registry.know(&world.channel, id("ann"), again, Some(""), world.now());
    world.pass(1000);
    assert_eq!(world.entries()["ann"]["subject"], Value::Null);
}

#[test]
fn what_a_hidden_client_has_said_before_is_not_kept() {
    let mut world = World::new(10);
    let asked = world.registry.join(&world.channel, id("spy"), None, world.plan, world.now());
    world.works_at("spy", 4711);
    world.types("spy", true);
    world.registry.know(&world.channel, id("spy"), asked.expect("somebody is asked"), None, world.now());
    assert!(!format!("{:?}", world.registry.rooms).contains("4711"));
    world.pass(10_000);
    assert_eq!((world.registry.due(), world.keys()), (None, vec![]));
}

#[test]
fn one_with_a_subject_of_any_length_takes_no_room_from_others() {
    let mut world = World::new(10);
    world.join("ann");
    for (client, bytes) in [("bob", 1024), ("eve", 1025), ("max", 1 << 20)] {
        let subject = "\u{1}".repeat(bytes);
        let asked = world.registry.join(&world.channel, id(client), Some(&subject), world.plan, world.now());
        assert_eq!(asked, None);
    }
    let asked = world.registry.join(&world.channel, id("amy"), None, world.plan, world.now());
    let (asked, subject) = (asked.expect("somebody is asked"), "x".repeat(1 << 20));
    world.registry.know(&world.channel, id("amy"), asked, Some(&subject), world.now());
    let all = PresenceChange {
        data: Some(format!("\"{}\"", "x".repeat(4094)).into()),
        current_task: Some("7".repeat(255).into()),
        ..PresenceChange::default()
    };
    let expected = [Presented::Done, Presented::Hidden, Presented::Hidden, Presented::Hidden];
    for (client, expected) in ["bob", "eve", "max", "amy"].into_iter().zip(expected) {
        assert_eq!(world.says(client, &all), expected);
    }
    world.pass(1000);
    assert_eq!((world.keys(), world.counted), (vec!["ann".to_owned(), "bob".to_owned()], 0));
}

#[test]
fn who_comes_and_goes_within_one_interval_is_one_turn_and_has_a_pace() {
    let mut world = World::new(10);
    world.join("bob");
    world.pass(10);
    world.turns.clear();
    world.join("ann");
    world.leave("ann");
    world.join("ann");
    world.leave("ann");
    world.pass(100);
    let [turn] = &world.turns[..] else { panic!("{:?}", world.turns) };
    assert!(turn.came && turn.left && !turn.is_here);
    let before = world.top();
    for _ in 0..100 {
        world.join("ann");
        world.pass(100);
        world.leave("ann");
    }
    assert!(
        world.top() - before <= 110,
        "at most five times a second, and as many removals: {}",
        world.top() - before
    );
}

#[test]
fn too_many_members_are_a_number_until_they_are_few_for_long() {
    let mut world = World::new(4);
    for client in ["a", "b", "c", "d"] {
        world.join(client);
    }
    world.pass(100);
    let (log, watcher) = world.broker.watch(&world.presence, Arc::new(Deaf));
    let reader = log.seat(&watcher, crate::position::Start::Newcomer).top;
    assert_eq!(world.keys(), ["a", "b", "c", "d"]);
    world.join("e");
    assert_eq!(world.entries()[""], serde_json::json!({"type": "client_presence_count", "count": 5}));
    let read = log.read(reader, crate::broker::End::Anew, 10_000, &mut Vec::new());
    let gap = read.gap.expect("all comes anew");
    assert_eq!((gap.reason, gap.to, gap.from + 1, read.count), (GapReason::Count, 0, world.top(), 1));
    assert!(log.forgotten() > reader, "who stands at the end gets it, too");
    world.works_at("a", 1);
    for client in ["f", "g", "h"] {
        world.join(client);
        world.pass(100);
    }
    assert_eq!(world.entries()[""]["count"], 5, "once a second");
    world.pass(700);
    assert_eq!(world.entries()[""]["count"], 8);
    let top = world.top();
    world.turns.clear();
    for client in ["a", "b", "c", "d", "e", "f", "g"] {
        world.leave(client);
    }
    world.pass(59_999);
    assert_eq!((world.keys(), world.entries()[""]["count"].clone()), (vec![String::new()], 1.into()));
    assert_eq!(world.turns.len(), 7, "the application is told in any case");
    world.join("i");
    world.pass(0);
    world.leave("i");
    world.pass(1);
    assert_eq!(world.keys(), [""], "one that comes and goes begins the time anew");
    let was_a_list = world.top();
    world.pass(61_000);
    assert_eq!(world.keys(), ["h"]);
    let read = log.read(log.top().with_offset(was_a_list), crate::broker::End::Top, 10_000, &mut Vec::new());
    assert_eq!((read.gap, read.to == log.top()), (None, true), "without a gap, in one step");
    assert!(log.forgotten().offset() < top);
    world.pass(600_000);
    assert_eq!(world.registry.due(), None);
}

#[test]
fn a_list_that_finds_no_room_does_not_come_and_go() {
    // Entries of twenty members have room, and there are thirty.
    let mut world = World::with(100, Presence::List, 9000);
    for member in 0..30 {
        world.join(&format!("m{member}"));
    }
    world.pass(500);
    assert_eq!((world.entries()[""]["count"].clone(), world.counted), (30.into(), 1));
    let top = world.top();
    world.pass(600_000);
    assert_eq!(world.top(), top, "below half the limit, and not below half of what did not fit");
    for member in 14..30 {
        world.leave(&format!("m{member}"));
    }
    world.pass(70_000);
    assert_eq!(world.keys().len(), 14);
}

#[test]
fn many_readers_are_told_a_number_less_often() {
    let mut world = World::with(4, Presence::Count, 1 << 30);
    let (_, watcher) = world.broker.watch(&world.presence, Arc::new(Deaf));
    watcher.count_readers(10_000);
    world.join("a");
    world.pass(0);
    world.join("b");
    world.pass(2_999);
    assert_eq!(world.entries()[""]["count"], 1, "a third of a millisecond for each, nearly");
    world.pass(1);
    assert_eq!(world.entries()[""]["count"], 2);
    watcher.count_readers(100);
    world.join("c");
    world.pass(3_000);
    world.join("d");
    world.pass(999);
    assert_eq!(world.entries()[""]["count"], 3);
    world.pass(1);
    assert_eq!(world.entries()[""]["count"], 4);
}

#[test]
fn a_long_list_that_found_no_room_is_not_tried_until_it_is_much_shorter() {
    let mut world = World::with(1000, Presence::List, 9000);
    for member in 0..600 {
        world.join(&format!("m{member}"));
    }
    world.pass(10_000);
    assert_eq!((world.entries()[""]["count"].clone(), world.registry.due()), (600.into(), None));
    for member in 15..344 {
        world.leave(&format!("m{member}"));
    }
    world.pass(60_000);
    assert!(world.registry.due().is_some(), "256 are tried, in vain");
    for member in 344..600 {
        world.leave(&format!("m{member}"));
    }
    world.pass(60_000);
    assert_eq!(world.keys().len(), 15);
}

#[test]
fn a_list_that_found_no_room_comes_back_when_there_is_some() {
    let mut world = World::with(100, Presence::List, 5000);
    let crowd = ChannelName::new("room:2").expect("legal");
    for member in 0..9 {
        let (client, plan) = (id(&format!("m{member}")), world.plan);
        world.registry.join(&crowd, client, Some("somebody"), plan, world.now());
    }
    world.pass(100);
    for client in ["ann", "bob"] {
        world.join(client);
        world.pass(1000);
    }
    assert_eq!((world.entries()[""]["count"].clone(), world.counted), (2.into(), 1));
    let top = world.top();
    world.pass(300_000);
    assert_eq!(world.top(), top, "nobody is told that there is still no room");
    for member in 0..9 {
        world.registry.end(id(&format!("m{member}")), world.now());
    }
    world.pass(60_000);
    assert_eq!(world.keys(), ["ann", "bob"], "all who are here have stayed");
    world.pass(600_000);
    assert_eq!((world.registry.due(), world.counted), (None, 1));
}

#[test]
fn a_channel_that_is_counted_says_0_while_somebody_reads_it() {
    let mut world = World::with(10, Presence::Count, 1 << 30);
    let (log, watcher) = world.broker.watch(&world.presence, Arc::new(Deaf));
    watcher.count_readers(1);
    world.registry.open(&world.channel, world.plan, world.now());
    assert_eq!(world.entries()[""]["count"], 0);
    world.pass(300_000);
    assert_eq!(world.top(), 1, "it does not tick");
    world.join("ann");
    world.pass(0);
    assert_eq!(world.entries()[""]["count"], 1);
    world.leave("ann");
    world.pass(1000);
    assert_eq!(world.entries()[""]["count"], 0);
    watcher.count_readers(0);
    world.broker.unwatch(&world.presence, &watcher);
    drop(log);
    world.pass(200_000);
    assert_eq!((world.keys(), world.registry.due()), (vec![], None), "nobody reads it any more");
}

struct Deaf;

impl crate::broker::Notify for Deaf {
    fn notify(&self) {}
}

/// What happens to one of a few clients.
#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    /// The application has to say who it is.
    Ask(u8),
    /// It does: somebody, or nobody whom others see.
    Know(u8, bool),
    Leave(u8),
    Cut(u8),
    End(u8),
    Type(u8, bool),
    Idle(u8, bool),
    Work(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    prop_oneof![
        3 => client().prop_map(Step::Join),
        2 => client().prop_map(Step::Ask),
        3 => (client(), prop::bool::weighted(0.8)).prop_map(|(client, is_seen)| Step::Know(client, is_seen)),
        1 => client().prop_map(Step::Leave),
        2 => client().prop_map(Step::Cut),
        1 => client().prop_map(Step::End),
        2 => (client(), any::<bool>()).prop_map(|(client, on)| Step::Type(client, on)),
        1 => (client(), any::<bool>()).prop_map(|(client, on)| Step::Idle(client, on)),
        2 => client().prop_map(Step::Work),
        6 => prop_oneof![4 => 1..300_u64, 2 => 300..3000_u64, 1 => 3000..20_000_u64].prop_map(Step::Pass),
    ]
}

const CLIENTS: u8 = 6;

/// One client, as somebody sees it who knows all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    is_member: bool,
    /// The question who it is, until that is said.
    asked: Option<u64>,
    is_hidden: bool,
    /// Since when.
    cut: Option<u64>,
    /// Since when others may know that it is here.
    since: u64,
}

impl Known {
    fn is_seen(&self) -> bool {
        self.is_member && self.asked.is_none() && !self.is_hidden
    }

    /// It is there, for the first time or again.
    fn comes(&mut self, asked: Option<u64>, now: u64) {
        if !self.is_member || self.cut.is_some_and(|cut| now - cut >= 10_000 || self.since >= cut) {
            self.since = now;
        }
        if !self.is_member {
            self.asked = asked;
        }
        (self.is_member, self.cut) = (true, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Nobody stays over the grace, everybody is listed soon, and at rest all is exact and nothing is appended.
    #[test]
    fn at_rest_it_is_exact(
        limit in 2_usize..8,
        room in prop_oneof![3 => Just(1_usize << 30), 1 => 1000..6000_usize],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::with(limit, Presence::List, room);
        let names: Vec<_> = (0..CLIENTS).map(|number| format!("c{number}")).collect();
        let mut known = [Known::default(); CLIENTS as usize];
        let mut here: BTreeMap<MemberId, bool> = BTreeMap::new();
        let mut task = 0;
        for step in steps {
            let now = world.now;
            match step {
                Step::Join(client) => {
                    known[usize::from(client)].comes(None, now);
                    world.join(&names[usize::from(client)]);
                }
                Step::Ask(client) => {
                    let (id, it) = (id(&names[usize::from(client)]), &mut known[usize::from(client)]);
                    let asked = world.registry.join(&world.channel, id, None, world.plan, world.now());
                    prop_assert_eq!(asked.is_some(), !it.is_member);
                    it.comes(asked, now);
                }
                Step::Know(client, is_seen) => {
                    let (it, name) = (&mut known[usize::from(client)], &names[usize::from(client)]);
                    if let Some(number) = it.asked.take() {
                        let subject = is_seen.then_some("somebody");
                        world.registry.know(&world.channel, id(name), number, subject, world.now());
                        (it.is_hidden, it.since) = (!is_seen, now);
                    }
                }
                Step::Leave(client) | Step::End(client) => {
                    known[usize::from(client)] = Known::default();
                    let name = &names[usize::from(client)];
                    if matches!(step, Step::End(_)) { world.registry.end(id(name), world.now()) } else { world.leave(name) }
                }
                Step::Cut(client) => {
                    let it = &mut known[usize::from(client)];
                    if it.is_member {
                        it.cut.get_or_insert(now);
                    }
                    world.registry.cut(id(&names[usize::from(client)]), world.now());
                }
                Step::Type(client, typing) => {
                    let change = PresenceChange { typing: Some(typing), ..PresenceChange::default() };
                    let done = world.says(&names[usize::from(client)], &change);
                    let expected = match known[usize::from(client)] {
                        Known { is_member: false, .. } => Presented::NotHere,
                        Known { is_hidden: true, .. } => Presented::Hidden,
                        _ => Presented::Done,
                    };
                    prop_assert_eq!(done, expected);
                }
                Step::Idle(client, is_idle) => {
                    let change = PresenceChange { is_active: Some(!is_idle), ..PresenceChange::default() };
                    let _ = world.says(&names[usize::from(client)], &change);
                }
                Step::Work(client) => {
                    task += 1;
                    world.works_at(&names[usize::from(client)], task);
                }
                Step::Pass(millis) => world.pass(millis),
            }
            for turn in world.turns.drain(..) {
                prop_assert!(turn.came || turn.left);
                let was_here = here.insert(turn.client, turn.is_here).unwrap_or(false);
                prop_assert!(turn.came && turn.left || (was_here, turn.is_here) == (turn.left, turn.came), "{:?}", turn);
            }
            let keys: BTreeSet<_> = world.keys().into_iter().collect();
            for (name, it) in names.iter().zip(&known) {
                let now = world.now;
                let is_over = !it.is_seen() || it.cut.is_some_and(|cut| now - cut >= 10_000);
                prop_assert!(!is_over || !keys.contains(name), "{} stays", name);
                let is_late = it.is_seen() && it.cut.is_none() && now - it.since > 1200;
                prop_assert!(!is_late || keys.contains(name) || keys.contains(""), "{} is not listed", name);
            }
        }
        // Removals take room for five minutes.
        let is_short = room < 1 << 30;
        world.pass(if is_short { 1_000_000 } else { 75_000 });
        let is_here = |(_, it): &(&String, &Known)| it.is_seen() && it.cut.is_none();
        let expected: BTreeSet<_> = names.iter().zip(&known).filter(is_here).map(|(name, _)| name.clone()).collect();
        let entries = world.entries();
        if let Some(count) = entries.get("") {
            prop_assert_eq!((entries.len(), count["count"].as_u64()), (1, Some(expected.len() as u64)));
        } else {
            prop_assert_eq!(entries.keys().cloned().collect::<BTreeSet<_>>(), expected.clone());
            for it in world.registry.present(&world.channel) {
                let entry = &entries[&name(it.client)];
                prop_assert_eq!((&entry["isActive"], &entry["typing"]), (&it.is_active.into(), &false.into()));
                let task: Value = serde_json::from_str(it.task.as_deref().unwrap_or("null")).expect("JSON");
                prop_assert_eq!(&entry["currentTask"], &task);
            }
        }
        let present: BTreeSet<_> = world.registry.present(&world.channel).iter().map(|it| name(it.client)).collect();
        prop_assert_eq!(&present, &expected);
        here.extend(world.turns.drain(..).map(|turn| (turn.client, turn.is_here)));
        let told: BTreeSet<_> = here.iter().filter(|(_, is_here)| **is_here).map(|(client, _)| name(*client)).collect();
        prop_assert_eq!(told, expected);
        let top = world.top();
        world.pass(600_000);
        prop_assert_eq!(world.top(), top, "traffic at rest");
        prop_assert!(world.registry.due().is_none() || (is_short && entries.contains_key("")));
    }
}
