//! The hub against a naive model: what every reader is told adds up to what was published.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use umbel::broker::Broker;
use umbel::broker::memory::MemoryBroker;
use umbel::channel::ChannelName;
use umbel::hub::{Delivery, Due, Outbound, Outgoing, ReaderKey, SLICE_BYTES, see_blocked, waits_since};
use umbel::position::{GapReason, Position, Start, Subscribed};
use umbel::protocol::message::Timestamp;
use umbel::protocol::wire::Wire;
use umbel::rules::{Mode, Overrun, Rule};

use crate::protocol_fuzz::targets::hub_model::late_broker::{Elsewhere, LateBroker};
use crate::protocol_fuzz::targets::hub_model::{
    CHANNELS, Client, From, READERS, Sockets, Step, TICK, World, check, messages, name, rule,
};

const DEFLATED: Wire = Wire::WebSocket { window: Some(12) };

/// Keeps every frame, so that no two share an address by chance.
#[derive(Default)]
struct Kept {
    frames: HashMap<*const u8, Bytes>,
    deliveries: usize,
}

impl Outbound for Kept {
    fn deliver(&mut self, _: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Outgoing::Shared(frame) = bytes else { panic!("readers of one channel share") };
        self.frames.insert(frame.as_ptr(), frame.clone());
        self.deliveries += 1;
        Delivery::Sent
    }
    fn lost(&mut self, _: &ChannelName, _: GapReason) {}
    fn finished(&mut self, _: ReaderKey, _: &ChannelName) {}
    fn overrun(&mut self, _: ReaderKey) {}
}

impl Kept {
    fn flush(&mut self, world: &mut World) {
        for feed in world.moved_feeds.0.lock().expect("no panics").drain(..) {
            world.hub.moved(feed);
        }
        world.hub.flush(world.now, Timestamp::from_unix_millis(0), self);
    }
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        2 => Just(From::Newcomer),
        1 => any::<bool>().prop_map(|is_promised| From::Reached { is_promised }),
        1 => (0..40_u64).prop_map(From::Offset),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (reader, channel) = (0..READERS, 0..CHANNELS.len());
    prop_oneof![
        6 => (channel.clone(), 0..4_u8, 0..400_usize).prop_map(|(channel, key, length)| Step::Publish { channel, key, length }),
        3 => (reader.clone(), channel.clone(), from()).prop_map(|(reader, channel, from)| Step::Subscribe { reader, channel, from }),
        2 => (reader.clone(), channel.clone(), from()).prop_map(|(reader, channel, from)| Step::Restart { reader, channel, from }),
        1 => (reader.clone(), channel.clone()).prop_map(|(reader, channel)| Step::Resubscribe { reader, channel }),
        1 => (reader.clone(), channel).prop_map(|(reader, channel)| Step::Unsubscribe { reader, channel }),
        1 => (reader.clone(), any::<bool>()).prop_map(|(reader, takes_one)| Step::Stick { reader, takes_one }),
        2 => reader.clone().prop_map(|reader| Step::Free { reader }),
        1 => reader.clone().prop_map(|reader| Step::Reconnect { reader }),
        1 => (reader.clone(), any::<bool>()).prop_map(|(reader, has_read)| Step::Away { reader, has_read }),
        2 => (reader, any::<bool>()).prop_map(|(reader, has_read)| Step::Resume { reader, has_read }),
        4 => Just(Step::Turn),
        2 => (1..40_u64).prop_map(Step::Wait),
    ]
}

