use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;

use super::account::Cost;
use super::*;
use crate::broker::outcomes::End;
use crate::broker::place::Place;
use crate::broker::receipt::PublishError;
use crate::broker::state::read_state;
use crate::change::StateRefusal;
use crate::position::{GapReason, Start};
use crate::rules::{Access, Mode, Overrun, Presence, Replay, Rule};

struct Deaf;

impl Notify for Deaf {
    fn notify(&self) {}
}

fn broker() -> MemoryBroker {
    broker_of(usize::MAX)
}

fn broker_of(max_bytes: usize) -> MemoryBroker {
    let rule = Rule {
        pattern: "short:{x}".into(),
        subscribe: Access::Open,
        publish: Access::Open,
        history: 10,
        history_bytes: 1 << 20,
        history_seconds: Duration::from_secs(5),
        mode: Mode::All,
        overrun: Overrun::Gap,
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
    };
    MemoryBroker::new(Arc::new(Rules::new(&[rule]).expect("a legal rule")), max_bytes)
}

fn append(
    broker: &MemoryBroker,
    channel: &ChannelName,
    data: &[u8],
    key: Option<&str>,
    now: Moment,
) -> Position {
    broker
        .append(channel.as_name(), Content::new(data, key), now)
        .position()
        .expect("a log in memory confirms at once")
}

fn name(text: &str) -> ChannelName {
    match text.strip_prefix('@') {
        Some(client) => ChannelName::private(client),
        None => ChannelName::new(text).expect("a legal name"),
    }
}

fn at(seconds: u64) -> Moment {
    Moment::default() + Duration::from_secs(seconds)
}

/// Steps until nothing is left to do.
fn tidy(broker: &MemoryBroker, now: Moment) -> usize {
    (1..).find(|_| !broker.tidy(now)).expect("it ends")
}

fn channels(broker: &MemoryBroker) -> u64 {
    broker.totals().channels
}

#[test]
fn a_quiet_channel_keeps_its_epoch_for_a_minute_after_its_last_reader() {
    let broker = broker();
    let (log, watcher) = broker.watch(&name("a"), Arc::new(Deaf));
    broker.unwatch(&name("a"), &watcher);
    tidy(&broker, at(1));
    let (again, watcher) = broker.watch(&name("a"), Arc::new(Deaf));
    assert_eq!(again.epoch(), log.epoch());
    broker.unwatch(&name("a"), &watcher);

    tidy(&broker, at(2) + LINGER);
    assert_eq!(channels(&broker), 1, "the minute began again with the second reader's end");
    tidy(&broker, at(3) + LINGER * 2);
    assert_eq!(channels(&broker), 0);
    assert_ne!(broker.promise(&name("a"), Moment::default()).epoch, log.epoch());
}

#[test]
fn a_channel_whose_publications_were_all_delivered_and_aged_out_keeps_its_epoch_too() {
    let broker = broker();
    let (_, watcher) = broker.watch(&name("short:a"), Arc::new(Deaf));
    let position = append(&broker, &name("short:a"), b"1", None, at(0));
    tidy(&broker, at(100));
    broker.unwatch(&name("short:a"), &watcher);
    tidy(&broker, at(101));
    assert_eq!(broker.promise(&name("short:a"), Moment::default()), position);
}

#[test]
fn a_log_whose_position_was_asked_for_is_the_same_a_moment_later() {
    let broker = broker();
    let (_, watcher) = broker.watch(&name("a"), Arc::new(Deaf));
    broker.unwatch(&name("a"), &watcher);
    tidy(&broker, at(1));
    let position = broker.promise(&name("a"), Moment::default());
    tidy(&broker, at(2) + LINGER);
    let published = append(&broker, &name("a"), b"1", None, at(63));
    assert_eq!((published.epoch, published.offset), (position.epoch, 1));
}

#[test]
fn a_channel_that_is_used_before_it_is_dropped_stays() {
    let broker = broker();
    broker.promise(&name("a"), Moment::default());
    tidy(&broker, at(1));
    let channel = broker.queue().take_due(at(62)).expect("it is due");
    assert_eq!(channel.visit(at(62), LINGER), AfterVisit::Drop);
    let position = append(&broker, &name("a"), b"1", None, at(62));
    broker.drop_idle(channel);
    assert_eq!(broker.promise(&name("a"), Moment::default()), position);
    tidy(&broker, at(700));
    tidy(&broker, at(800));
    assert_eq!(channels(&broker), 0);
}

#[test]
fn a_step_visits_only_logs_that_are_due_and_few_at_a_time() {
    let broker = broker();
    for number in 0..1000 {
        append(&broker, &name(&format!("short:{number}")), b"1", None, at(0));
        append(&broker, &name(&format!("long:{number}")), b"1", None, at(0));
    }
    assert_eq!(tidy(&broker, at(5)), 1, "none is due");
    let steps = 1000 / VISITS + 1;
    assert_eq!(tidy(&broker, at(6)), steps, "they are emptied");
    assert_eq!(tidy(&broker, at(6)), 1);
    assert_eq!(
        tidy(&broker, at(12)),
        steps,
        "still idle, and looked at, since an append could have been due"
    );
    assert_eq!(channels(&broker), 2000);
    assert_eq!(tidy(&broker, at(7) + LINGER), steps, "they are dropped");
    assert_eq!(channels(&broker), 1000);
}

