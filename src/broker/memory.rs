//! The broker of a single process: logs in memory, gone with the process.
//!
//! A new process, and a channel that was dropped and made again, get new epochs, so a reader of the old log is told
//! that it could not be recovered.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::broker::Broker;
use crate::broker::log::{Alarm, Log, Next, Watcher};
use crate::broker::queue::Queue;
use crate::channel::ChannelName;
use crate::config::Rules;
use crate::moment::Moment;
use crate::position::{Epoch, Position};

/// Logs in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    rules: Arc<Rules>,
    parts: [Part; PARTS],
    /// Logs that time can change. Locked for a step into it or out of it; no other lock is taken meanwhile.
    queue: Mutex<Queue>,
    published: AtomicU64,
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
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            parts: std::array::from_fn(|_| Part::default()),
            queue: Mutex::default(),
            published: AtomicU64::new(0),
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
            Arc::new(Log::new(channel, epoch, self.rules.retention(channel)))
        };
        act(part.write().entry(channel.clone()).or_insert_with(make))
    }

    /// Drops a log that has been idle for long enough, unless it was used a moment ago.
    fn drop_idle(&self, log: Arc<Log>) {
        let part = self.part(log.name());
        let mut names = part.write();
        if !log.is_idle() {
            return self.queue().enter(log, Moment::default());
        }
        names.remove(log.name());
        if names.len() < names.capacity() / 8 {
            let twice = names.len() * 2;
            names.shrink_to(twice);
        }
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
        self.published.fetch_add(1, Ordering::Relaxed);
        self.with(channel, |log| {
            let (position, enter) = log.append(data, key, now);
            if enter {
                self.queue().enter(Arc::clone(log), now + log.retention().age);
            }
            position
        })
    }

    fn position(&self, channel: &ChannelName) -> Position {
        self.with(channel, |log| {
            if log.touch() {
                self.queue().enter(Arc::clone(log), Moment::default());
            }
            log.position()
        })
    }

    fn watch(&self, channel: &ChannelName, alarm: Arc<dyn Alarm>) -> (Arc<Log>, Arc<Watcher>) {
        self.with(channel, |log| (Arc::clone(log), log.watch(alarm)))
    }

    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>) {
        self.with(channel, |log| {
            if log.unwatch(watcher) {
                self.queue().enter(Arc::clone(log), Moment::default());
            }
        });
    }

    fn tidy(&self, now: Moment) -> bool {
        for _ in 0..VISITS {
            let Some(log) = self.queue().take_due(now) else { return false };
            match log.tidy(now) {
                Next::Again(due) => self.queue().enter(log, due),
                Next::Rest => {}
                Next::Drop => self.drop_idle(log),
            }
        }
        true
    }

    fn totals(&self) -> (u64, u64) {
        let channels = self.parts.iter().map(|part| part.read().len() as u64).sum();
        (channels, self.published.load(Ordering::Relaxed))
    }
}

/// Parts of the logs. When the map of one grows or shrinks, its appends wait: 1 ms with a million channels, and not 64.
const PARTS: usize = 64;

/// Logs visited in one step. A visit that drops a log costs about a microsecond.
const VISITS: usize = 256;

#[cfg(test)]
mod tests;