/// Steps with a broker whose logs are elsewhere.
fn late_step() -> impl Strategy<Value = Step> {
    let elsewhere = prop_oneof![
        6 => Just(Elsewhere::Arrive),
        1 => any::<bool>().prop_map(|certain| Elsewhere::Fail { certain }),
        4 => prop_oneof![Just(usize::MAX), 1..4_usize].prop_map(|left| Elsewhere::Hear { left }),
        2 => (0..4_usize).prop_map(|count| Elsewhere::LoseTail { count }),
    ];
    let elsewhere =
        (0..CHANNELS.len(), elsewhere).prop_map(|(channel, step)| Step::Elsewhere { channel, step });
    let comes_back =
        (0..READERS, 0..CHANNELS.len()).prop_map(|(reader, channel)| Step::Resubscribe { reader, channel });
    prop_oneof![12 => step(), 8 => elsewhere, 1 => comes_back]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn readers_get_all_that_was_published_or_are_told_what_they_do_not_get(steps in prop::collection::vec(step(), 1..120)) {
        check::<MemoryBroker>(&steps);
    }

    #[test]
    fn readers_get_it_or_are_told_also_when_the_logs_are_elsewhere_and_lose_their_tails(steps in prop::collection::vec(late_step(), 1..200)) {
        check::<LateBroker>(&steps);
    }

    #[test]
    fn folding_then_applying_gives_the_state_of_applying_all(keys in prop::collection::vec(0..3_u8, 1..60), stuck in 0..60_usize) {
        // Three keys fit into a history of three: a reader that was away for most of it still gets the whole state.
        let mut world = World::new(&[rule("latest:{x}", 3, Mode::Latest, Overrun::Gap)]);
        let mut client = Client::default();
        world.join(0);
        let Subscribed::From { position, .. } = world.hub.subscribe(0, &name("latest:a"), Start::Newcomer, 1, world.now) else {
            panic!("a first subscription is one");
        };
        client.positions.insert("latest:a".into(), position.offset);
        let mut state = BTreeMap::new();
        for (number, key) in keys.iter().enumerate() {
            world.sockets.of.get_mut(&0).expect("joined").stuck = number < stuck;
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_comes_back_from_any_position_gets_all_of_it(
        keys in (1..300_usize).prop_flat_map(|keys| prop::collection::vec(0..keys, 100..700)),
        from in prop::collection::vec((0..700_u64, 0..700_u64), 1..12),
        more: bool,
    ) {
        const CHANNELS: [&str; 2] = ["all:a", "latest:a"];
        let rules = [rule("all:{x}", 400, Mode::All, Overrun::Gap), rule("latest:{x}", 250, Mode::Latest, Overrun::Gap)];
        let mut world = World::new(&rules);
        for (number, key) in keys.iter().enumerate() {
            let data = serde_json::json!({"n": number, "key": key.to_string()}).to_string();
            for channel in CHANNELS {
                world.publish(channel, &data, Some(&key.to_string()));
            }
        }
        let mut clients = Vec::new();
        for (reader, offsets) in (0..).zip(&from) {
            world.join(reader);
            let mut client = Client::default();
            for (channel, offset) in CHANNELS.into_iter().zip([offsets.0, offsets.1]) {
                let position = Position { offset, ..world.broker.promise(&name(channel), world.now) };
                // An odd one has one channel.
                if reader % 2 == 0 || channel == CHANNELS[reader as usize / 2 % 2] {
                    let Subscribed::From { position, .. } = world.hub.subscribe(reader, &name(channel), Start::After(position), 2, world.now) else {
                        panic!("a first subscription is one");
                    };
                    client.positions.insert(channel.into(), position.offset);
                }
            }
            clients.push(client);
        }
        world.turn();
        if more {
            let _ = CHANNELS.map(|channel| world.publish(channel, "{}", None));
        }
        world.settle();
        for (reader, mut client) in (0..).zip(clients) {
            world.take(reader).iter().for_each(|message| client.apply(message));
            let top = keys.len() as u64 + u64::from(more);
            prop_assert!(client.positions.values().all(|&position| position == top), "{:?}", client.positions);
            prop_assert_eq!(client.lost, 0);
        }
    }
}

#[test]
fn readers_that_come_back_from_everywhere_share_what_is_made() {
    let mut world = World::new(&[rule("{x}", 1000, Mode::All, Overrun::Gap)]);
    let mut sizes = 0_u64;
    for number in 0..1000 {
        let text = format!("\"{number} {}\"", "text ".repeat(50));
        sizes += text.len() as u64;
        world.publish("a", &text, None);
    }
    let top = world.broker.promise(&name("a"), world.now);
    for reader in 0..500 {
        world.hub.join(reader, DEFLATED);
        let from = Position { offset: 100 + u64::from(reader) * 7 % 500, ..top };
        assert!(matches!(
            world.hub.subscribe(reader, &name("a"), Start::After(from), 1, world.now),
            Subscribed::From { .. }
        ));
    }
    let mut kept = Kept::default();
    while world.hub.due(world.now) == Due::Now {
        // The top is another one in each slice.
        if kept.deliveries < 2000 {
            world.publish("a", "1", None);
        }
        kept.flush(&mut world);
    }
    let work = world.hub.encoder().work();
    // Each byte is copied twice and compressed once. 325 histories are made when each reader has its own.
    assert!(work < 20 * sizes * 6, "{work} for a history of {sizes}");
}

#[test]
fn a_reader_that_keeps_up_gets_everything_in_one_frame_however_much_it_is() {
    let mut world = World::new(&[rule("{x}", 1000, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(
        world.hub.subscribe(0, &name("a"), Start::Newcomer, 1, world.now),
        Subscribed::From { .. }
    ));
    for number in 0..1000 {
        world.publish("a", &number.to_string(), None);
    }
    world.settle();
    let batches = world.take(0);
    assert_eq!((batches.len(), &batches[0]["count"]), (1, &1000.into()));
}

#[test]
fn a_slice_ends_with_the_work_that_it_takes_also_when_little_comes_out_of_it() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    let text = format!("\"{}\"", "x".repeat(200_000));
    for reader in 0..200 {
        let channel = format!("a{reader}");
        world.hub.join(reader, DEFLATED);
        assert!(matches!(
            world.hub.subscribe(reader, &name(&channel), Start::Newcomer, 1, world.now),
            Subscribed::From { .. }
        ));
        world.publish(&channel, &text, None);
    }
    let mut kept = Kept::default();
    kept.flush(&mut world);
    let written: usize = kept.frames.values().map(Bytes::len).sum();
    assert!(written < 1 << 20);
    assert!((1..=20).contains(&kept.deliveries), "{} in one slice", kept.deliveries);
}

#[test]
fn the_first_publication_after_a_quiet_window_leaves_at_once_and_the_next_ones_together() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(
        world.hub.subscribe(0, &name("a"), Start::Newcomer, 1, world.now),
        Subscribed::From { .. }
    ));
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
fn a_window_in_which_nothing_was_published_opens_no_other() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(
        world.hub.subscribe(0, &name("a"), Start::Newcomer, 1, world.now),
        Subscribed::From { .. }
    ));
    for publication in 0..5 {
        world.publish("a", "1", None);
        world.turn();
        assert_eq!(world.take(0).len(), 1, "publication {publication} left at once");
        // The feed comes to rest; the next publication is three quarters of a window behind that.
        world.now = world.now + TICK;
        world.turn();
        assert_eq!(world.hub.due(world.now), Due::Never);
        world.now = world.now + TICK * 3 / 4;
    }
}

