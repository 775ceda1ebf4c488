//! The hub of a shard: its feeds and readers, and which reader has which channels.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::broker::{Broker, Notify};
use crate::channel::ChannelName;
use crate::hub::encoder::FrameEncoder;
use crate::hub::feed::Feed;
use crate::hub::keys::{FeedKey, ReaderKey};
use crate::hub::multi_channel_frame::MultiChannelFrame;
use crate::hub::reader::{Cursor, Reader};
use crate::moment::Moment;
use crate::position::{Position, Subscribed};
use crate::protocol::wire::Wire;
use crate::stats::Counters;

/// The subscriptions of one shard.
pub struct Hub {
    broker: Arc<dyn Broker>,
    pub(super) counters: Arc<Counters>,
    /// Makes what a log notifies when it moves; [`Hub::moved`] is to be called then.
    notifier: Box<dyn Fn(FeedKey) -> Arc<dyn Notify> + Send>,
    pub(super) tick: Duration,
    pub(super) max_batch: usize,
    pub(super) feeds: Slab<Feed>,
    names: HashMap<ChannelName, FeedKey>,
    /// Indexed by [`ReaderKey`].
    pub(super) readers: Vec<Reader>,
    /// Readers to be served, in this order. A reader is in it once: see [`Reader::queued`].
    pub(super) queue: VecDeque<ReaderKey>,
    /// Feeds that moved, or that moved a tick ago and whose watchers are not armed again yet.
    pub(super) active: Vec<FeedKey>,
    pub(super) next_tick: Moment,
    /// Feeds with frames for readers that come late or come back. Every feed with frames is in here or in `active`.
    pub(super) warm: Vec<FeedKey>,
    /// When the frames of the warm feeds are dropped.
    pub(super) cool: Moment,
    /// `made` of the encoder when all frames were last dropped.
    pub(super) emptied: u64,
    /// Counts slices. A feed with an older number reads the top of its log again.
    pub(super) slice: u64,
    /// The reader that is being served: see [`Hub::interrupted`].
    pub(super) serving: Option<ReaderKey>,
    pub(super) encoder: FrameEncoder,
    pub(super) multi_channel_frame: MultiChannelFrame,
}

impl Hub {
    /// A hub without readers. `notifier` makes what tells the shard that the log of a feed has moved.
    pub fn new(
        broker: Arc<dyn Broker>,
        counters: Arc<Counters>,
        encoder: FrameEncoder,
        tick: Duration,
        notifier: Box<dyn Fn(FeedKey) -> Arc<dyn Notify> + Send>,
    ) -> Self {
        Self {
            broker,
            counters,
            notifier,
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
            encoder,
            multi_channel_frame: MultiChannelFrame::default(),
        }
    }

    /// For frames that do not come from a log: the hub's compressors are the shard's.
    pub fn encoder(&mut self) -> &mut FrameEncoder {
        &mut self.encoder
    }

    /// Adds a connection. No other connection may have its key now.
    pub fn join(&mut self, reader: ReaderKey, wire: Wire) {
        let index = reader as usize;
        if index >= self.readers.len() {
            self.readers.resize_with(index + 1, || Reader::new(wire));
        }
        // The key's last reader has left, unless a panic interrupted its end.
        self.leave(reader);
        let queued = self.readers[index].queued;
        self.readers[index] = Reader { queued, ..Reader::new(wire) };
    }

    /// Removes a connection and its subscriptions. Another one may have its key afterwards.
    pub fn leave(&mut self, reader: ReaderKey) {
        let Some(state) = self.readers.get_mut(reader as usize) else { return };
        if std::mem::take(&mut state.blocked) {
            self.counters.blocked.sub(1);
        }
        for cursor in std::mem::take(&mut state.cursors) {
            self.unseat(cursor);
        }
    }

