//! What a history does not hold costs no reader that keeps up, and a reader that has stalled keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use umbel::broker::memory::MemoryBroker;
use umbel::broker::{Broker, Log, Notify, PATIENCE, RoomFor};
use umbel::hub::ReaderKey;
use umbel::position::{Position, Start, Subscribed};
use umbel::rules::{Mode, Overrun, Rule};

use crate::protocol_fuzz::targets::hub_model::{CHANNELS, From, READERS, Step, TICK, World, name, rule, run};

struct Deaf;

impl Notify for Deaf {
    fn notify(&self) {}
}

/// The log of a channel. It is watched from outside for a moment only.
fn log(world: &World, channel: &str) -> Arc<Log> {
    let (log, watcher) = world.broker.watch(&name(channel), Arc::new(Deaf));
    world.broker.unwatch(&name(channel), &watcher);
    log
}

fn join(world: &mut World, reader: ReaderKey, channels: &[&str]) {
    world.join(reader);
    for channel in channels {
        let subscribed = world.hub.subscribe(reader, &name(channel), Start::Newcomer, 10, world.now);
        assert!(matches!(subscribed, Subscribed::From { .. }));
    }
}

fn publish(world: &World, channel: &str, count: usize, length: usize) {
    for number in 0..count {
        world.publish(channel, &format!("{{\"n\":{number},\"x\":\"{}\"}}", "x".repeat(length)), None);
    }
}

/// Lets time pass, tick by tick.
fn pass(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        world.now = world.now + TICK;
        world.turn();
    }
}

/// Updates and gaps of what a reader got.
fn got(world: &mut World, reader: ReaderKey) -> (u64, Vec<Value>) {
    let messages = world.take(reader);
    let count = messages.iter().filter_map(|message| message["count"].as_u64()).sum();
    (count, messages.into_iter().filter(|message| message["type"] == "gap").collect())
}

fn world(history: usize) -> World {
    World::new(&[rule("{x}", history, Mode::All, Overrun::Gap)])
}

#[test]
fn a_burst_reaches_every_reader_that_keeps_up_and_its_memory_is_given_back() {
    let mut world = world(10);
    for reader in 0..20 {
        join(&mut world, reader, &["a"]);
    }
    // More than one frame, in one tick.
    publish(&world, "a", 5000, 100);
    world.settle();
    for reader in 0..20 {
        assert_eq!(got(&mut world, reader), (5000, vec![]));
    }
    assert!(log(&world, "a").held().bytes < 10_000);
}

#[test]
fn a_reader_of_several_channels_gets_the_burst_of_each() {
    let mut world = world(3);
    join(&mut world, 0, &["a", "b", "c"]);
    for channel in ["a", "b", "c"] {
        publish(&world, channel, 2000, 100);
    }
    world.settle();
    assert_eq!(got(&mut world, 0), (6000, vec![]));
    for channel in ["a", "b", "c"] {
        assert!(log(&world, channel).held().bytes < 10_000);
    }
}

#[test]
fn a_full_socket_is_no_reason_to_lose_anything_within_a_second() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    publish(&world, "a", 500, 100);
    pass(&mut world, PATIENCE - TICK * 2);
    world.free(0);
    world.settle();
    assert_eq!(got(&mut world, 0), (500, vec![]));
}

#[test]
fn a_reader_that_has_stalled_keeps_nothing() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    join(&mut world, 1, &["a"]);
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    for second in 0..4 {
        publish(&world, "a", 500, 100);
        pass(&mut world, PATIENCE + PATIENCE / 8);
        let bytes = log(&world, "a").held().bytes;
        assert!(bytes < 10_000, "in second {second} it still has {bytes} bytes");
    }
    assert_eq!(got(&mut world, 1), (2000, vec![]), "another reader is not concerned");
    world.free(0);
    world.settle();
    let (updates, gaps) = got(&mut world, 0);
    assert_eq!((updates, gaps.len()), (10, 1));
    assert_eq!((&gaps[0]["reason"], &gaps[0]["to"]), (&"overrun".into(), &1990.into()));
}

