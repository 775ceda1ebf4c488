//! Who wants what, what is due, and frames made once. One hub per shard; synchronous, without sockets or a clock.
//!
//! # How a publication reaches its readers
//! A log that moved rings its feed ([`Hub::moved`]). When the tick is due, every reader of the moved feeds is put into
//! one queue ([`Hub::begin_tick`]), and the queue is served slice by slice ([`Hub::flush`]). Serving a reader reads each
//! of its channels from its cursor to the head.
//!
//! # The flush rolls
//! Heads are read again for every slice, so a reader that is served late in a pass also gets what was published
//! meanwhile; its neighbours in the slice share the frame. Readers that were already served go to the end of the
//! queue when the next tick begins. So nobody waits longer than one pass through the queue, whatever the load, and
//! when a pass takes longer than a tick the batches grow instead of the queue.

pub mod feed;
pub mod prepared;
pub mod reader;

mod flush;

pub use flush::{CaughtUp, Delivery, Due, Outbound, Outgoing, SLICE_BYTES};

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::broker::Broker;
use crate::broker::log::Alarm;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::position::Position;
use crate::stats::Counters;
use feed::Feed;
use prepared::{Composition, Form, Press};
use reader::{Cursor, Reader};

/// The subscriptions of one shard.
pub struct Hub {
    broker: Arc<dyn Broker>,
    counters: Arc<Counters>,
    /// Makes the bell of a feed; the shard's mailbox answers it with [`Hub::moved`].
    bell: Box<dyn Fn(FeedKey) -> Arc<dyn Alarm> + Send>,
    tick: Duration,
    max_batch: usize,
    feeds: Slab<Feed>,
    names: HashMap<ChannelName, FeedKey>,
    /// Indexed by [`ReaderKey`], which the owner of the connections assigns.
    readers: Vec<Reader>,
    /// Readers to be served, in this order. A reader stands in it once: see [`Reader::queued`].
    queue: VecDeque<ReaderKey>,
    /// Feeds that moved, or that moved a tick ago and are still listened to without arming them.
    active: Vec<FeedKey>,
    next_tick: Moment,
    /// Feeds that have pieces for readers that come late or come back: every feed that has any stands here or in `active`.
    warm: Vec<FeedKey>,
    /// When the pieces of the warm feeds are given back.
    cool: Moment,
    /// [`Press::work`] when all pieces were last given back.
    emptied: u64,
    /// Counts slices; a feed whose number is older reads its head again.
    slice: u64,
    /// The reader that is being served: see [`Hub::interrupted`].
    serving: Option<ReaderKey>,
    press: Press,
    composition: Composition,
}

/// Number of a feed within its hub.
pub type FeedKey = u32;

/// Number of a reader within its hub.
pub type ReaderKey = u32;

/// What became of a wish to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Subscribed {
    /// The reader gets everything after this position.
    From { position: Position, recovered: bool },
    /// It already had this channel; nothing changed. The position is where it has been served up to.
    Already { position: Position },
    /// It has as many channels as it may have.
    TooMany,
}

impl Hub {
    pub fn new(
        broker: Arc<dyn Broker>,
        counters: Arc<Counters>,
        press: Press,
        tick: Duration,
        bell: Box<dyn Fn(FeedKey) -> Arc<dyn Alarm> + Send>,
    ) -> Self {
        Self {
            broker,
            counters,
            bell,
            tick,
            max_batch: MAX_BATCH,
            feeds: Slab::new(),
            names: HashMap::new(),
            readers: Vec::new(),
            queue: VecDeque::new(),
            active: Vec::new(),
            next_tick: Moment::default(),
            warm: Vec::new(),
            cool: Moment::default(),
            emptied: 0,
            slice: 0,
            serving: None,
            press,
            composition: Composition::default(),
        }
    }

    /// Makes frames that do not come from a log, with the hub's compressors.
    pub fn press(&mut self) -> &mut Press {
        &mut self.press
    }

    /// Lets a connection read under a key that no other connection has now.
    pub fn join(&mut self, reader: ReaderKey, form: Form) {
        let index = reader as usize;
        if index >= self.readers.len() {
            self.readers.resize_with(index + 1, Reader::default);
        }
        // Nothing of it is left, unless its end was interrupted.
        self.leave(reader);
        let queued = self.readers[index].queued;
        self.readers[index] = Reader { form, queued, ..Reader::default() };
    }

    /// Ends all that a connection reads. Its key may be given to another one afterwards.
    pub fn leave(&mut self, reader: ReaderKey) {
        let Some(state) = self.readers.get_mut(reader as usize) else { return };
        if std::mem::take(&mut state.blocked) {
            self.counters.blocked.sub(1);
        }
        for cursor in std::mem::take(&mut state.cursors) {
            self.unseat(cursor);
        }
    }