#[test]
fn frames_that_were_made_late_are_dropped_and_a_publication_does_not_wait_for_that() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(
        world.hub.subscribe(0, &name("a"), Start::Newcomer, 1, world.now),
        Subscribed::From { .. }
    ));
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    world.publish("a", "1", None);
    world.settle();
    world.free(0);
    world.turn();
    assert_eq!(world.take(0).len(), 1);
    assert!(world.sockets.are_frames_kept(), "another one may come as late");
    let Due::Rest(moment) = world.hub.due(world.now) else { panic!("they are dropped") };
    world.publish("a", "2", None);
    world.turn();
    assert_eq!(world.take(0).len(), 1, "at once");
    world.settle();
    assert!(world.now <= moment + TICK);
}

#[test]
fn a_pass_that_takes_longer_than_two_ticks_leaves_no_frames() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    let channels: Vec<_> = (0..600).map(|reader| format!("a{reader}")).collect();
    for (channel, reader) in channels.iter().zip(0..) {
        world.join(reader);
        assert!(matches!(
            world.hub.subscribe(reader, &name(channel), Start::Newcomer, 1, world.now),
            Subscribed::From { .. }
        ));
        world.publish(channel, "1", None);
    }
    for _ in 0..3 {
        world.turn();
        world.now = world.now + TICK * 2;
    }
    assert_eq!(world.take(599).len(), 1, "the pass is over");
    world.settle();
}

