//! What works without a lock, in every order of its steps: loom runs each model once per order.
//!
//! A source file is included with loom's atomics in place of its own (`sync`). To model another one, include it in the
//! same way and let it import its atomics from `crate::broker::sync`.

pub mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

#[path = "../../src/broker/place.rs"]
mod place;
#[path = "../../src/broker/watcher.rs"]
#[expect(dead_code, reason = "how many readers a hub has is not a question of order")]
mod watcher;

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use place::Place;
use sync::{AtomicU64, Ordering};
use watcher::{Notify, Top, Watcher};

/// The part of a log that its readers see without a lock. Appending holds a lock, as in the real one.
struct Log {
    top: Top,
    watchers: Mutex<Vec<Arc<Watcher>>>,
}

impl Log {
    fn append(&self) {
        let watchers = self.watchers.lock().unwrap();
        let top = self.top.get();
        self.top.advance(top.with_offset(top.offset() + 1), &watchers);
    }
}

/// Counts the notifications of a reader.
struct Inbox(AtomicU64);

impl Notify for Inbox {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A reader as the hub is one (`begin_feed`): while it is active it looks at the log by itself, and it goes to rest armed.
struct Reader {
    watcher: Arc<Watcher>,
    inbox: Arc<Inbox>,
    /// Notifications that it has looked at.
    taken: u64,
    armed: u64,
    seen: Place,
    is_active: bool,
}

impl Reader {
    fn turn(&mut self, log: &Log) {
        self.is_active |= self.is_notified();
        if !self.is_active {
            return;
        }
        let mut top = log.top.get();
        if top == self.seen {
            top = log.top.arm(&self.watcher);
            self.armed += 1;
            self.is_active = top != self.seen;
        }
        assert!(top >= self.seen, "the top only moves on");
        self.seen = top;
    }

    fn is_notified(&mut self) -> bool {
        let taken = std::mem::replace(&mut self.taken, self.inbox.0.load(Ordering::Acquire));
        taken < self.taken
    }
}

/// Publishers that append so many entries each, while every reader has some turns.
fn model(publishers: &'static [u64], readers: usize, turns: usize) {
    let mut builder = loom::model::Builder::new();
    // More switches of the thread at a bad moment than this find nothing more, and take minutes.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let readers: Vec<_> = (0..readers)
            .map(|_| {
                let inbox = Arc::new(Inbox(AtomicU64::new(0)));
                let watcher = Arc::new(Watcher::new(Arc::clone(&inbox) as _));
                Reader { watcher, inbox, taken: 0, armed: 1, seen: Place::default(), is_active: false }
            })
            .collect();
        let watchers = readers.iter().map(|reader| Arc::clone(&reader.watcher)).collect();
        let log = Arc::new(Log { top: Top::new(Place::default()), watchers: Mutex::new(watchers) });
        log.append();
        let publishing: Vec<_> = publishers
            .iter()
            .map(|&count| {
                let log = Arc::clone(&log);
                thread::spawn(move || (0..count).for_each(|_| log.append()))
            })
            .collect();
        let reading: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    (0..turns).for_each(|_| reader.turn(&log));
                    reader
                })
            })
            .collect();
        publishing.into_iter().for_each(|thread| thread.join().unwrap());
        for mut reader in reading.into_iter().map(|thread| thread.join().unwrap()) {
            let will_look = reader.is_active || reader.is_notified();
            assert!(reader.taken <= reader.armed, "it is notified once, until it is armed again");
            assert!(will_look || reader.seen == log.top.get(), "a publication waits for the next one");
        }
    });
}

#[test]
fn no_publication_waits_for_the_next_one() {
    model(&[3], 1, 5);
}

#[test]
fn two_publishers_notify_no_less_than_one() {
    model(&[1, 1], 1, 3);
}

#[test]
fn each_reader_is_notified() {
    model(&[1], 2, 2);
}

/// A log that drops at every append what its watcher was offered.
struct Impatient {
    watcher: Watcher,
    /// The top, and up to where it has dropped.
    lock: Mutex<(u64, u64)>,
}

impl Impatient {
    fn append(&self) {
        let mut state = self.lock.lock().unwrap();
        state.0 += 1;
        state.1 = state.1.max(self.watcher.is_offered().offset().min(state.0 - 1));
    }

    /// Seats a reader where the log still reaches back to, and returns its offset.
    fn seat(&self) -> u64 {
        let state = self.lock.lock().unwrap();
        self.watcher.hold(Place::default().with_offset(state.1));
        state.1
    }

    fn dropped(&self) -> u64 {
        self.lock.lock().unwrap().1
    }
}

#[test]
fn what_a_reader_was_not_offered_is_kept_from_the_moment_it_is_seated() {
    loom::model(|| {
        let watcher = Watcher::new(Arc::new(Inbox(AtomicU64::new(0))) as _);
        let log = Arc::new(Impatient { watcher, lock: Mutex::new((0, 0)) });
        let appending = Arc::clone(&log);
        let publisher = thread::spawn(move || (0..3).for_each(|_| appending.append()));
        // The hub, which is one thread.
        for _ in 0..2 {
            let offset = log.seat();
            assert_eq!(log.dropped(), offset, "it is not offered yet");
            let top = Place::default().with_offset(log.lock.lock().unwrap().0);
            log.watcher.offered(top, top);
            assert!(log.watcher.slowest() == top && log.dropped() <= top.offset());
        }
        publisher.join().unwrap();
    });
}