#[test]
fn the_maps_shrink_with_the_channels() {
    let broker = broker();
    for number in 0..20_000 {
        broker.promise(&name(&number.to_string()), Moment::default());
    }
    tidy(&broker, at(1));
    tidy(&broker, at(2) + LINGER);
    let room = broker.names.room();
    assert!(room < 1000, "room for {room} channels where there are none");
}

fn channels_of(broker: &MemoryBroker) -> Vec<Arc<Channel>> {
    broker.names.all()
}

/// What these channels cost.
fn cost(channels: &[Arc<Channel>]) -> Cost {
    let costs = channels.iter().map(|channel| channel.cost(channel.log().held()));
    costs.fold(Cost::NOTHING, |sum, it| Cost {
        all: sum.all + it.all,
        away: sum.away + it.away,
        state: sum.state + it.state,
    })
}

/// Publications that a log keeps. These and those in the gap of a reader from the start are all that there were.
fn kept(log: &Log) -> u32 {
    let read = log.read(Place::default(), End::Top, usize::MAX, &mut Vec::new());
    assert_eq!(read.gap.map_or(0, |gap| gap.to) + u64::from(read.count), log.top().offset());
    read.count
}

#[test]
fn the_channels_used_least_recently_are_evicted_and_their_readers_are_told() {
    let broker = broker_of(100_000);
    let (first, _watcher) = broker.watch(&name("0"), Arc::new(Deaf));
    let text = "1".repeat(9_000);
    let publish = |number: usize| append(&broker, &name(&number.to_string()), text.as_bytes(), None, at(0));
    publish(0);
    publish(0);
    for number in 1..9 {
        publish(number);
    }
    assert_eq!((kept(&first), broker.totals().trimmed), (2, 0), "that fits");
    publish(1);
    assert_eq!((kept(&first), broker.totals().trimmed), (1, 1), "the oldest publication is enough");
    publish(9);
    publish(10);
    let read = first.read(Place::default(), End::Top, usize::MAX, &mut Vec::new());
    assert_eq!((read.gap.map(|gap| (gap.from, gap.to)), read.count), (Some((0, 2)), 0));
    let gone =
        |number: usize| broker.names.with_existing(name(&number.to_string()).as_name(), |_| ()).is_none();
    assert!(gone(2) || broker.totals().trimmed > 2);
    assert!(!gone(0) && !gone(1), "it has a reader, or was used again");
    assert!(broker.account.cost().all <= 100_000);
}

#[test]
fn of_clients_that_are_away_the_one_that_left_first_loses_what_was_sent_to_it() {
    let broker = broker_of(48_000);
    let send = |client: &str| append(&broker, &name(client), &[b'1'; 1930], None, at(1));
    let read = |client: &str| {
        let log = broker.with(&name(client), |channel| Arc::clone(channel.log()));
        let read = log.read(Place::default(), End::Top, usize::MAX, &mut Vec::new());
        (read.gap.map(|gap| (gap.from, gap.to, gap.reason)), read.count)
    };
    let watchers = ["@1", "@2", "@3"].map(|client| (client, broker.watch(&name(client), Arc::new(Deaf)).1));
    for client in ["@1", "@2", "@3", "@1", "@2", "@3"] {
        send(client);
    }
    let epoch = send("@2").epoch;
    for client in ["@2", "@1"] {
        let (_, watcher) = watchers.iter().find(|(name, _)| *name == client).expect("it is there");
        broker.unwatch(&name(client), watcher);
    }
    assert_eq!((read("@2"), read("@1")), ((None, 3), (None, 2)), "a quarter holds them");
    send("@2");
    assert_eq!((read("@2"), read("@1")), ((Some((0, 1, GapReason::Memory)), 3), (None, 2)));
    send("@1");
    send("@1");
    assert_eq!((read("@2"), read("@1")), ((Some((0, 3, GapReason::Memory)), 1), (None, 4)));
    append(&broker, &name("@1"), &[b'1'; 11_000], None, at(1));
    assert_eq!((read("@2"), read("@1").1), ((Some((0, 4, GapReason::Memory)), 0), 1));
    assert_eq!((read("@3"), broker.totals().log_bytes < 20_000), ((None, 2), true), "it is not away");
    append(&broker, &name("a"), &[b'1'; 39_000], None, at(1));
    assert_eq!(kept(broker.with(&name("@1"), |channel| Arc::clone(channel.log())).as_ref()), 0);
    tidy(&broker, at(2));
    assert_eq!(
        send("@2"),
        Position { epoch, offset: 5 },
        "nothing makes its client believe that it has lost nothing"
    );
}

#[test]
fn names_count_although_nothing_is_published() {
    let broker = broker_of(100_000);
    for number in 0..10_000 {
        broker.promise(&name(&number.to_string()), Moment::default());
    }
    assert!(channels(&broker) < 500, "{}", channels(&broker));
    assert!(broker.account.cost().all <= 100_000);
    assert_eq!(broker.totals().trimmed, 0);
}