#[test]
fn the_bytes_of_all_frames_together_are_bounded() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    let text = format!("\"{}\"", "x".repeat(200_000));
    // Some are there when it is published, some come back after it.
    for reader in 0..600 {
        let channel = name(&format!("a{reader}"));
        let from = world.broker.promise(&channel, world.now);
        world.hub.join(reader, Wire::PLAIN_WEBSOCKET);
        if reader % 2 == 0 {
            assert!(matches!(
                world.hub.subscribe(reader, &channel, Start::Newcomer, 1, world.now),
                Subscribed::From { .. }
            ));
        }
        world.publish(channel.as_str(), &text, None);
        if reader % 2 == 1 {
            let subscribed = world.hub.subscribe(reader, &channel, Start::After(from), 1, world.now);
            assert!(matches!(subscribed, Subscribed::From { recovered: Some(Ok(())), .. }));
        }
    }
    let counted = |world: &World| [world.counters.recovered.load(), world.counters.unrecovered.load()];
    assert_eq!(counted(&world), [300, 0]);
    let mut kept = Kept::default();
    while kept.deliveries < 600 {
        kept.flush(&mut world);
    }
    world.hub.join(600, Wire::PLAIN_WEBSOCKET);
    let subscribed = world.hub.subscribe(600, &name("a0"), Start::Unknown, 1, world.now);
    assert!(matches!(subscribed, Subscribed::From { recovered: Some(Err(_)), .. }));
    assert_eq!(counted(&world), [300, 1]);
    // The hub has a share in those that it keeps, and beside each of them the updates without a frame.
    let shared: usize = kept.frames.values().filter(|frame| !frame.is_unique()).map(Bytes::len).sum();
    assert!((1..40 << 20).contains(&shared), "{shared}");
}

#[test]
fn a_reader_that_is_served_late_in_a_pass_also_gets_what_was_published_meanwhile() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    // More readers than fit in one slice.
    for reader in 0..600 {
        world.join(reader);
        assert!(matches!(
            world.hub.subscribe(reader, &name("a"), Start::Newcomer, 1, world.now),
            Subscribed::From { .. }
        ));
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
    assert!(matches!(
        world.hub.subscribe(0, &name("a"), Start::Newcomer, 1, world.now),
        Subscribed::From { .. }
    ));
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
    for number in 0..5 {
        world.publish("a", &number.to_string(), None);
    }
    for _ in 0..100 {
        world.now = world.now + TICK;
        world.turn();
    }
    world.free(0);
    world.settle();
    assert!(world.sockets.of[&0].overrun);
    assert!(world.take(0).is_empty());
}

#[test]
fn a_blocked_reader_costs_a_cursor_and_its_next_frame_is_larger() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    assert!(matches!(
        world.hub.subscribe(0, &name("a"), Start::Newcomer, 1, world.now),
        Subscribed::From { .. }
    ));
    world.sockets.of.get_mut(&0).expect("joined").stuck = true;
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
fn an_operator_sees_which_readers_are_blocked_and_what_they_lack() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    let stuck = [7, 4999];
    for reader in 0..5000 {
        world.join(reader);
        for channel in ["a", "b", "c"] {
            assert!(matches!(
                world.hub.subscribe(reader, &name(channel), Start::Newcomer, 3, world.now),
                Subscribed::From { .. }
            ));
        }
        world.sockets.of.get_mut(&reader).expect("joined").stuck = stuck.contains(&reader);
    }
    let look = |world: &World| {
        let (mut seen, mut from, mut looks) = (Vec::new(), Some(0), 0);
        while let Some(next) = from {
            looks += 1;
            from = see_blocked(&world.hub, next, |it| {
                seen.push((it.reader, it.channel.to_string(), it.channels, it.lag));
            });
        }
        (seen, looks)
    };
    assert_eq!(look(&world), (vec![], 1), "nobody is blocked, so nobody is looked at");
    let before = world.now;
    world.publish("b", "1", None);
    world.settle();
    let first = world.now;
    for number in 0..3 {
        world.publish("a", &number.to_string(), None);
        world.settle();
    }
    let expected = stuck.map(|reader| (reader, "a".to_owned(), 2, 3));
    assert_eq!(look(&world), (expected.to_vec(), 2));
    let since = |channel| waits_since(&world.hub, 7, channel);
    assert!(since("b") >= Some(before) && since("b") <= Some(first) && since("a") >= Some(first));
    assert_eq!((since("c"), waits_since(&world.hub, 8, "a")), (None, None));
    stuck.into_iter().for_each(|reader| world.free(reader));
    world.settle();
    assert!(look(&world).0.is_empty());
}

