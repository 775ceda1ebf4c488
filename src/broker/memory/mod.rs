//! The broker of a single process: logs in memory, gone with the process.
//!
//! A new process, and a channel that was dropped and made again, get new epochs, so a reader of the old log is told
//! that it could not be recovered.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::history::{Found, History, Most, StatePart};
use crate::broker::interface::Broker;
use crate::broker::log::Log;
use crate::broker::receipt::Receipt;
use crate::broker::room::{Act, RoomFor};
use crate::broker::sight::{Sight, Surveyed};
use crate::broker::watcher::{Notify, Watcher};
use crate::change::StateRefusal;
use crate::channel::{ChannelName, Name};
use crate::moment::Moment;
use crate::position::{Epoch, Position};
use crate::publication::Content;
use crate::rules::Rules;
use crate::stats::Totals;
use account::{MemoryAccount, Of};
use channel::{AfterVisit, Channel};
use names::Names;
use queue::{Visit, VisitQueue};

mod account;
mod channel;
mod names;
mod queue;

#[cfg(test)]
mod tests;

/// Channels in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    rules: Arc<Rules>,
    names: Names,
    /// Channels that time can change. Locked to put one in or take one out; no other lock is taken meanwhile.
    queue: Mutex<VisitQueue>,
    account: Arc<MemoryAccount>,
    /// Random keys of this process. With a count they make epochs that do not repeat (SipHash of a counter).
    random: RandomState,
    opened: AtomicU64,
    /// How long at least a channel outlives its last publication, its last reader and its last use; at most twice as long, since it
    /// is counted from the visit that finds it idle.
    linger: Duration,
    stray: Stray,
}

/// What is done about a publication that made a log whose name no rule matches.
struct Stray(Box<OnStray>);

type OnStray = dyn Fn(&ChannelName, Moment) + Send + Sync;

impl fmt::Debug for Stray {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Stray")
    }
}

impl MemoryBroker {
    /// A broker whose logs keep at most `max_bytes` together, its states a quarter of that.
    pub fn new(rules: Arc<Rules>, max_bytes: usize) -> Self {
        Self {
            rules,
            names: Names::new(),
            queue: Mutex::default(),
            account: Arc::new(MemoryAccount::new(max_bytes, max_bytes / 4)),
            random: RandomState::new(),
            opened: AtomicU64::new(0),
            linger: LINGER,
            stray: Stray(Box::new(|_, _| {})),
        }
    }

    /// Calls this for each log that is made by a publication and whose name no rule matches.
    #[must_use]
    pub fn on_stray(mut self, act: impl Fn(&ChannelName, Moment) + Send + Sync + 'static) -> Self {
        self.stray = Stray(Box::new(act));
        self
    }

    /// Lets all states together keep so much. For a broker that is new.
    #[must_use]
    pub fn with_states(mut self, max_bytes: usize, states: usize) -> Self {
        self.account = Arc::new(MemoryAccount::new(max_bytes, states));
        self
    }