#[test]
fn the_newest_publication_stays_however_long_it_is() {
    let broker = broker_of(10_000);
    for number in 1..4 {
        let position = append(&broker, &name("a"), "1".repeat(20_000).as_bytes(), None, at(0));
        assert_eq!(position.offset, number);
        assert_eq!(channels_of(&broker).iter().map(|channel| kept(channel.log())).collect::<Vec<_>>(), [1]);
    }
    append(&broker, &name("b"), b"1", None, at(0));
    let kept: u32 = channels_of(&broker).iter().map(|channel| kept(channel.log())).sum();
    assert_eq!((kept, broker.account.excess(Of::All)), (1, None));
}

#[test]
fn a_channel_used_since_it_was_queued_is_not_evicted_before_others() {
    let broker = broker_of(100_000);
    for number in 0..8 {
        append(&broker, &name(&number.to_string()), "1".repeat(9_000).as_bytes(), None, at(0));
    }
    append(&broker, &name("0"), b"1", None, at(0));
    append(&broker, &name("long"), "1".repeat(40_000).as_bytes(), None, at(0));
    let kept: HashMap<_, _> = channels_of(&broker)
        .iter()
        .map(|channel| (channel.name().to_string(), kept(channel.log())))
        .collect();
    assert_eq!(kept.get("0"), Some(&2));
    assert_eq!(kept.get("1"), None);
}

#[test]
fn threads_that_publish_at_once_do_not_pass_the_limit() {
    let broker = broker_of(200_000);
    let text = "1".repeat(5_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (broker, text) = (&broker, &text);
            scope.spawn(move || {
                for number in 0..500 {
                    append(broker, &name(&format!("{thread}:{}", number % 50)), text.as_bytes(), None, at(0));
                    broker.tidy(at(400));
                }
            });
        }
    });
    assert!(broker.account.excess(Of::All).is_none());
    assert_eq!(broker.account.cost(), cost(&channels_of(&broker)));
    tidy(&broker, at(1000));
    tidy(&broker, at(2000));
    assert_eq!((channels(&broker), broker.account.cost()), (0, Cost::NOTHING));
}

#[test]
fn a_channel_that_is_used_while_it_is_sent_to_rest_is_visited_again() {
    let broker = broker();
    let names: Vec<_> = (0..20_000).map(|number| name(&number.to_string())).collect();
    let _watchers: Vec<_> = names.iter().map(|name| broker.watch(name, Arc::new(Deaf))).collect();
    std::thread::scope(|scope| {
        // The visits run behind the publications, and find all of them too old.
        let publisher = scope.spawn(|| {
            for name in names.iter().flat_map(|name| [name; 8]) {
                append(&broker, name, b"1", None, at(0));
            }
        });
        while !publisher.is_finished() {
            broker.tidy(at(1000));
        }
    });
    tidy(&broker, at(1000));
    assert!(
        channels_of(&broker).iter().all(|channel| kept(channel.log()) == 0),
        "time empties every channel"
    );
}

/// Seconds after the first publication until a log of 5,000 keeps its 1,000 again.
fn seconds_until_trimmed(broker: &MemoryBroker, log: &Log) -> Option<u64> {
    (2..300).find(|&second| {
        tidy(broker, at(second));
        kept(log) <= 1000
    })
}

#[test]
fn what_a_burst_left_goes_a_moment_after_its_last_reader() {
    let broker = broker();
    let (log, watcher) = broker.watch(&name("a"), Arc::new(Deaf));
    log.seat(&watcher, Start::Newcomer);
    for _ in 0..5000 {
        append(&broker, &name("a"), b"1", None, at(1));
    }
    tidy(&broker, at(5));
    assert_eq!(kept(&log), 5000, "its reader has not been offered it");
    broker.unwatch(&name("a"), &watcher);
    assert_eq!(seconds_until_trimmed(&broker, &log).map(|second| second <= 7), Some(true));
}

#[test]
fn what_was_kept_for_a_reader_that_never_came_goes_a_moment_later() {
    let broker = broker();
    broker.promise(&name("a"), at(1));
    for _ in 0..5000 {
        append(&broker, &name("a"), b"1", None, at(1));
    }
    let log = Arc::clone(channels_of(&broker)[0].log());
    assert_eq!(kept(&log), 5000);
    assert!(seconds_until_trimmed(&broker, &log) <= Some(4));
}

#[test]
fn promises_that_come_often_keep_no_more_than_their_second() {
    let broker = broker();
    for step in 0..400 {
        let now = Moment::default() + Duration::from_millis(50) * step;
        broker.promise(&name("short:a"), now);
        append(&broker, &name("short:a"), b"1", None, now);
        assert!(kept(channels_of(&broker)[0].log()) <= 23, "1.1 s of them, at one in 50 ms");
    }
}

#[test]
fn a_publication_that_makes_a_log_for_a_name_without_a_rule_is_a_stray() {
    let strays = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&strays);
    let broker = MemoryBroker::new(Arc::default(), 1 << 20).on_stray(move |channel, _| {
        found.lock().expect("nobody panics with it").push(channel.as_str().to_owned());
    });
    let now = Moment::default();
    let [first, promised] = ["a", "b"].map(|name| ChannelName::new(name).expect("legal"));
    broker.promise(&promised, now);
    for channel in [&first, &promised, &first, &ChannelName::private("c")] {
        broker.append(channel.as_name(), Content::new(b"1", None), now);
    }
    assert_eq!(*strays.lock().expect("nobody panics with it"), ["a"]);
}