#[test]
fn a_reader_that_catches_up_gets_all_of_all_channels_in_as_many_frames_as_it_takes() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    let mut client = Client::default();
    for channel in ["a", "b"] {
        assert!(matches!(
            world.hub.subscribe(0, &name(channel), Start::Newcomer, 2, world.now),
            Subscribed::From { .. }
        ));
        client.positions.insert(channel.into(), 0);
    }
    for _ in 0..4 {
        world.publish("a", &format!("\"{}\"", "a".repeat(100_000)), None);
        world.publish("b", &format!("\"{}\"", "b".repeat(100_000)), None);
    }
    assert!(!world.catch_up(0).unfinished);
    world.take(0).iter().for_each(|message| client.apply(message));
    assert_eq!((client.positions["a"], client.positions["b"]), (4, 4));
    assert_eq!(client.lost, 0);
}

#[test]
fn a_reader_that_is_far_behind_catches_up_by_one_slice_and_then_in_its_turn() {
    let long = Rule { history_bytes: 64 << 20, ..rule("{x}", 1000, Mode::All, Overrun::Gap) };
    let mut world = World::new(&[long]);
    for _ in 0..1000 {
        world.publish("a", &format!("\"{}\"", "a".repeat(20_000)), None);
    }
    let top = world.broker.promise(&name("a"), world.now);
    for reader in [0, 1] {
        world.join(reader);
        let from = Position { offset: 0, ..top };
        assert!(matches!(
            world.hub.subscribe(reader, &name("a"), Start::After(from), 1, world.now),
            Subscribed::From { .. }
        ));
        let mut client = Client::default();
        client.positions.insert("a".into(), 0);
        let caught_up = world.catch_up(reader);
        assert!(caught_up.unfinished);
        assert!((SLICE_BYTES..2 * SLICE_BYTES).contains(&caught_up.cost), "{caught_up:?}");
        world.take(reader).iter().for_each(|message| client.apply(message));
        assert!((1..100).contains(&client.positions["a"]), "reader {reader}: {:?}", client.positions);
        world.settle();
        world.take(reader).iter().for_each(|message| client.apply(message));
        assert_eq!((client.positions["a"], client.lost), (1000, 0));
    }
}

#[test]
fn what_is_too_long_to_be_compressed_is_not_compressed_beside_other_channels_either() {
    let long = Rule { history_bytes: 64 << 20, ..rule("{x}", 100, Mode::All, Overrun::Gap) };
    let mut world = World::new(&[long]);
    world.join(1);
    for channel in ["a", "b"] {
        assert!(matches!(
            world.hub.subscribe(1, &name(channel), Start::Newcomer, 2, world.now),
            Subscribed::From { .. }
        ));
        world.publish(channel, &format!("\"{}\"", "x".repeat(1 << 20)), None);
    }
    let before = world.hub.encoder().work();
    world.settle();
    let work = world.hub.encoder().work() - before;
    assert!(work < 5 << 20, "{work}: each was read and copied, and no more");
    let batches = world.take(1);
    assert!(batches.iter().all(|batch| batch["type"] == "batched_updates"));
}

#[test]
fn the_private_channel_is_not_one_of_the_subscriptions_that_a_client_may_have() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(0);
    let private = ChannelName::private("c");
    for channel in ["a", "b"] {
        assert!(matches!(
            world.hub.subscribe(0, &name(channel), Start::Newcomer, 2, world.now),
            Subscribed::From { .. }
        ));
    }
    let mut subscribe =
        |channel: &ChannelName| world.hub.subscribe(0, channel, Start::Newcomer, 2, world.now);
    assert_eq!(subscribe(&name("c")), Subscribed::TooMany { most: 2 });
    assert!(matches!(subscribe(&private), Subscribed::From { .. }));
    assert_eq!(subscribe(&name("c")), Subscribed::TooMany { most: 2 });
}

