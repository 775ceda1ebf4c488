//! The broker of a single process: logs in memory, gone with the process.
//!
//! A new process, and a channel that was dropped and made again, get new epochs, so a reader of the old log is told
//! that it could not be recovered.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::broker::Broker;
use crate::broker::ledger::Ledger;
use crate::broker::log::{Alarm, Log, Next, Watcher};
use crate::broker::queue::{Entry, Queue};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::rules::Rules;
use crate::stats::Totals;

/// Logs in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    rules: Arc<Rules>,
    parts: [Part; PARTS],
    /// Logs that time can change. Locked for a step into it or out of it; no other lock is taken meanwhile.
    queue: Mutex<Queue>,
    ledger: Arc<Ledger>,
    /// Random keys of this process. With a count they make epochs that do not repeat (SipHash of a counter), and nobody can
    /// choose names that all lie in one part.
    random: RandomState,
    opened: AtomicU64,
}

/// Some of the logs. Who uses one holds the lock for reading, so a log can't be dropped between being found and being
/// written; who makes or drops one, for writing.
#[derive(Debug, Default)]
struct Part(RwLock<Names>);

type Names = HashMap<ChannelName, Arc<Log>>;

impl MemoryBroker {
    /// A broker whose logs keep at most `max_bytes` together.
    pub fn new(rules: Arc<Rules>, max_bytes: usize) -> Self {
        Self {
            rules,
            parts: std::array::from_fn(|_| Part::default()),
            queue: Mutex::default(),
            ledger: Arc::new(Ledger::new(max_bytes)),
            random: RandomState::new(),
            opened: AtomicU64::new(0),
        }
    }

    /// Does something with the log of a channel, which is made if need be.
    fn with<T>(&self, channel: &ChannelName, act: impl FnOnce(&Arc<Log>) -> T) -> T {
        let part = self.part(channel);
        let names = part.read();
        if let Some(log) = names.get(channel) {
            return act(log);
        }
        drop(names);
        let make = || {
            let epoch = Epoch::new(self.random.hash_one(self.opened.fetch_add(1, Ordering::Relaxed)));
            Arc::new(Log::new(channel, epoch, self.rules.retention(channel), Arc::clone(&self.ledger)))
        };
        act(part.write().entry(channel.clone()).or_insert_with(make))
    }

    /// Lets logs give way until all together fit, those first that were used least recently. The one that is in use now
    /// keeps its newest publication.
    fn make_room(&self, in_use: Epoch) {
        let mut chances = CHANCES;
        while let Some(excess) = self.ledger.excess() {
            let Some(entry) = self.queue().take_unused() else { return };
            let (used, own) = (entry.log.used(), entry.log.epoch() == in_use);
            if used > entry.used && (own || chances > 0) {
                chances -= usize::from(!own);
                self.queue().enter(Entry { used, ..entry });
                continue;
            }
            let next = entry.log.give_way(excess, own, entry.due);
            self.settle(entry.log, next);
            if own {
                return;
            }
        }
    }

    fn settle(&self, log: Arc<Log>, next: Next) {
        match next {
            Next::Again(due) => {
                let used = log.used();
                self.queue().enter(Entry { log, due, used });
            }
            Next::Rest => {}
            Next::Drop => self.drop_idle(log),
        }
    }

    /// Drops a log that is idle, unless it was used a moment ago.
    fn drop_idle(&self, log: Arc<Log>) {
        let mut names = self.part(log.name()).write();
        if !log.is_idle() {
            drop(names);
            return self.settle(log, Next::Again(Moment::default()));
        }
        names.remove(log.name());
        if names.len() < names.capacity() / 8 {
            let twice = names.len() * 2;
            names.shrink_to(twice);
        }
        // Before the log, whose memory is given back without the lock.
        drop(names);
    }

    fn part(&self, channel: &ChannelName) -> &Part {
        &self.parts[self.random.hash_one(channel) as usize % PARTS]
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn append(&self, channel: &ChannelName, data: &[u8], key: Option<&str>, now: Moment) -> Position {
        let position = self.with(channel, |log| {
            let (position, enter) = log.append(data, key, now);
            if enter {
                self.settle(Arc::clone(log), Next::Again(now + log.retention().age));
            }
            position
        });
        self.make_room(position.epoch);
        position
    }

    fn position(&self, channel: &ChannelName) -> Position {
        let position = self.with(channel, |log| {
            if log.touch() {
                self.settle(Arc::clone(log), Next::Again(Moment::default()));
            }
            log.position()
        });
        self.make_room(position.epoch);
        position
    }

    fn watch(&self, channel: &ChannelName, alarm: Arc<dyn Alarm>) -> (Arc<Log>, Arc<Watcher>) {
        self.with(channel, |log| (Arc::clone(log), log.watch(alarm)))
    }

    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>) {
        let epoch = self.with(channel, |log| {
            if log.unwatch(watcher) {
                self.settle(Arc::clone(log), Next::Again(Moment::default()));
            }
            log.epoch()
        });
        self.make_room(epoch);
    }

    fn tidy(&self, now: Moment) -> bool {
        for _ in 0..VISITS {
            let Some(log) = self.queue().take_due(now) else { return false };
            let next = log.tidy(now);
            self.settle(log, next);
        }
        true
    }

    fn totals(&self) -> Totals {
        let channels = self.parts.iter().map(|part| part.read().len() as u64).sum();
        Totals { channels, published: self.ledger.published(), trimmed: self.ledger.trimmed() }
    }
}

/// Parts of the logs. When the map of one grows or shrinks, its appends wait: 1 ms with a million channels, and not 64.
const PARTS: usize = 64;

/// Logs visited in one step. A visit that drops a log costs about a microsecond.
const VISITS: usize = 256;

/// Logs that one append may find used since they were entered, and enter anew, before one gives way although it was used:
/// 0.1 ms. Only the first look at very many logs takes more, and each append goes on with it.
const CHANCES: usize = 256;

#[cfg(test)]
mod tests;
