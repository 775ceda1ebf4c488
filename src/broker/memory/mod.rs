//! The broker of a single process: logs in memory, gone with the process.
//!
//! A new process, and a channel that was dropped and made again, get new epochs, so a reader of the old log is told
//! that it could not be recovered.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::broker::interface::Broker;
use crate::broker::log::Log;
use crate::broker::receipt::Receipt;
use crate::broker::watcher::{Notify, Watcher};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::rules::Rules;
use crate::stats::Totals;
use account::MemoryAccount;
use channel::{AfterVisit, Channel};
use queue::{Visit, VisitQueue};

mod account;
mod channel;
mod queue;

#[cfg(test)]
mod tests;

/// Channels in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    rules: Arc<Rules>,
    parts: [Part; PARTS],
    /// Channels that time can change. Locked to put one in or take one out; no other lock is taken meanwhile.
    queue: Mutex<VisitQueue>,
    account: Arc<MemoryAccount>,
    /// Random keys of this process. With a count they make epochs that do not repeat (SipHash of a counter), and nobody can
    /// choose names that are all in one part.
    random: RandomState,
    opened: AtomicU64,
}

/// Some of the channels. Locked for reading while one is used, so that it can't be dropped between being found and being
/// written; locked for writing to make or drop one.
#[derive(Debug, Default)]
struct Part(RwLock<Names>);

type Names = HashMap<ChannelName, Arc<Channel>>;

impl MemoryBroker {
    /// A broker whose logs keep at most `max_bytes` together.
    pub fn new(rules: Arc<Rules>, max_bytes: usize) -> Self {
        Self {
            rules,
            parts: std::array::from_fn(|_| Part::default()),
            queue: Mutex::default(),
            account: Arc::new(MemoryAccount::new(max_bytes)),
            random: RandomState::new(),
            opened: AtomicU64::new(0),
        }
    }

    /// Does something with a channel, and makes the channel first if there is none.
    fn with<T>(&self, name: &ChannelName, act: impl FnOnce(&Arc<Channel>) -> T) -> T {
        let part = self.part(name);
        let names = part.read();
        if let Some(channel) = names.get(name) {
            return act(channel);
        }
        drop(names);
        let make = || {
            let epoch = Epoch::new(self.random.hash_one(self.opened.fetch_add(1, Ordering::Relaxed)));
            Arc::new(Channel::new(name, epoch, self.rules.retention(name), &self.account))
        };
        act(part.write().entry(name.clone()).or_insert_with(make))
    }

    /// Evicts until all logs together fit, from those first that were used least recently. The one that is in use now keeps
    /// its newest publication.
    fn make_room(&self, in_use: Epoch) {
        let mut chances = CHANCES;
        while let Some(excess) = self.account.excess() {
            let Some(visit) = self.queue().take_least_used() else { return };
            let (last_use, own) = (visit.channel.last_use(), visit.channel.log().epoch() == in_use);
            if last_use > visit.last_use && (own || chances > 0) {
                chances -= usize::from(!own);
                self.queue().insert(Visit { last_use, ..visit });
                continue;
            }
            let next = visit.channel.evict(excess, own);
            self.end_visit(visit.channel, next);
            if own {
                return;
            }
        }
    }

    fn end_visit(&self, channel: Arc<Channel>, next: AfterVisit) {
        match next {
            AfterVisit::Again(due) => self.enqueue(channel, due),
            AfterVisit::Rest => {}
            AfterVisit::Drop => self.drop_idle(channel),
        }
    }

    fn enqueue(&self, channel: Arc<Channel>, due: Moment) {
        let last_use = channel.last_use();
        self.queue().insert(Visit { channel, due, last_use });
    }

    /// Drops a channel that is idle, unless it was used a moment ago.
    fn drop_idle(&self, channel: Arc<Channel>) {
        let mut names = self.part(channel.name()).write();
        if !channel.is_idle() {
            drop(names);
            return self.enqueue(channel, Moment::default());
        }
        names.remove(channel.name());
        if names.len() < names.capacity() / 8 {
            let twice = names.len() * 2;
            names.shrink_to(twice);
        }
        // Before the channel, whose memory is given back without the lock.
        drop(names);
    }

    fn part(&self, name: &ChannelName) -> &Part {
        &self.parts[self.random.hash_one(name) as usize % PARTS]
    }

    fn queue(&self) -> MutexGuard<'_, VisitQueue> {
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
    fn append(&self, channel: &ChannelName, data: &[u8], key: Option<&str>, now: Moment) -> Receipt {
        let position = self.with(channel, |channel| {
            let (position, enqueue) = channel.append(data, key, now);
            if enqueue {
                self.enqueue(Arc::clone(channel), now + channel.log().retention().age);
            }
            position
        });
        self.make_room(position.epoch);
        Receipt::confirmed(position)
    }

    fn position(&self, channel: &ChannelName) -> Position {
        let position = self.with(channel, |channel| {
            if channel.touch() {
                self.enqueue(Arc::clone(channel), Moment::default());
            }
            channel.log().position()
        });
        self.make_room(position.epoch);
        position
    }

    fn watch(&self, channel: &ChannelName, notify: Arc<dyn Notify>) -> (Arc<Log>, Arc<Watcher>) {
        self.with(channel, |channel| (Arc::clone(channel.log()), channel.watch(notify)))
    }

    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>) {
        let epoch = self.with(channel, |channel| {
            if channel.unwatch(watcher) {
                self.enqueue(Arc::clone(channel), Moment::default());
            }
            channel.log().epoch()
        });
        self.make_room(epoch);
    }

    fn tidy(&self, now: Moment) -> bool {
        for _ in 0..VISITS {
            let Some(channel) = self.queue().take_due(now) else { return false };
            let next = channel.visit(now);
            self.end_visit(channel, next);
        }
        true
    }

    fn totals(&self) -> Totals {
        let channels = self.parts.iter().map(|part| part.read().len() as u64).sum();
        Totals { channels, published: self.account.published(), trimmed: self.account.evicted() }
    }
}

/// Parts of the channels. When the map of one grows or shrinks, its appends wait: 1 ms with a million channels, and not 64.
const PARTS: usize = 64;

/// Channels visited in one step. A visit that drops one costs about a microsecond.
const VISITS: usize = 256;

/// Channels that one append may find used since they were put into the queue, and put in anew, before one is evicted although
/// it was used: 0.1 ms. Only the first look at very many channels takes more, and each append goes on with it.
const CHANCES: usize = 256;