#[test]
fn questions_about_a_channel_that_is_not_there_make_none() {
    let broker = broker();
    assert!(broker.when_room(&name("a"), RoomFor::KeepingUp, Box::new(|| {})));
    broker.trim(&name("b"), at(1));
    broker.finish(&name("c"));
    assert_eq!(channels(&broker), 0);
}

#[test]
fn a_channel_that_is_forgotten_while_it_is_read_is_in_the_queue_once() {
    let broker = broker();
    let (_log, watcher) = broker.watch(&name("a"), Arc::new(Deaf));
    append(&broker, &name("a"), b"1", None, at(1));
    broker.forget(&name("a"), at(1));
    append(&broker, &name("a"), b"1", None, at(1));
    broker.unwatch(&name("a"), &watcher);
    assert!(broker.queue().take_due(at(1000)).is_some());
    assert!(broker.queue().take_due(at(1000)).is_none());
}

#[test]
fn a_promise_of_long_ago_spares_nothing() {
    let broker = broker_of(100_000);
    broker.promise(&name("short:old"), at(0));
    for _ in 0..11 {
        append(&broker, &name("short:old"), &[b'1'; 6000], None, at(0));
    }
    for _ in 0..5 {
        append(&broker, &name("used"), &[b'1'; 8000], None, at(1000));
    }
    let kept = |wanted: &str| {
        channels_of(&broker).iter().find(|it| it.name().as_str() == wanted).map(|it| kept(it.log()))
    };
    assert_eq!(kept("used"), Some(5));
    assert!(kept("short:old") < Some(11));
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    Position(usize),
    Watch(usize),
    Unwatch(usize),
    Wait(u64),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..NAMES.len();
    prop_oneof![
        4 => (channel.clone(), 1..4000_usize).prop_map(|(channel, length)| Step::Append(channel, length)),
        1 => channel.clone().prop_map(Step::Position),
        2 => channel.clone().prop_map(Step::Watch),
        2 => channel.prop_map(Step::Unwatch),
        3 => (1..80_u64).prop_map(Step::Wait),
        3 => Just(Step::Tidy),
    ]
}

const NAMES: [&str; 7] = ["short:a", "short:b", "long:a", "long:b", "@a", "@b", "@c"];

proptest! {
    #[test]
    fn channels_in_use_stay_and_others_go(steps in prop::collection::vec(step(), 1..100)) {
        let broker = broker();
        let mut now = at(1);
        let mut watchers: [Vec<Arc<Watcher>>; NAMES.len()] = Default::default();
        let mut last: HashMap<usize, (Position, Moment)> = HashMap::new();
        for step in steps {
            match step {
                Step::Append(channel, _) => {
                    let position = append(&broker, &name(NAMES[channel]), b"1", None, now);
                    if let Some((before, used)) = last.insert(channel, (position, now))
                        && (!watchers[channel].is_empty() || now.since(used) < LINGER)
                    {
                        prop_assert_eq!(position, Position { offset: before.offset + 1, ..before });
                    }
                }
                Step::Position(channel) => {
                    let position = broker.promise(&name(NAMES[channel]), Moment::default());
                    if let Some((before, used)) = last.insert(channel, (position, now))
                        && (!watchers[channel].is_empty() || now.since(used) < LINGER)
                    {
                        prop_assert_eq!(position, before);
                    }
                }
                Step::Watch(channel) => {
                    let (log, watcher) = broker.watch(&name(NAMES[channel]), Arc::new(Deaf));
                    watchers[channel].push(watcher);
                    last.insert(channel, (log.position(), now));
                }
                Step::Unwatch(channel) => {
                    if let Some(watcher) = watchers[channel].pop() {
                        broker.unwatch(&name(NAMES[channel]), &watcher);
                        last.insert(channel, (broker.promise(&name(NAMES[channel]), Moment::default()), now));
                    }
                }
                Step::Wait(seconds) => now = now + Duration::from_secs(seconds),
                Step::Tidy => {
                    tidy(&broker, now);
                }
            }
        }
        // An hour later, in the steps of a server.
        for _ in 0..720 {
            now = now + Duration::from_secs(5);
            tidy(&broker, now);
        }
        let watched = watchers.iter().filter(|watchers| !watchers.is_empty()).count();
        prop_assert_eq!(channels(&broker), watched as u64);
        prop_assert!(broker.queue().take_due(now + LINGER * 100).is_none(), "time can't change what is left");
    }

    #[test]
    fn all_logs_together_fit_and_the_least_recently_used_are_evicted(steps in prop::collection::vec(step(), 1..200)) {
        const LIMIT: usize = 12_000;
        let broker = broker_of(LIMIT);
        let mut now = at(1);
        let mut watchers: [Vec<Arc<Watcher>>; NAMES.len()] = Default::default();
        for step in steps {
            let before: Vec<_> = channels_of(&broker).into_iter().map(|channel| (kept(channel.log()), channel)).collect();
            let mut used = None;
            match step {
                Step::Append(channel, length) => {
                    append(&broker, &name(NAMES[channel]), "1".repeat(length).as_bytes(), None, now);
                    used = Some(NAMES[channel]);
                }
                Step::Position(channel) => {
                    broker.promise(&name(NAMES[channel]), now);
                    used = Some(NAMES[channel]);
                }
                Step::Watch(channel) => {
                    watchers[channel].push(broker.watch(&name(NAMES[channel]), Arc::new(Deaf)).1);
                }
                Step::Unwatch(channel) => {
                    if let Some(watcher) = watchers[channel].pop() {
                        broker.unwatch(&name(NAMES[channel]), &watcher);
                        used = Some(NAMES[channel]);
                    }
                }
                Step::Wait(seconds) => now = now + Duration::from_secs(seconds),
                Step::Tidy => {
                    tidy(&broker, now);
                }
            }
            let after = channels_of(&broker);
            let others: Vec<_> = after.iter().filter(|channel| Some(channel.name().as_str()) != used).collect();
            let held = cost(&after);
            let mut existing = after.clone();
            existing.extend(before.iter().map(|(_, channel)| channel).filter(|it| !after.iter().any(|other| Arc::ptr_eq(it, other))).cloned());
            prop_assert_eq!(broker.account.cost(), cost(&existing));
            let is_away = |channel: &Channel| channel.name().is_private() && !channel.log().held().is_watched;
            for (of, is_over) in [(Of::All, held.all > LIMIT), (Of::Away, held.away > LIMIT / 4)] {
                let counts = |channel: &&Arc<Channel>| of == Of::All || is_away(channel);
                if is_over && used.is_some() {
                    prop_assert!(others.iter().copied().filter(counts).all(|it| kept(it.log()) == 0), "everything was evicted that could be");
                    prop_assert!(after.iter().filter(counts).all(|it| kept(it.log()) <= 1));
                }
            }
            if used.is_some() {
                let lost = before.iter().filter(|(kept_before, channel)| {
                    Some(channel.name().as_str()) != used && kept(channel.log()) < *kept_before
                });
                for (_, loser) in lost {
                    let older = others.iter().filter(|channel| channel.last_use() < loser.last_use());
                    let older = older.filter(|channel| !channel.log().held().is_crowded);
                    // Perhaps those that are away together had too much, and not all.
                    let older = older.filter(|channel| !is_away(loser) || is_away(channel));
                    prop_assert_eq!(older.map(|channel| kept(channel.log())).sum::<u32>(), 0);
                }
                let outlived = before.iter().filter(|(_, channel)| channel.name().is_private());
                prop_assert!(outlived.into_iter().all(|(_, it)| after.iter().any(|other| Arc::ptr_eq(it, other))));
            }
        }
    }
}

