use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::broker::log::LINGER;
use crate::config::{Access, Mode, Overrun, Rule};

struct Deaf;

impl Alarm for Deaf {
    fn ring(&self) {}
}

fn broker() -> MemoryBroker {
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
    };
    MemoryBroker::new(Arc::new(Rules::new(&[rule]).expect("a legal rule")))
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a legal name")
}

fn at(seconds: u64) -> Moment {
    Moment::default() + Duration::from_secs(seconds)
}

/// Steps until nothing is left to do.
fn tidy(broker: &MemoryBroker, now: Moment) -> usize {
    (1..).find(|_| !broker.tidy(now)).expect("it ends")
}

fn channels(broker: &MemoryBroker) -> u64 {
    broker.totals().0
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
    assert_ne!(broker.position(&name("a")).epoch, log.epoch());
}

#[test]
fn a_channel_whose_publications_were_all_delivered_and_aged_out_keeps_its_epoch_too() {
    let broker = broker();
    let (_, watcher) = broker.watch(&name("short:a"), Arc::new(Deaf));
    let position = broker.append(&name("short:a"), b"1", None, at(0));
    tidy(&broker, at(100));
    broker.unwatch(&name("short:a"), &watcher);
    tidy(&broker, at(101));
    assert_eq!(broker.position(&name("short:a")), position);
}

#[test]
fn who_asked_for_a_position_finds_the_same_log_a_moment_later() {
    let broker = broker();
    let (_, watcher) = broker.watch(&name("a"), Arc::new(Deaf));
    broker.unwatch(&name("a"), &watcher);
    tidy(&broker, at(1));
    let position = broker.position(&name("a"));
    tidy(&broker, at(2) + LINGER);
    let published = broker.append(&name("a"), b"1", None, at(63));
    assert_eq!((published.epoch, published.offset), (position.epoch, 1));
}

#[test]
fn what_is_found_idle_and_used_before_it_is_dropped_stays() {
    let broker = broker();
    broker.position(&name("a"));
    tidy(&broker, at(1));
    let log = broker.queue().take_due(at(62)).expect("it is due");
    assert_eq!(log.tidy(at(62)), Next::Drop);
    let position = broker.append(&name("a"), b"1", None, at(62));
    broker.drop_idle(log);
    assert_eq!(broker.position(&name("a")), position);
    tidy(&broker, at(700));
    tidy(&broker, at(800));
    assert_eq!(channels(&broker), 0);
}

#[test]
fn a_step_visits_only_logs_that_are_due_and_few_at_a_time() {
    let broker = broker();
    for number in 0..1000 {
        broker.append(&name(&format!("short:{number}")), b"1", None, at(0));
        broker.append(&name(&format!("long:{number}")), b"1", None, at(0));
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
fn parts_do_not_wait_for_each_other() {
    let broker = broker();
    let held = broker.parts[0].write();
    let names = (0..1000).map(|number| name(&number.to_string()));
    let elsewhere: Vec<_> =
        names.filter(|name| !std::ptr::eq(broker.part(name), &raw const broker.parts[0])).collect();
    assert!(elsewhere.len() > 500);
    for name in elsewhere {
        assert_eq!(broker.append(&name, b"1", None, at(0)).offset, 1);
    }
    drop(held);
}

#[test]
fn the_maps_shrink_with_the_channels() {
    let broker = broker();
    for number in 0..20_000 {
        broker.position(&name(&number.to_string()));
    }
    tidy(&broker, at(1));
    tidy(&broker, at(2) + LINGER);
    let room: usize = broker.parts.iter().map(|part| part.read().capacity()).sum();
    assert!(room < 1000, "room for {room} channels where there are none");
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Position(usize),
    Watch(usize),
    Unwatch(usize),
    Wait(u64),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..NAMES.len();
    prop_oneof![
        4 => channel.clone().prop_map(Step::Append),
        1 => channel.clone().prop_map(Step::Position),
        2 => channel.clone().prop_map(Step::Watch),
        2 => channel.prop_map(Step::Unwatch),
        3 => (1..80_u64).prop_map(Step::Wait),
        3 => Just(Step::Tidy),
    ]
}

const NAMES: [&str; 4] = ["short:a", "short:b", "long:a", "long:b"];

proptest! {
    #[test]
    fn what_is_used_stays_and_what_is_not_used_goes(steps in prop::collection::vec(step(), 1..100)) {
        let broker = broker();
        let mut now = at(1);
        let mut watchers: [Vec<Arc<Watcher>>; 4] = Default::default();
        let mut last: HashMap<usize, (Position, Moment)> = HashMap::new();
        for step in steps {
            match step {
                Step::Append(channel) => {
                    let position = broker.append(&name(NAMES[channel]), b"1", None, now);
                    if let Some((before, used)) = last.insert(channel, (position, now))
                        && (!watchers[channel].is_empty() || now.since(used) < LINGER)
                    {
                        prop_assert_eq!(position, Position { offset: before.offset + 1, ..before });
                    }
                }
                Step::Position(channel) => {
                    let position = broker.position(&name(NAMES[channel]));
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
                        last.insert(channel, (broker.position(&name(NAMES[channel])), now));
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
}