    /// Subscribes a reader to a channel: from `from` when the log still reaches back to it, otherwise from the top.
    ///
    /// A reader that has `max_subscriptions` channels gets [`Subscribed::TooMany`]. Its private channel does not count.
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
            let position = self.feeds[cursor.feed as usize].log.position_of(cursor.place);
            return Subscribed::Already { position };
        }
        let is_counted = |cursor: &&Cursor| !self.feeds[cursor.feed as usize].name.is_private();
        if state.cursors.len() >= max_subscriptions
            && state.cursors.iter().filter(is_counted).count() >= max_subscriptions
        {
            return Subscribed::TooMany { most: max_subscriptions };
        }
        let feed_key = feed_key.unwrap_or_else(|| self.open(channel));
        let feed = &mut self.feeds[feed_key as usize];
        let found = from.and_then(|from| feed.log.find(from));
        let place = found.unwrap_or_else(|| feed.log.top());
        let position = feed.log.position_of(place);
        feed.readers.push(reader);
        let seat = feed.readers.len() as u32 - 1;
        self.readers[reader as usize].cursors.push(Cursor { feed: feed_key, seat, place });
        self.counters.subscriptions.add(1);
        if found.is_some() {
            self.readers[reader as usize].returning = true;
            self.enqueue(reader);
        }
        Subscribed::From { position, recovered: found.is_some() }
    }

    /// Subscribes a reader to everything that its private channel still holds. No limit applies.
    pub fn subscribe_from_start(&mut self, reader: ReaderKey, channel: &ChannelName) -> Position {
        let subscribed = self.subscribe(reader, channel, None, usize::MAX);
        let position = match subscribed {
            Subscribed::From { position, .. } => Position { offset: 0, ..position },
            Subscribed::Already { position } => return position,
            Subscribed::TooMany { .. } => unreachable!("no reader has usize::MAX subscriptions"),
        };
        if let Some(cursor) = self.readers[reader as usize].cursors.last_mut() {
            cursor.place = cursor.place.with_offset(0);
        }
        self.enqueue(reader);
        position
    }

    /// Ends one subscription. Returns `false` when there was none.
    ///
    /// What was published before is lost for this reader, except for what [`Hub::catch_up`] delivers before this call.
    pub fn unsubscribe(&mut self, reader: ReaderKey, channel: &str) -> bool {
        let Some(&feed) = self.names.get(channel) else { return false };
        let Some(Reader { cursors, .. }) = self.readers.get_mut(reader as usize) else { return false };
        let Some(index) = cursors.iter().position(|cursor| cursor.feed == feed) else { return false };
        let cursor = cursors.swap_remove(index);
        self.unseat(cursor);
        true
    }

    /// How many channels a reader has.
    pub fn subscriptions(&self, reader: ReaderKey) -> usize {
        self.readers.get(reader as usize).map_or(0, |state| state.cursors.len())
    }

    /// The socket of a reader takes bytes again.
    pub fn writable(&mut self, reader: ReaderKey) {
        if let Some(state) = self.readers.get_mut(reader as usize)
            && std::mem::take(&mut state.blocked)
        {
            self.counters.blocked.sub(1);
            self.enqueue(reader);
        }
    }

    /// The socket of a reader takes nothing at the moment: the reader is skipped until [`Hub::writable`].
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
        let (log, watcher) = self.broker.watch(channel, (self.notifier)(key));
        entry.insert(Feed::new(channel.clone(), log, watcher));
        self.names.insert(channel.clone(), key);
        key
    }

    /// Takes a reader out of a feed. The feed is dropped with its last reader.
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

    pub(super) fn enqueue(&mut self, reader: ReaderKey) {
        let state = &mut self.readers[reader as usize];
        if !state.blocked && !std::mem::replace(&mut state.queued, true) {
            self.queue.push_back(reader);
        }
    }
}

/// In bytes of updates: the most that one frame holds. What is left goes with the reader's next turn.
///
/// A slow reader keeps the rest of one frame in user space: 640 MB at most for 10,000 of them, and less where they share
/// frames.
const MAX_BATCH: usize = 64 * 1024;