/// States that keep a removal for ten seconds.
fn state_rule() -> Rule {
    Rule {
        pattern: "state:{x}".into(),
        subscribe: Access::Open,
        publish: Access::Open,
        history: 100,
        history_bytes: 1 << 20,
        history_seconds: Duration::from_secs(10),
        mode: Mode::State,
        overrun: Overrun::Gap,
        compress: true,
        sender: false,
        replay: Replay::Head,
        recheck: false,
        claims: false,
        versions: false,
        resolves: false,
        max_keys: 1000,
        state_bytes: 1 << 20,
        presence: Presence::No,
        presence_asks: false,
        presence_told: false,
    }
}

/// A broker of such states, and of other channels.
fn states(max_bytes: usize, states: usize) -> MemoryBroker {
    MemoryBroker::new(Arc::new(Rules::new(&[state_rule()]).expect("a legal rule")), max_bytes)
        .with_states(max_bytes, states)
}

fn set(broker: &MemoryBroker, channel: &str, key: &str, now: Moment) -> Receipt {
    broker.append(name(channel).as_name(), Content::new(&b"1".repeat(1000), Some(key)), now)
}

fn delete(broker: &MemoryBroker, channel: &str, key: &str, now: Moment) {
    broker
        .append(name(channel).as_name(), Content::removal(key), now)
        .position()
        .expect("it is never refused");
}

fn keys(broker: &MemoryBroker, channel: &str) -> usize {
    read_state(broker, &name(channel)).map_or(0, |(_, entries)| entries.len())
}

#[test]
fn a_state_never_gives_way_and_does_not_age() {
    let broker = states(50_000, 50_000);
    for key in 0..20 {
        set(&broker, "state:a", &key.to_string(), at(1)).position().expect("there is room");
    }
    for number in 0..100 {
        append(&broker, &name("other"), &b"1".repeat(1000), None, at(2 + number));
        assert_eq!(keys(&broker, "state:a"), 20);
    }
    assert!(broker.totals().log_bytes < 52_000 && broker.totals().trimmed > 50, "the others do");
    tidy(&broker, at(100_000));
    tidy(&broker, at(200_000));
    assert_eq!(keys(&broker, "state:a"), 20);
}

#[test]
fn more_than_all_logs_may_have_ends_although_states_give_nothing() {
    let broker = states(10_000, 500_000);
    let (_, watcher) = broker.watch(&name("state:a"), Arc::new(Deaf));
    for key in 0..30 {
        set(&broker, "state:a", &key.to_string(), at(1)).position().expect("there is room");
        set(&broker, "state:b", &key.to_string(), at(1)).position().expect("there is room");
    }
    for key in 0..30 {
        delete(&broker, "state:b", &key.to_string(), at(2));
    }
    append(&broker, &name("other"), b"1", None, at(3));
    assert_eq!((keys(&broker, "state:a"), keys(&broker, "state:b")), (30, 0));
    assert!(broker.names.with_existing(name("state:b").as_name(), |_| ()).is_none());
    broker.unwatch(&name("state:a"), &watcher);
    assert_eq!(keys(&broker, "state:a"), 30);
}