    /// Subscribes a reader to a channel: from the head, or from `from` when the log still reaches back to it.
    ///
    /// With `max_subscriptions` or more channels, the private one not counted, the outcome is [`Subscribed::TooMany`].
    pub fn subscribe(
        &mut self,
        reader: ReaderKey,
        channel: &ChannelName,
        from: Option<Position>,
        max_subscriptions: usize,
    ) -> Subscribed {
        let feed_key = self.names.get(channel).copied();
        let state = &self.readers[reader as usize];
        if let Some(cursor) = state.cursors.iter().find(|cursor| Some(cursor.feed) == feed_key) {
            let epoch = self.feeds[cursor.feed as usize].log.epoch();
            return Subscribed::Already { position: Position { epoch, offset: cursor.offset } };
        }
        let is_counted = |cursor: &&Cursor| !self.feeds[cursor.feed as usize].name.is_private();
        if state.cursors.len() >= max_subscriptions
            && state.cursors.iter().filter(is_counted).count() >= max_subscriptions
        {
            return Subscribed::TooMany;
        }
        let feed_key = feed_key.unwrap_or_else(|| self.open(channel));
        let feed = &mut self.feeds[feed_key as usize];
        let found =
            from.filter(|from| from.epoch == feed.log.epoch() && feed.log.reaches_back_to(from.offset));
        let position = found.unwrap_or_else(|| feed.log.position());
        feed.readers.push(reader);
        let seat = feed.readers.len() as u32 - 1;
        self.readers[reader as usize].cursors.push(Cursor { feed: feed_key, seat, offset: position.offset });
        self.counters.subscriptions.add(1);
        if found.is_some() {
            self.readers[reader as usize].returning = true;
            self.enqueue(reader);
        }
        Subscribed::From { position, recovered: found.is_some() }
    }

    /// Subscribes a reader to everything that its private channel still holds. It needs no permission and does not count
    /// against any limit.
    pub fn subscribe_from_start(&mut self, reader: ReaderKey, channel: &ChannelName) -> Position {
        let subscribed = self.subscribe(reader, channel, None, usize::MAX);
        let position = match subscribed {
            Subscribed::From { position, .. } => Position { offset: 0, ..position },
            Subscribed::Already { position } => return position,
            Subscribed::TooMany => unreachable!("no reader has usize::MAX subscriptions"),
        };
        if let Some(cursor) = self.readers[reader as usize].cursors.last_mut() {
            cursor.offset = 0;
        }
        self.enqueue(reader);
        position
    }

    /// Ends one subscription; `false` when there was none. What was published before is delivered when
    /// [`Hub::catch_up`] was called first, as far as that goes.
    pub fn unsubscribe(&mut self, reader: ReaderKey, channel: &str) -> bool {
        let Some(&feed) = self.names.get(channel) else { return false };
        let Some(Reader { cursors, .. }) = self.readers.get_mut(reader as usize) else { return false };
        let Some(index) = cursors.iter().position(|cursor| cursor.feed == feed) else { return false };
        let cursor = cursors.swap_remove(index);
        self.unseat(cursor);
        true
    }

    /// Whether frames are kept to be shared. Not for long: none are when [`Hub::due`] is [`Due::Never`].
    pub fn keeps_pieces(&self) -> bool {
        self.feeds.iter().any(|(_, feed)| !feed.pieces.is_empty())
    }

    /// Channels that a reader has.
    pub fn subscriptions(&self, reader: ReaderKey) -> usize {
        self.readers.get(reader as usize).map_or(0, |state| state.cursors.len())
    }

    /// The socket of a reader takes bytes again.
    pub fn writable(&mut self, reader: ReaderKey) {
        if let Some(state) = self.readers.get_mut(reader as usize)
            && std::mem::take(&mut state.blocked)
        {
            state.returning = true;
            self.counters.blocked.sub(1);
            self.enqueue(reader);
        }
    }

    /// The socket of a reader does not take any more; it is skipped until [`Hub::writable`].
    pub fn blocked(&mut self, reader: ReaderKey) {
        if let Some(state) = self.readers.get_mut(reader as usize)
            && !std::mem::replace(&mut state.blocked, true)
        {
            self.counters.blocked.add(1);
        }
    }

    fn open(&mut self, channel: &ChannelName) -> FeedKey {
        let entry = self.feeds.vacant_entry();
        let key = entry.key() as FeedKey;
        let (log, watcher) = self.broker.watch(channel, (self.bell)(key));
        entry.insert(Feed::new(channel.clone(), log, watcher));
        self.names.insert(channel.clone(), key);
        key
    }

    /// Takes a reader out of a feed, and drops the feed with its last reader.
    fn unseat(&mut self, cursor: Cursor) {
        self.counters.subscriptions.sub(1);
        let feed = &mut self.feeds[cursor.feed as usize];
        feed.readers.swap_remove(cursor.seat as usize);
        if let Some(&moved) = feed.readers.get(cursor.seat as usize) {
            let cursors = &mut self.readers[moved as usize].cursors;
            if let Some(other) = cursors.iter_mut().find(|other| other.feed == cursor.feed) {
                other.seat = cursor.seat;
            }
        }
        if feed.readers.is_empty() {
            let feed = self.feeds.remove(cursor.feed as usize);
            self.names.remove(&feed.name);
            self.broker.unwatch(&feed.name, &feed.watcher);
        }
    }

    fn enqueue(&mut self, reader: ReaderKey) {
        let state = &mut self.readers[reader as usize];
        if !state.blocked && !std::mem::replace(&mut state.queued, true) {
            self.queue.push_back(reader);
        }
    }
}

/// Bytes of updates in one frame. More than a socket's buffer takes at once would only lie in user space; what is
/// left over goes with the reader's next turn.
const MAX_BATCH: usize = 256 * 1024;