    /// Keeps a log without readers for at least this long: a session may be away for it.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = self.linger.max(linger);
        self
    }

    /// Does something with a channel, and makes the channel first if there is none.
    fn with<T>(&self, name: &ChannelName, act: impl FnOnce(&Arc<Channel>) -> T) -> T {
        self.with_or(name.as_name(), |_| {}, act)
    }

    /// The same. When there was none, something else is done first.
    fn with_or<T>(
        &self,
        name: Name<'_>,
        made: impl FnOnce(&ChannelName),
        act: impl FnOnce(&Arc<Channel>) -> T,
    ) -> T {
        let make = || {
            let name = &name.to_channel();
            made(name);
            let epoch = Epoch::new(self.random.hash_one(self.opened.fetch_add(1, Ordering::Relaxed)));
            Channel::new(name, epoch, self.rules.retention(name), &self.account)
        };
        self.names.with(name, make, act)
    }

    /// Changes a whole state, and makes room for that.
    fn change_whole(
        &self,
        name: &ChannelName,
        now: Moment,
        change: impl FnOnce(&Channel) -> Result<Option<Moment>, StateRefusal>,
    ) -> Result<(), StateRefusal> {
        let changed = self.with(name, |channel| {
            if let Some(due) = change(channel)? {
                self.enqueue(Arc::clone(channel), due);
            }
            Ok(channel.log().epoch())
        });
        self.make_room(changed?, now);
        Ok(())
    }

    /// Does something with a channel, if there is one.
    fn with_existing<T>(&self, name: &ChannelName, act: impl FnOnce(&Arc<Channel>) -> T) -> Option<T> {
        self.names.with_existing(name.as_name(), act)
    }

    /// Evicts until all logs together fit, and those of clients that are away together.
    #[inline]
    fn make_room(&self, in_use: Epoch, now: Moment) {
        for of in [Of::Away, Of::All] {
            // Nearly always there is room.
            if self.account.excess(of).is_some() {
                self.make_room_of(of, in_use, now);
            }
        }
    }

    /// Evicts from those logs first that were used least recently. What readers that keep up were not offered goes last. The log that is
    /// in use now keeps its newest publication.
    #[cold]
    fn make_room_of(&self, of: Of, in_use: Epoch, now: Moment) {
        let mut chances = CHANCES;
        let (mut spared, mut visited) = (Vec::new(), None);
        while let Some(excess) = self.account.excess(of) {
            let Some(visit) = self.queue().take_least_used(of) else { break };
            let (rank, own) = (visit.channel.rank(), visit.channel.log().epoch() == in_use);
            let is_meant = of == Of::All || rank.is_some_and(|rank| rank.is_away);
            if rank != visit.rank && (own || chances > 0 || !is_meant) {
                chances -= usize::from(is_meant && !own);
                self.queue().insert(Visit { rank, ..visit });
                continue;
            }
            let spare = (spared.len() < MOST_SPARED).then_some(now);
            match visit.channel.evict(excess, own, spare) {
                // Not again in this loop.
                Some(next) if own => visited = Some((visit.channel, next)),
                Some(next) => self.end_visit(visit.channel, next),
                None => spared.push((visit.channel, own)),
            }
        }
        if let Some((channel, next)) = visited {
            self.end_visit(channel, next);
        }
        for (channel, own) in spared {
            let excess = self.account.excess(of);
            match excess.and_then(|excess| channel.evict(excess, own, None)) {
                Some(next) => self.end_visit(channel, next),
                None => self.enqueue(channel, Moment::default()),
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
        let rank = channel.rank();
        self.queue().insert(Visit { channel, due, rank });
    }

    /// Drops a channel that is idle, unless it was used a moment ago.
    fn drop_idle(&self, channel: Arc<Channel>) {
        let mut is_idle = true;
        let dropped = self.names.take(channel.name(), |named| {
            is_idle = channel.is_idle();
            // Another one may have its name: it was forgotten during the visit.
            is_idle && Arc::ptr_eq(named, &channel)
        });
        if dropped.is_none() && !is_idle {
            self.enqueue(channel, Moment::default());
        }
    }

    fn queue(&self) -> MutexGuard<'_, VisitQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn append(&self, channel: Name<'_>, content: Content<'_>, now: Moment) -> Receipt {
        let made = |channel: &ChannelName| {
            if !self.rules.fits(channel) {
                (self.stray.0)(channel, now);
            }
        };
        let appended = self.with_or(channel, made, |channel| {
            let (position, due) = channel.append(&content, now)?;
            if let Some(due) = due {
                self.enqueue(Arc::clone(channel), due);
            }
            Ok(position)
        });
        match appended {
            Ok(position) => {
                self.make_room(position.epoch, now);
                Receipt::confirmed(position)
            }
            Err(refusal) => Receipt::refused(refusal),
        }
    }

    fn append_all(
        &self,
        channel: &ChannelName,
        contents: &[Content<'_>],
        now: Moment,
    ) -> Result<(), StateRefusal> {
        self.change_whole(channel, now, |channel| channel.append_all(contents, now))
    }

    fn reset_state(&self, channel: &ChannelName, only: Content<'_>, now: Moment) {
        let _ = self.change_whole(channel, now, |channel| Ok(channel.reset(only, now)));
    }

    fn promise(&self, channel: &ChannelName, now: Moment) -> Position {
        let position = self.with(channel, |channel| {
            if channel.touch() {
                self.enqueue(Arc::clone(channel), Moment::default());
            }
            channel.log().promise(now)
        });
        self.make_room(position.epoch, now);
        position
    }

    fn watch(&self, channel: &ChannelName, notify: Arc<dyn Notify>) -> (Arc<Log>, Arc<Watcher>) {
        self.with(channel, |channel| (Arc::clone(channel.log()), channel.watch(notify)))
    }

    fn trim(&self, channel: &ChannelName, now: Moment) {
        self.with_existing(channel, |channel| channel.trim(now));
    }

    fn when_room(&self, channel: &ChannelName, who: RoomFor, act: Act) -> bool {
        let log = self.with_existing(channel, |channel| Arc::clone(channel.log()));
        log.is_none_or(|log| log.when_room(who, act))
    }

    fn history(&self, channel: &ChannelName, after: Option<Position>, most: Most) -> History {
        let log = self.with_existing(channel, |channel| Arc::clone(channel.read()));
        let gone = History { gap: after.is_some(), ..History::default() };
        log.map_or(gone, |log| log.history(after, most))
    }

    fn entry(&self, channel: Name<'_>, key: &str, base: Option<Position>) -> Option<Found> {
        self.names.with_existing(channel, |channel| channel.read().find(key, base))
    }

    fn state_after(&self, channel: &ChannelName, offset: u64, most: Most) -> Option<StatePart> {
        let log = self.with_existing(channel, |channel| Arc::clone(channel.read()))?;
        Some(log.state_after(offset, most))
    }

    fn readers(&self, channel: &ChannelName) -> u64 {
        self.with_existing(channel, |channel| channel.log().readers()).unwrap_or(0)
    }

    fn is_over(&self, channel: &ChannelName, position: Position) -> bool {
        let is_over =
            |channel: &Arc<Channel>| channel.log().is_finished() && channel.log().position() == position;
        self.with_existing(channel, is_over).unwrap_or(false)
    }

    fn finish(&self, channel: &ChannelName) {
        self.with_existing(channel, |channel| channel.log().finish());
    }

    fn forget(&self, channel: &ChannelName, now: Moment) {
        let forgotten = self.names.take(channel, |found| {
            let is_watched = found.log().held().is_watched;
            if is_watched {
                found.empty(now);
            }
            !is_watched
        });
        if let Some(channel) = forgotten {
            self.queue().remove(&channel);
        }
    }

    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>) {
        let epoch = self.with_existing(channel, |channel| {
            if channel.unwatch(watcher) {
                self.enqueue(Arc::clone(channel), Moment::default());
            }
            channel.log().epoch()
        });
        if let Some(epoch) = epoch {
            // At this moment all promises that were ever made count, so that more is spared than has to be.
            self.make_room(epoch, Moment::default());
        }
    }

    fn tidy(&self, now: Moment) -> bool {
        for _ in 0..VISITS {
            let Some(channel) = self.queue().take_due(now) else { return false };
            let next = channel.visit(now, self.linger);
            self.end_visit(channel, next);
        }
        true
    }

    fn totals(&self) -> Totals {
        Totals {
            channels: self.names.len() as u64,
            published: self.account.published(),
            trimmed: self.account.evicted(),
            log_bytes: self.account.cost().all as u64,
        }
    }

    fn survey(&self, from: Surveyed, see: &mut dyn FnMut(Sight<'_>)) -> Option<Surveyed> {
        self.names.survey(from, |channel| see(channel.sight()))
    }
}

/// Clients that reconnect come back within seconds, rarely later than this, and find their positions still good.
const LINGER: Duration = Duration::from_secs(60);

/// Channels visited in one step. A visit that drops one costs about a microsecond.
const VISITS: usize = 256;

/// Channels that one append may find used since they were put into the queue, and put in anew, before one is evicted although
/// it was used: 0.1 ms. Only the first look at very many channels takes more, and each append goes on with it.
const CHANCES: usize = 256;

/// Channels that one append may find beyond their bounds and spare, before it takes from them, too.
const MOST_SPARED: usize = 16;