#[test]
fn a_late_reader_is_forgiven_after_a_second() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    let stuck = |world: &mut World| world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    stuck(&mut world);
    publish(&world, "a", 100, 100);
    pass(&mut world, PATIENCE * 2);
    world.free(0);
    world.turn();
    assert_eq!(got(&mut world, 0).1.len(), 1);
    // It is level, and still late: a burst while its socket is full costs it the beginning.
    stuck(&mut world);
    publish(&world, "a", 100, 100);
    pass(&mut world, TICK * 2);
    world.free(0);
    world.settle();
    assert_eq!(got(&mut world, 0).1.len(), 1);
    pass(&mut world, PATIENCE * 2);
    stuck(&mut world);
    publish(&world, "a", 100, 100);
    pass(&mut world, TICK * 2);
    world.free(0);
    world.settle();
    assert_eq!(got(&mut world, 0), (100, vec![]));
}

#[test]
fn a_burst_has_a_bound_and_says_so() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    publish(&world, "a", 300, 100_000);
    assert!(log(&world, "a").held().bytes < 17 << 20);
    world.settle();
    let (updates, gaps) = got(&mut world, 0);
    assert_eq!((gaps.len(), &gaps[0]["reason"], &gaps[0]["from"]), (1, &"burst".into(), &0.into()));
    assert_eq!(updates + gaps[0]["to"].as_u64().expect("a number"), 300);
    assert!(updates > 150, "16 MiB");
}

#[test]
fn many_keys_at_once_have_no_bound_of_their_own() {
    let mut world = World::new(&[rule("{x}", 10, Mode::Latest, Overrun::Gap)]);
    join(&mut world, 0, &["a"]);
    for key in 0..1000 {
        world.publish("a", "1", Some(&key.to_string()));
    }
    world.settle();
    assert_eq!(got(&mut world, 0), (1000, vec![]));
}

#[test]
fn who_comes_back_gets_all_that_was_promised() {
    let mut world = world(100);
    join(&mut world, 1, &["a"]);
    publish(&world, "a", 100, 10);
    world.settle();
    world.now = world.now + PATIENCE * 10;
    let from = Position { offset: 0, ..log(&world, "a").position() };
    world.join(0);
    let subscribed = world.hub.subscribe(0, &name("a"), Start::After(from), 1, world.now);
    assert!(matches!(subscribed, Subscribed::From { recovered: Some(Ok(())), .. }));
    publish(&world, "a", 1000, 10);
    pass(&mut world, TICK * 4);
    assert_eq!(got(&mut world, 0), (1100, vec![]));
}

#[test]
fn a_promise_keeps_what_comes_after_it_for_a_second() {
    let mut world = world(10);
    let from = world.broker.promise(&name("a"), world.now);
    publish(&world, "a", 1000, 10);
    world.join(0);
    let subscribed = world.hub.subscribe(0, &name("a"), Start::After(from), 1, world.now);
    assert!(matches!(subscribed, Subscribed::From { recovered: Some(Ok(())), .. }));
    world.settle();
    assert_eq!(got(&mut world, 0), (1000, vec![]));
    let log = log(&world, "a");
    world.broker.promise(&name("a"), world.now);
    publish(&world, "a", 1000, 10);
    assert!(log.held().bytes > 50_000);
    world.now = world.now + PATIENCE * 2;
    publish(&world, "a", 1, 10);
    world.settle();
    assert!(log.held().bytes < 10_000);
}

#[test]
fn nobody_is_late_because_the_server_was() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    // Suspended before the tick, then within a pass.
    publish(&world, "a", 500, 100);
    world.now = world.now + PATIENCE * 5;
    world.turn();
    publish(&world, "a", 500, 100);
    world.now = world.now + PATIENCE * 5;
    world.turn();
    publish(&world, "a", 1, 100);
    world.settle();
    assert_eq!(got(&mut world, 0), (1001, vec![]));
}

#[test]
fn a_reader_that_is_closed_for_an_overrun_is_not_closed_for_a_burst() {
    let mut world =
        World::new(&[Rule { overrun: Overrun::Close, ..rule("{x}", 10, Mode::All, Overrun::Gap) }]);
    join(&mut world, 0, &["a"]);
    publish(&world, "a", 1000, 100);
    world.settle();
    assert!(!world.sockets.of[&0].overrun);
    assert_eq!(got(&mut world, 0), (1000, vec![]));
}