#[test]
fn a_channel_that_is_not_compressed_goes_as_it_is_also_beside_others_in_one_frame() {
    let plain = Rule { compress: false, ..rule("secret", 100, Mode::All, Overrun::Gap) };
    let mut world = World::new(&[plain, rule("{x}", 100, Mode::All, Overrun::Gap)]);
    world.join(1);
    assert!(matches!(
        world.hub.subscribe(1, &name("secret"), Start::Newcomer, 2, world.now),
        Subscribed::From { .. }
    ));
    let (secret, open) = ("\"s\"".repeat(100), "\"o\"".repeat(100));
    let [secret, open] = [secret, open].map(|text| serde_json::json!(text).to_string());
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());

    world.publish("secret", &secret, None);
    world.settle();
    let bytes = std::mem::take(&mut world.sockets.of.get_mut(&1).expect("joined").bytes);
    assert_eq!(bytes[0], 0x81, "not compressed (RFC 7692 §6)");
    assert!(holds(&bytes, &secret));

    assert!(matches!(
        world.hub.subscribe(1, &name("open"), Start::Newcomer, 2, world.now),
        Subscribed::From { .. }
    ));
    world.publish("open", &open, None);
    world.publish("secret", &secret, None);
    world.settle();
    let bytes = std::mem::take(&mut world.sockets.of.get_mut(&1).expect("joined").bytes);
    assert_eq!(bytes[0], 0xc1, "one frame, and the other channel's part of it is compressed");
    assert!(holds(&bytes, &secret), "its text stands in a stored block (RFC 1951 §3.2.4)");
    assert!(!holds(&bytes, &open));
    assert_eq!(messages(&bytes)[0]["count"], 2);
}

#[test]
fn a_panic_while_one_reader_is_served_harms_no_other() {
    struct Faulty<'a>(&'a mut Sockets);
    impl Outbound for Faulty<'_> {
        fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
            assert_ne!(reader, 1, "a bug that the second reader meets");
            self.0.deliver(reader, bytes)
        }
        fn lost(&mut self, _: &ChannelName, _: GapReason) {}
        fn finished(&mut self, _: ReaderKey, _: &ChannelName) {}
        fn overrun(&mut self, _: ReaderKey) {}
    }
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    for reader in 0..4 {
        world.join(reader);
        assert!(matches!(
            world.hub.subscribe(reader, &name("a"), Start::Newcomer, 1, world.now),
            Subscribed::From { .. }
        ));
    }
    world.publish("a", "1", None);
    for feed in world.moved_feeds.0.lock().expect("no panics").drain(..) {
        world.hub.moved(feed);
    }
    let World { hub, sockets, now, .. } = &mut world;
    let flush = || hub.flush(*now, Timestamp::from_unix_millis(0), &mut Faulty(sockets));
    assert!(catch_unwind(AssertUnwindSafe(flush)).is_err());
    assert_eq!(world.hub.interrupted(), Some(1));
    world.leave(1);
    world.settle();
    world.publish("a", "2", None);
    world.settle();
    for reader in [0, 2, 3] {
        let counts: Vec<_> = world.take(reader).iter().map(|batch| batch["count"].clone()).collect();
        assert_eq!(counts, [1, 1], "reader {reader}");
    }
}

#[test]
fn readers_at_one_position_share_one_frame() {
    let mut world = World::new(&[rule("{x}", 100, Mode::All, Overrun::Gap)]);
    for reader in 0..200 {
        world.hub.join(reader, DEFLATED);
        assert!(matches!(
            world.hub.subscribe(reader, &name("a"), Start::Newcomer, 1, world.now),
            Subscribed::From { .. }
        ));
    }
    world.publish("a", &format!("\"{}\"", "text ".repeat(200)), None);
    let mut kept = Kept::default();
    kept.flush(&mut world);
    assert_eq!((kept.deliveries, kept.frames.len()), (200, 1));
}