#[test]
fn removals_age_and_an_empty_state_goes_as_logs_do() {
    let broker = states(1 << 20, 1 << 20);
    for key in ["a", "b", "c"] {
        set(&broker, "state:a", key, at(1));
    }
    let most = Most { count: 100, bytes: usize::MAX };
    let count =
        || broker.state_after(&name("state:a"), 0, most).map(|part| (part.entries.len(), part.forgotten));
    delete(&broker, "state:a", "a", at(2));
    delete(&broker, "state:a", "b", at(3));
    assert_eq!(count(), Some((3, 0)));
    tidy(&broker, at(14));
    assert_eq!(count(), Some((2, 4)), "the newest entry stays, so that a position reaches the top");
    tidy(&broker, at(10_000));
    assert_eq!((count(), keys(&broker, "state:a")), (Some((2, 4)), 1));
    delete(&broker, "state:a", "c", at(10_001));
    for seconds in [10_002, 10_020, 10_100, 10_200] {
        tidy(&broker, at(seconds));
    }
    assert_eq!(count(), None);
    assert_eq!((broker.account.cost().state, broker.account.cost().all), (0, 0));
}

/// A broker whose states go when they are idle for so many seconds.
fn idle_states(seconds: u64) -> MemoryBroker {
    let rules =
        Rules::new(&[state_rule()]).expect("a legal rule").with_state_idle(Duration::from_secs(seconds));
    MemoryBroker::new(Arc::new(rules), 1 << 20)
}