fn step() -> impl Strategy<Value = Step> {
    let (reader, channel) = (0..READERS, 0..CHANNELS.len());
    let from = prop_oneof![Just(From::Newcomer), (0..40_u64).prop_map(From::Offset)];
    prop_oneof![
        10 => (channel.clone(), 0..4_u8, 0..400_usize).prop_map(|(channel, key, length)| Step::Publish { channel, key, length }),
        3 => (reader.clone(), channel.clone(), from.clone()).prop_map(|(reader, channel, from)| Step::Subscribe { reader, channel, from }),
        2 => (reader.clone(), channel.clone(), from).prop_map(|(reader, channel, from)| Step::Restart { reader, channel, from }),
        1 => (reader.clone(), channel.clone()).prop_map(|(reader, channel)| Step::Resubscribe { reader, channel }),
        1 => (reader.clone(), channel).prop_map(|(reader, channel)| Step::Unsubscribe { reader, channel }),
        1 => reader.prop_map(|reader| Step::Reconnect { reader }),
        4 => Just(Step::Turn),
        2 => prop_oneof![1..40_u64, 500..3000_u64].prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_always_reads_has_no_gap_whatever_is_published_and_when(steps in prop::collection::vec(step(), 1..200)) {
        let (world, _) = run::<MemoryBroker>(&steps);
        prop_assert_eq!(world.counters.gaps.load(), 0);
    }
}

/// Whether somebody who waits was told.
#[derive(Clone, Default)]
struct Told(Arc<std::sync::atomic::AtomicBool>);

impl Told {
    /// Waits for room, if there is none.
    fn wait(&self, world: &World, channel: &str, who: RoomFor) -> bool {
        let told = self.clone();
        let act = move || told.0.store(true, std::sync::atomic::Ordering::Relaxed);
        world.broker.when_room(&name(channel), who, Box::new(act))
    }

    fn is_told(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn a_producer_waits_until_less_than_half_of_a_burst_waits_for_readers() {
    let mut world = world(10);
    let told = Told::default();
    publish(&world, "a", 100, 100_000);
    assert!(told.wait(&world, "a", RoomFor::KeepingUp), "nobody reads");
    join(&mut world, 0, &["a"]);
    publish(&world, "a", 50, 100_000);
    assert!(told.wait(&world, "a", RoomFor::KeepingUp), "5 MB");
    publish(&world, "a", 50, 100_000);
    assert!(!told.wait(&world, "a", RoomFor::KeepingUp), "10 MB");
    assert!(!told.is_told());
    pass(&mut world, PATIENCE / 8);
    assert!(told.is_told());
    world.settle();
    assert_eq!(got(&mut world, 0), (100, vec![]));
    assert!(log(&world, "a").held().bytes < 2 << 20);
}

#[test]
fn a_reader_that_has_stalled_slows_no_producer_but_its_own() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    publish(&world, "a", 100, 100_000);
    let [all, own] = [RoomFor::KeepingUp, RoomFor::Everybody].map(|who| {
        let told = Told::default();
        assert!(!told.wait(&world, "a", who));
        told
    });
    pass(&mut world, PATIENCE * 2);
    assert_eq!([all.is_told(), own.is_told()], [true, false]);
    world.free(0);
    pass(&mut world, PATIENCE / 8);
    assert!(own.is_told());
}

#[test]
fn what_is_too_old_goes_also_when_nothing_is_published_to_its_readers() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    publish(&world, "a", 3, 10);
    pass(&mut world, TICK * 2);
    assert_eq!(got(&mut world, 0), (3, vec![]));
    world.now = world.now + Duration::from_secs(3600);
    world.broker.tidy(world.now);
    pass(&mut world, TICK * 2);
    assert_eq!(log(&world, "a").held().oldest, None);
}

#[test]
fn whoever_waits_for_all_readers_goes_on_when_the_last_one_leaves() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    publish(&world, "a", 8, 10);
    let told = Told::default();
    assert!(!told.wait(&world, "a", RoomFor::Everybody), "more than half of the history");
    world.leave(0);
    assert!(told.is_told());
}

#[test]
fn a_producer_that_waits_loses_nothing_however_slow_its_reader_is() {
    let mut world = world(10);
    join(&mut world, 0, &["a"]);
    for round in 0..20 {
        world.sockets.of.get_mut(&0).expect("joined").stuck = true;
        for _ in 0..6 {
            publish(&world, "a", 1, 100);
            let told = Told::default();
            if !told.wait(&world, "a", RoomFor::Everybody) {
                pass(&mut world, PATIENCE * 3);
                assert!(!told.is_told(), "round {round}");
                world.free(0);
                pass(&mut world, PATIENCE / 8);
                assert!(told.is_told(), "round {round}");
            }
        }
    }
    world.free(0);
    world.settle();
    assert_eq!(got(&mut world, 0), (120, vec![]));
}
