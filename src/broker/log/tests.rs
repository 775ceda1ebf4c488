use std::time::Duration;

use super::*;
use crate::position::Unrecovered;
use crate::rules::{Mode, Replay};

fn log(retention: Retention) -> Log {
    Log::new(&ChannelName::private("a"), Position { epoch: Epoch::new(1), offset: 0 }, retention)
}

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch: Epoch::new(epoch), offset }
}

/// The place of a reader that comes back, when it is recovered.
fn find(log: &Log, position: Position) -> Option<Place> {
    log.lock().find(position, log.top()).ok()
}

fn extend(log: &Log, position: Position) -> Held {
    log.extend(position, &Content::new(b"1", None), Moment::default()).after
}

/// A log of so many publications, each with a key of its own.
fn filled(mode: Mode, count: u64) -> Log {
    let log = log(Retention { mode, ..Retention::default() });
    for number in 1..=count {
        log.append(&Content::new(b"1", Some(&number.to_string())), Moment::default())
            .0
            .expect("there is room");
    }
    log
}

/// What a reader is told: the gap, and the offsets of the updates.
fn told(log: &Log, cursor: Place) -> (Option<(u64, u64, GapReason)>, Vec<u64>) {
    let mut out = Vec::new();
    let read = log.read(cursor, End::Top, usize::MAX, &mut out);
    let updates: serde_json::Value = serde_json::from_slice(&[b"[", &out[..], b"]"].concat()).unwrap();
    let offsets: Vec<_> =
        updates.as_array().unwrap().iter().map(|update| update["offset"].as_u64().unwrap()).collect();
    assert_eq!((read.to, read.count as usize), (log.top(), offsets.len()));
    (read.gap.map(|gap| (gap.from, gap.to, gap.reason)), offsets)
}

#[test]
fn room_that_was_needed_once_is_given_back() {
    let retention = Retention { mode: Mode::Latest, ..Retention::default() };
    let log = log(retention);
    let second = |number| Moment::default() + Duration::from_secs(number);
    for number in 0..1000 {
        log.append(&Content::new(b"1", Some(&number.to_string())), second(number / 500))
            .0
            .expect("there is room");
    }
    log.append(&Content::new(b"1", Some("last")), second(200)).0.expect("there is room");
    let room = |now| {
        log.trim(now);
        log.lock().kept.room()
    };
    for (now, least) in [(0, 20_000), (301, 50_000)] {
        let kept = room(second(now));
        assert!(kept >= least, "half of them are more than a quarter: {kept}");
    }
    let little = room(second(302));
    assert!((1..1000).contains(&little), "{little}");
    assert_eq!(room(second(600)), 0);
}

#[test]
fn a_copy_takes_what_follows_and_makes_a_gap_of_what_does_not() {
    let log = log(Retention::default());
    extend(&log, at(1, 1));
    extend(&log, at(1, 2));
    let second = log.top();
    extend(&log, at(1, 5));
    assert_eq!(told(&log, second), (Some((2, 4, GapReason::Overrun)), vec![5]));
    assert_eq!((find(&log, at(1, 3)), find(&log, at(1, 4)).is_some()), (None, true));
    let held = extend(&log, at(1, 5));
    assert_eq!((extend(&log, at(1, 4)), extend(&log, at(2, 6))), (held, held), "old, or of another epoch");
    assert_eq!(log.position(), at(1, 5));
}

#[test]
fn a_copy_that_begins_late_does_not_reach_back() {
    let log = Log::new(&ChannelName::private("a"), at(1, 100), Retention::default());
    assert_eq!((log.position(), find(&log, at(1, 99))), (at(1, 100), None));
    extend(&log, at(1, 101));
    assert_eq!(told(&log, find(&log, at(1, 100)).unwrap()), (None, vec![101]));
}