#[test]
fn a_state_is_dropped_when_nobody_reads_or_writes_it() {
    let every = Most { count: 1, bytes: usize::MAX };
    let state = name("state:a");
    type Use<'a> = &'a dyn Fn(&MemoryBroker, u64);
    let uses: [(&str, Use<'_>); 6] = [
        ("nothing", &|_, _| {}),
        ("get", &|broker, _| _ = broker.entry(state.as_name(), "a", None)),
        ("items", &|broker, _| _ = broker.state_after(&state, 0, every)),
        ("history", &|broker, _| _ = broker.history(&state, None, every)),
        ("set", &|broker, now| _ = set(broker, "state:a", "a", at(now))),
        ("subscribe", &|broker, now| _ = broker.promise(&state, at(now))),
    ];
    for (kind, act) in uses {
        let broker = idle_states(50);
        let epoch = set(&broker, "state:a", "a", at(1)).position().expect("there is room").epoch;
        for now in 2..=1000 {
            if now % 49 == 0 {
                act(&broker, now);
            }
            tidy(&broker, at(now));
            match kind {
                "nothing" if now < 51 => assert_eq!(channels(&broker), 1),
                "nothing" if now > 103 => {
                    assert_eq!((channels(&broker), broker.account.cost()), (0, Cost::NOTHING))
                }
                "nothing" => {}
                _ => assert_eq!(channels(&broker), 1, "{kind} at {now}"),
            }
        }
        for now in 1001..1110 {
            tidy(&broker, at(now));
        }
        assert_eq!((channels(&broker), keys(&broker, "state:a")), (0, 0), "{kind}");
        let anew = set(&broker, "state:a", "a", at(2000)).position().expect("there is room");
        assert!(anew.epoch != epoch && anew.offset == 1);
    }
}

#[test]
fn readers_keep_a_state_and_it_is_idle_when_the_last_has_gone() {
    let broker = idle_states(50);
    set(&broker, "state:a", "a", at(1)).position().expect("there is room");
    let (_, watcher) = broker.watch(&name("state:a"), Arc::new(Deaf));
    for now in 2..1000 {
        tidy(&broker, at(now));
    }
    assert_eq!(broker.account.cost().state, broker.account.cost().all);
    broker.unwatch(&name("state:a"), &watcher);
    for now in 1000..1049 {
        tidy(&broker, at(now));
        assert_eq!(channels(&broker), 1);
    }
    for now in 1049..1104 {
        tidy(&broker, at(now));
    }
    assert_eq!((channels(&broker), broker.account.cost()), (0, Cost::NOTHING));
}

#[test]
fn removals_age_while_an_idle_state_waits_and_do_not_keep_it() {
    let broker = idle_states(50);
    for key in ["a", "b"] {
        set(&broker, "state:a", key, at(1)).position().expect("there is room");
    }
    delete(&broker, "state:a", "a", at(2));
    set(&broker, "state:a", "b", at(3)).position().expect("there is room");
    let kept = || broker.names.with_existing(name("state:a").as_name(), |it| it.log().held().oldest);
    assert_eq!(kept(), Some(Some(at(2))));
    for now in 3..=14 {
        tidy(&broker, at(now));
    }
    assert_eq!(kept(), Some(None));
    delete(&broker, "state:a", "b", at(20));
    for now in 20..150 {
        tidy(&broker, at(now));
    }
    assert_eq!(kept(), None);
}

#[test]
fn an_empty_state_goes_as_logs_do_however_long_others_may_be_idle() {
    let broker = idle_states(1_000_000);
    set(&broker, "state:a", "a", at(1)).position().expect("there is room");
    set(&broker, "state:b", "a", at(1)).position().expect("there is room");
    delete(&broker, "state:a", "a", at(2));
    for now in 2..200 {
        tidy(&broker, at(now));
    }
    assert_eq!((channels(&broker), keys(&broker, "state:b")), (1, 1));
}

#[test]
fn who_is_in_a_channel_is_not_forgotten_while_nobody_reads_it() {
    let broker = idle_states(50);
    let room = ChannelName::presence_of(&name("room"));
    broker.append_all(&room, &[Content::new(b"1", Some("a"))], at(1)).expect("there is room");
    for now in 2..1000 {
        tidy(&broker, at(now));
    }
    assert_eq!(read_state(&broker, &room).map(|(_, entries)| entries.len()), Some(1));
}

#[test]
fn several_entries_at_once_have_room_when_each_by_itself_would_have_it() {
    let broker = states(1 << 20, 4000);
    let room = ChannelName::presence_of(&name("room"));
    let keys: Vec<_> = (0..100).map(|key| key.to_string()).collect();
    let entries = |count: usize| -> Vec<_> {
        keys[..count].iter().map(|key| Content::new(b"1234567890", Some(key.as_str()))).collect()
    };
    broker.append_all(&room, &entries(100), at(1)).expect_err("a thousand bytes, and their bookkeeping");
    assert_eq!(read_state(&broker, &room).map_or(0, |(_, entries)| entries.len()), 0);
    broker.append_all(&room, &entries(20), at(1)).expect("there is room");
    assert!(broker.account.cost().state < 5000);
}

#[test]
fn an_idle_state_gives_removals_and_nothing_else_when_memory_is_needed() {
    let broker = idle_states(50);
    for key in 0..20 {
        set(&broker, "state:a", &key.to_string(), at(1)).position().expect("there is room");
    }
    delete(&broker, "state:a", "0", at(2));
    delete(&broker, "state:a", "1", at(2));
    for number in 0..2000 {
        append(&broker, &name(&format!("other:{number}")), &b"1".repeat(1000), None, at(3));
    }
    let part = broker.state_after(&name("state:a"), 0, Most { count: 100, bytes: usize::MAX });
    assert_eq!(
        part.map(|part| (part.entries.len(), part.forgotten)),
        Some((19, 21)),
        "the newest entry stays"
    );
    for now in 3..110 {
        tidy(&broker, at(now));
    }
    assert_eq!(broker.account.cost().state, 0);
}

#[test]
fn all_states_together_are_bounded_and_a_delete_has_room() {
    let broker = states(1 << 20, 10_000);
    let refused = |receipt: Receipt| match receipt.outcome() {
        Some(Err(PublishError::Refused(refusal))) => Some(refusal),
        _ => None,
    };
    let full = (0..20).find_map(|key| refused(set(&broker, "state:a", &key.to_string(), at(1))));
    assert_eq!(full, Some(StateRefusal::AllBytes(10_000)));
    assert_eq!(refused(set(&broker, "state:b", "x", at(1))), Some(StateRefusal::AllBytes(10_000)));
    assert!(broker.account.cost().state <= 12_000);
    append(&broker, &name("other"), &b"1".repeat(50_000), None, at(2));
    for key in 0..4 {
        delete(&broker, "state:a", &key.to_string(), at(2));
    }
    assert_eq!(refused(set(&broker, "state:a", "new", at(3))), None);
}

#[test]
fn where_all_states_are_full_a_value_can_be_replaced_by_one_that_is_not_longer() {
    let broker = states(1 << 20, 10_000);
    let change = |data: &[u8], key: &str| {
        broker.append(name("state:a").as_name(), Content::new(data, Some(key)), at(1))
    };
    let long = b"1".repeat(1000);
    assert!((0..20).any(|key| change(&long, &key.to_string()).position().is_none()));
    for data in [&*long, &long[..500]] {
        assert!(change(data, "0").position().is_some(), "it needs no more room");
    }
    assert_eq!(change(&b"1".repeat(9000), "0").position(), None);
}

#[test]
fn what_all_states_refuse_takes_no_removals_from_readers() {
    let broker = states(1 << 20, 100_000);
    for key in 0..90 {
        set(&broker, "state:a", &key.to_string(), at(1));
    }
    for key in 0..2 {
        delete(&broker, "state:a", &key.to_string(), at(1));
    }
    while set(&broker, "state:b", &broker.totals().log_bytes.to_string(), at(1)).position().is_some() {}
    let long = b"1".repeat(50_000);
    let refused = broker.append(name("state:a").as_name(), Content::new(&long, Some("new")), at(2));
    let most = Most { count: 1, bytes: 1 };
    let part = broker.state_after(&name("state:a"), 0, most).expect("it is there");
    assert_eq!((refused.position(), part.forgotten), (None, 0));
}

#[test]
fn an_entry_with_more_bytes_than_its_state_may_have_is_refused_by_an_empty_one_too() {
    let rule = Rule { state_bytes: 500, ..state_rule() };
    let broker = MemoryBroker::new(Arc::new(Rules::new(&[rule]).expect("a legal rule")), 1 << 20);
    assert_eq!(set(&broker, "state:a", "a", at(1)).position(), None);
    let short = broker.append(name("state:a").as_name(), Content::new(b"1", Some("a")), at(1));
    assert!(short.position().is_some());
    delete(&broker, "state:a", "a", at(1));
    assert_eq!(set(&broker, "state:a", "a", at(1)).position(), None);
}

#[test]
fn the_room_of_removed_keys_is_there_for_other_states_at_once() {
    let broker = states(1 << 20, 1 << 19);
    for round in 0..10 {
        let channel = format!("state:{round}");
        for key in 0..1000 {
            let key = key.to_string();
            let content = Content::new(b"1", Some(&key));
            broker.append(name(&channel).as_name(), content, at(1)).position().expect("there is room");
        }
        for key in 0..1000 {
            delete(&broker, &channel, &key.to_string(), at(1));
        }
    }
}

#[test]
fn a_state_that_is_forgotten_while_it_is_read_is_cleared_in_one_step() {
    let broker = states(1 << 20, 1 << 20);
    for key in ["a", "b", "c"] {
        set(&broker, "state:a", key, at(1));
    }
    let (log, watcher) = broker.watch(&name("state:a"), Arc::new(Deaf));
    let reader = log.top();
    broker.forget(&name("state:a"), at(2));
    assert_eq!((log.position().offset, keys(&broker, "state:a"), log.forgotten().offset()), (4, 0, 4));
    let read = log.read(reader, End::Anew, usize::MAX, &mut Vec::new());
    let gap = read.gap.expect("it begins anew");
    assert_eq!((gap.from, gap.to, gap.top, gap.reason, read.count), (3, 0, Some(4), GapReason::Reset, 1));
    broker.forget(&name("state:a"), at(3));
    assert_eq!(log.position().offset, 4, "it is empty already");
    broker.unwatch(&name("state:a"), &watcher);
    broker.forget(&name("state:a"), at(4));
    assert_eq!(channels(&broker), 0);
}

#[test]
fn a_history_of_a_state_has_its_newest_changes_and_goes_on_after_a_position() {
    let broker = states(1 << 20, 1 << 20);
    for key in ["a", "b", "c"] {
        set(&broker, "state:a", key, at(1));
    }
    delete(&broker, "state:a", "a", at(2));
    set(&broker, "state:a", "b", at(2));
    let most = Most { count: 2, bytes: usize::MAX };
    let asked = |after| {
        let history = broker.history(&name("state:a"), after, most);
        (history.gap, history.entries.iter().map(|entry| entry.offset).collect::<Vec<_>>())
    };
    let top = broker.promise(&name("state:a"), at(2));
    assert_eq!(asked(None), (false, vec![4, 5]));
    assert_eq!((asked(Some(top.at(0))), asked(Some(top.at(4)))), ((false, vec![3, 4]), (false, vec![5])));
    tidy(&broker, at(20));
    assert_eq!((asked(Some(top.at(0))), asked(Some(top.at(2)))), ((false, vec![3, 5]), (true, vec![3, 5])));
}

/// A broker of states that keep values that were replaced.
fn resolved_states(max_bytes: usize, states: usize) -> MemoryBroker {
    let rule = Rule { resolves: true, history: 50, ..state_rule() };
    MemoryBroker::new(Arc::new(Rules::new(&[rule]).expect("a legal rule")), max_bytes)
        .with_states(max_bytes, states)
}

#[test]
fn values_that_were_replaced_age() {
    let broker = resolved_states(1 << 20, 1 << 20);
    let first = set(&broker, "state:a", "k", at(1)).position().expect("there is room");
    let second = set(&broker, "state:a", "k", at(2)).position().expect("there is room");
    set(&broker, "state:a", "k", at(8));
    let base = |of| broker.entry(name("state:a").as_name(), "k", Some(of)).and_then(|found| found.base);
    let without = broker.account.cost().all;
    tidy(&broker, at(9));
    assert!(base(first).is_some() && base(second).is_some());
    tidy(&broker, at(13));
    assert_eq!((base(first), base(second).is_some()), (None, true), "it counts from when it was replaced");
    tidy(&broker, at(19));
    assert_eq!(base(second), None);
    assert!(broker.account.cost().all < without);
    let channel = Arc::clone(&channels_of(&broker)[0]);
    assert!(channel.rank().is_none() && keys(&broker, "state:a") == 1, "it has nothing to give any more");
}

#[test]
fn values_that_were_replaced_give_way_and_take_no_room_from_states() {
    let broker = resolved_states(40_000, 12_000);
    for channel in ["state:a", "state:b", "state:c"] {
        for _ in 0..100 {
            set(&broker, channel, "k", at(1)).position().expect("there is room");
        }
    }
    assert!(broker.account.cost().all <= 40_000 && broker.account.cost().state < 12_000);
    let mut others = 0;
    while set(&broker, "state:a", &format!("other {others}"), at(2)).position().is_some() {
        others += 1;
    }
    // All states are full. What takes the place of as much is taken, again and again.
    for key in (0..others).cycle().take(500) {
        set(&broker, "state:a", &format!("other {key}"), at(3)).position().expect("it has its room");
        assert!(broker.account.cost().all <= 40_000);
    }
    // Removals give way to another key, and before them what was replaced.
    for key in ["other 0", "other 1"] {
        delete(&broker, "state:a", key, at(4));
    }
    set(&broker, "state:a", "new", at(4)).position().expect("there is room");
    assert_eq!(keys(&broker, "state:a"), others);
    assert_eq!(cost(&channels_of(&broker)), broker.account.cost());
}
