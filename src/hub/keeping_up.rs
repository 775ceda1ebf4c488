//! Which readers keep up, and what their logs keep for them beyond the bounds ([`crate::broker`], "Bursts").
//!
//! Nothing of this is looked at while a log is within its bounds, and nothing in a delivery but where a frame was not enough. A
//! log that is over its bounds says so ([`Log::is_crowded`](crate::broker::Log::is_crowded)). Then the hub looks at the readers
//! of its feed, once for each tick.
//!
//! Nobody is late because the hub was. While it did not run, it offered nothing.

use std::time::Duration;

use slab::Slab;

use crate::broker::{Broker, PATIENCE, Place};
use crate::hub::feed::Feed;
use crate::hub::keys::{FeedKey, ReaderKey};
use crate::hub::outbound::Outbound;
use crate::hub::reader::Reader;
use crate::moment::Moment;

/// What a hub remembers of this.
#[derive(Debug)]
pub(super) struct KeepingUp {
    /// Age at which a publication was offered to every reader that keeps up.
    patience: Duration,
    /// Crowded and finished feeds that are at rest.
    crowded: Vec<FeedKey>,
    /// Readers that are late, or were when this was last looked at.
    late: Vec<ReaderKey>,
    /// When these two are looked at again.
    look: Moment,
    /// When the queue was last served.
    served: Moment,
    /// No reader is found late before this.
    excused_until: Moment,
}

/// What the hub has.
pub(super) struct Readership<'a> {
    pub feeds: &'a mut Slab<Feed>,
    pub readers: &'a mut [Reader],
    pub broker: &'a dyn Broker,
}

impl KeepingUp {
    /// For a hub with this tick: a publication may wait for as long before it is offered to anybody.
    pub fn new(tick: Duration) -> Self {
        let never = Moment::default();
        Self {
            patience: PATIENCE + tick,
            crowded: Vec::new(),
            late: Vec::new(),
            look: never,
            served: never,
            excused_until: never,
        }
    }

    /// When [`KeepingUp::look`] has something to do.
    pub fn due(&self) -> Option<Moment> {
        (!self.crowded.is_empty() || !self.late.is_empty()).then_some(self.look)
    }

    /// Notes that the queue is served now. The readers that wait in it are excused when the hub has let them wait: this process
    /// was suspended, or starved.
    pub fn note_turn(&mut self, has_queue: bool, now: Moment) {
        if has_queue && now.since(self.served) > STALLED {
            self.excused_until = now + PATIENCE;
        }
        self.served = now;
    }

    /// Looks at the crowded and finished feeds that are at rest, and forgives the late readers that have been level for long
    /// enough.
    pub fn look(&mut self, hub: &mut Readership<'_>, now: Moment, out: &mut impl Outbound) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        self.look = now + LOOK_INTERVAL;
        self.late.retain(|&reader| hub.is_still_late(reader, now));
        for key in std::mem::take(&mut self.crowded) {
            if let Some(feed) = hub.feeds.get_mut(key as usize) {
                feed.crowded = false;
            }
            self.tell_offered(key, hub, now);
            let is_crowded = hub.feeds.get(key as usize).is_some_and(|feed| feed.log.is_crowded());
            if hub.end_finished(key, out) || is_crowded {
                self.look_again(key, hub, now);
            }
        }
    }

    /// Puts a feed that comes to rest into the list of those that are looked at.
    pub fn look_again(&mut self, key: FeedKey, hub: &mut Readership<'_>, now: Moment) {
        let Some(feed) = hub.feeds.get_mut(key as usize) else { return };
        if !std::mem::replace(&mut feed.crowded, true) {
            self.begin_to_look(now);
            self.crowded.push(key);
        }
    }

    /// Tells the log of a feed up to where its readers were offered it, so that it drops the rest.
    pub fn tell_offered(&mut self, key: FeedKey, hub: &mut Readership<'_>, now: Moment) {
        let Some(feed) = hub.feeds.get(key as usize).filter(|feed| feed.log.is_crowded()) else { return };
        let overdue = feed.log.older_than(self.patience, now);
        if overdue > Some(feed.marked) {
            self.excused_until = now + PATIENCE;
        }
        let overdue = overdue.filter(|_| now >= self.excused_until).unwrap_or_default();
        let (mut offered, mut slowest) = (Place::MAX, Place::MAX);
        for &reader in &feed.readers {
            let state = &mut hub.readers[reader as usize];
            let Some(cursor) = state.cursors.iter().find(|cursor| cursor.feed == key) else { continue };
            slowest = slowest.min(cursor.place);
            if cursor.place < overdue && now.since(state.judged) > PATIENCE {
                state.judged = now;
                if !std::mem::replace(&mut state.late, true) {
                    self.begin_to_look(now);
                    self.late.push(reader);
                }
            }
            if !state.late {
                offered = offered.min(cursor.place);
            }
        }
        feed.watcher.offered(offered, slowest);
        hub.broker.trim(&feed.name, now);
    }

    fn begin_to_look(&mut self, now: Moment) {
        if self.due().is_none() {
            self.look = now + LOOK_INTERVAL;
        }
    }
}

impl Readership<'_> {
    /// Ends the subscriptions of readers that have all of a channel in which nothing more comes. Returns whether there are others.
    fn end_finished(&mut self, key: FeedKey, out: &mut impl Outbound) -> bool {
        let Some(feed) = self.feeds.get(key as usize).filter(|feed| feed.log.is_finished()) else {
            return false;
        };
        let mut is_read = false;
        for &reader in &feed.readers {
            let state = &self.readers[reader as usize];
            let mut cursors = state.cursors.iter().filter(|cursor| cursor.feed == key);
            if !state.blocked && cursors.all(|cursor| cursor.place >= feed.log.top()) {
                out.finished(reader, &feed.name);
            } else {
                is_read = true;
            }
        }
        is_read
    }

    /// Forgives a late reader that has been level for [`PATIENCE`]. From now on its logs keep for it what it was not offered.
    fn is_still_late(&mut self, reader: ReaderKey, now: Moment) -> bool {
        let Some(state) = self.readers.get_mut(reader as usize).filter(|state| state.late) else {
            return false;
        };
        if state.blocked {
            state.judged = now;
        }
        if now.since(state.judged) <= PATIENCE {
            return true;
        }
        (state.late, state.judged) = (false, now);
        for cursor in &state.cursors {
            self.feeds[cursor.feed as usize].watcher.hold(cursor.place);
        }
        false
    }
}

/// Between two looks. A producer that waits for room in a channel at rest waits that long.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Between two slices of one pass there is a turn of the shard, a few milliseconds.
const STALLED: Duration = Duration::from_millis(500);