#[test]
fn a_change_of_the_epoch_is_no_loss_for_a_reader_of_the_common_part() {
    let log = filled(Mode::All, 10);
    let reader = find(&log, at(1, 6)).unwrap();
    log.begin(at(2, 8));
    extend(&log, at(2, 9));
    assert_eq!(log.position_of(reader), at(1, 6), "it does not know yet");
    assert_eq!(told(&log, reader), (Some((6, 6, GapReason::Turn)), vec![7, 8, 9]));
    assert_eq!(told(&log, find(&log, at(1, 8)).unwrap()), (None, vec![9]), "a position that is still good");
}

#[test]
fn a_reader_that_had_what_is_gone_is_told_so() {
    let log = filled(Mode::All, 10);
    let reader = log.top();
    log.begin(at(2, 8));
    assert_eq!(told(&log, reader), (Some((10, 8, GapReason::Reset)), vec![]));
    for offset in 9..=12 {
        extend(&log, at(2, offset));
    }
    assert_eq!(told(&log, reader), (Some((10, 8, GapReason::Reset)), vec![9, 10, 11, 12]));
    assert_eq!((find(&log, at(1, 9)), find(&log, at(2, 9)).is_some()), (None, true));
}

#[test]
fn a_reader_that_slept_through_two_changes_keeps_what_both_kept() {
    let log = filled(Mode::All, 10);
    let (third, sixth) = (find(&log, at(1, 3)).unwrap(), find(&log, at(1, 6)).unwrap());
    log.begin(at(2, 5));
    for offset in 6..=9 {
        extend(&log, at(2, offset));
    }
    log.begin(at(3, 8));
    assert_eq!(told(&log, third), (Some((3, 3, GapReason::Turn)), vec![4, 5, 6, 7, 8]));
    assert_eq!(told(&log, sixth), (Some((6, 5, GapReason::Reset)), vec![6, 7, 8]));
}

#[test]
fn an_end_of_an_earlier_epoch_is_before_everything_of_the_next_one() {
    let log = filled(Mode::All, 10);
    let (reader, end) = (find(&log, at(1, 6)).unwrap(), log.top());
    log.begin(at(2, 8));
    let read = log.read(reader, End::At(end), usize::MAX, &mut Vec::new());
    assert_eq!((read.gap.map(|gap| gap.reason), read.count), (Some(GapReason::Turn), 0));
    assert!(read.to > end && read.to < log.top());
}

#[test]
fn the_newest_values_can_not_be_told_when_the_tail_that_replaced_them_is_gone() {
    let log = filled(Mode::Latest, 10);
    let reader = find(&log, at(1, 6)).unwrap();
    log.begin(at(2, 8));
    assert_eq!(told(&log, reader), (Some((6, 8, GapReason::Reset)), vec![]));
    let log = filled(Mode::Latest, 10);
    let reader = find(&log, at(1, 6)).unwrap();
    log.begin(at(2, 10));
    assert_eq!(
        told(&log, reader),
        (Some((6, 6, GapReason::Turn)), vec![7, 8, 9, 10]),
        "nothing was replaced"
    );
}

#[test]
fn every_change_notifies_once() {
    struct Counter(std::sync::atomic::AtomicU32);
    impl Notify for Counter {
        fn notify(&self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let (log, counter) = (filled(Mode::All, 1), Arc::new(Counter(0.into())));
    let (watcher, _) = log.watch(Arc::clone(&counter) as _);
    for number in 1..=4 {
        if number % 2 == 1 {
            log.begin(at(number.into(), log.top().offset()));
        } else {
            extend(&log, Position { offset: log.top().offset() + 1, ..log.position() });
        }
        log.append(&Content::new(b"1", None), Moment::default()).0.expect("there is room");
        assert_eq!(counter.0.load(std::sync::atomic::Ordering::Relaxed), number);
        assert_eq!(log.arm(&watcher), log.top());
    }
}

#[test]
fn who_was_promised_a_log_that_is_gone_is_told_and_gets_all_of_the_new_one() {
    let log = filled(Mode::All, 2);
    let begin = |position| log.lock().begin(Start::Promised(position), Replay::Head, log.top());
    assert_eq!(begin(at(1, 1)), (log.top().with_offset(1), None));
    assert_eq!(begin(at(2, 1)), (log.top().with_offset(0), Some(Err(Unrecovered::Epoch))));
}
