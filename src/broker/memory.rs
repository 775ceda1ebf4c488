//! The broker of a single process: logs in memory, gone with the process.
//!
//! A new process, and a channel that was dropped and made again, get new epochs, so a reader of the old log is told
//! that it could not be recovered.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::broker::Broker;
use crate::broker::log::{Alarm, Log, Watcher};
use crate::channel::ChannelName;
use crate::config::Rules;
use crate::moment::Moment;
use crate::position::{Epoch, Position};

/// Logs in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    rules: Arc<Rules>,
    /// Appends hold it for reading, so a log can't be dropped between being found and being written.
    logs: RwLock<HashMap<ChannelName, Arc<Log>>>,
    published: AtomicU64,
    /// Random keys of this process and a count make epochs that do not repeat (SipHash of a counter).
    epochs: RandomState,
    opened: AtomicU64,
}

impl MemoryBroker {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            logs: RwLock::default(),
            published: AtomicU64::new(0),
            epochs: RandomState::new(),
            opened: AtomicU64::new(0),
        }
    }

    fn open(&self, logs: &mut HashMap<ChannelName, Arc<Log>>, channel: &ChannelName) -> Arc<Log> {
        let make = || {
            let epoch = Epoch::new(self.epochs.hash_one(self.opened.fetch_add(1, Ordering::Relaxed)));
            Arc::new(Log::new(channel.as_str(), epoch, self.rules.retention(channel)))
        };
        Arc::clone(logs.entry(channel.clone()).or_insert_with(make))
    }

    fn logs(&self) -> RwLockReadGuard<'_, HashMap<ChannelName, Arc<Log>>> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn logs_mut(&self) -> RwLockWriteGuard<'_, HashMap<ChannelName, Arc<Log>>> {
        self.logs.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn append(&self, channel: &ChannelName, data: &[u8], key: Option<&str>, now: Moment) -> Position {
        self.published.fetch_add(1, Ordering::Relaxed);
        let logs = self.logs();
        if let Some(log) = logs.get(channel) {
            return log.append(data, key, now);
        }
        drop(logs);
        let mut logs = self.logs_mut();
        self.open(&mut logs, channel).append(data, key, now)
    }

    fn position(&self, channel: &ChannelName) -> Position {
        if let Some(log) = self.logs().get(channel) {
            return log.position();
        }
        self.open(&mut self.logs_mut(), channel).position()
    }

    fn watch(&self, channel: &ChannelName, alarm: Arc<dyn Alarm>) -> (Arc<Log>, Arc<Watcher>) {
        let log = self.open(&mut self.logs_mut(), channel);
        let watcher = log.watch(alarm);
        (log, watcher)
    }

    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>) {
        let mut logs = self.logs_mut();
        if logs.get(channel).is_some_and(|log| log.unwatch(watcher)) {
            logs.remove(channel);
        }
    }

    fn tidy(&self, now: Moment) {
        self.logs_mut().retain(|_, log| !log.tidy(now));
    }

    fn totals(&self) -> (u64, u64) {
        (self.logs().len() as u64, self.published.load(Ordering::Relaxed))
    }
}
