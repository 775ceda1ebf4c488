//! The hub of a shard: its feeds and readers, and which reader has which channels.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::broker::{Broker, Notify, Place, Seat};
use crate::channel::ChannelName;
use crate::hub::due::Due;
use crate::hub::encoder::FrameEncoder;
use crate::hub::feed::Feed;
use crate::hub::keeping_up::KeepingUp;
use crate::hub::keys::{FeedKey, ReaderKey};
use crate::hub::multi_channel_frame::MultiChannelFrame;
use crate::hub::reader::{Cursor, Reader};
use crate::hub::streams::Streams;
use crate::moment::Moment;
use crate::position::{Start, Subscribed, Unrecovered};
use crate::protocol::event_stream::{ChannelHash, StreamPositions};
use crate::protocol::wire::Wire;
use crate::stats::Counters;

/// The subscriptions of one shard.
pub struct Hub {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) counters: Arc<Counters>,
    /// Makes what a log notifies when it moves; [`Hub::moved`] is to be called then.
    notifier: Box<dyn Fn(FeedKey) -> Arc<dyn Notify> + Send>,
    pub(super) tick: Duration,
    pub(super) feeds: Slab<Feed>,
    names: HashMap<ChannelName, FeedKey>,
    /// Indexed by [`ReaderKey`].
    pub(super) readers: Vec<Reader>,
    pub(super) streams: Streams,
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
    /// When the tick began whose readers are being served.
    pub(super) ticking: Option<Moment>,
    /// Counts slices. A feed with an older number reads the top of its log again.
    pub(super) slice: u64,
    pub(super) keeping_up: KeepingUp,
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
            feeds: Slab::new(),
            names: HashMap::new(),
            readers: Vec::new(),
            streams: Streams::default(),
            queue: VecDeque::new(),
            active: Vec::new(),
            next_tick: Moment::default(),
            warm: Vec::new(),
            cool: Moment::default(),
            emptied: 0,
            ticking: None,
            slice: 0,
            keeping_up: KeepingUp::new(tick),
            serving: None,
            encoder,
            multi_channel_frame: MultiChannelFrame::default(),
        }
    }

    /// For frames that do not come from a log: the hub's compressors are the shard's.
    pub fn encoder(&mut self) -> &mut FrameEncoder {
        &mut self.encoder
    }

    /// The log of a feed has moved. Call [`Hub::due`] afterwards.
    pub fn moved(&mut self, feed: FeedKey) {
        // The notification may come after its feed was dropped.
        if let Some(state) = self.feeds.get_mut(feed as usize)
            && !std::mem::replace(&mut state.active, true)
        {
            self.active.push(feed);
        }
    }

    /// When [`Hub::flush`] has something to do.
    ///
    /// The tick is leading-edge: the first publication after a quiet window is due at once. Those that follow are due
    /// together when the window is over.
    pub fn due(&self, now: Moment) -> Due {
        if !self.queue.is_empty() {
            Due::Now
        } else if !self.active.is_empty() {
            if now >= self.next_tick { Due::Now } else { Due::At(self.next_tick) }
        } else {
            let cool = (!self.warm.is_empty()).then_some(self.cool);
            match cool.into_iter().chain(self.keeping_up.due()).min() {
                Some(moment) if now >= moment => Due::Now,
                Some(moment) => Due::Rest(moment),
                None => Due::Never,
            }
        }
    }

    /// Counts the tick that began last, if its readers were served since. Under overload they never are all at once: then it ends
    /// when the next one begins. Ask with a clock that is newer than that of [`Hub::flush`].
    pub fn end_tick(&mut self, now: impl FnOnce() -> Moment) {
        if self.queue.is_empty()
            && let Some(began) = self.ticking.take()
        {
            self.counters.tick_duration.record(now().since(began));
        }
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

    /// Lets a reader that has joined be an event stream, which has come so far.
    pub fn follow(&mut self, reader: ReaderKey, told: StreamPositions) {
        self.streams.add(reader, told);
    }

    /// Appends what the next message of a stream has as its `id`. Nothing for other readers.
    pub fn write_id(&mut self, reader: ReaderKey, out: &mut Vec<u8>) {
        if let Some(state) = self.readers.get(reader as usize) {
            self.streams.note_cursors(reader, &state.cursors, &self.feeds);
        }
        if let Some(told) = self.streams.of(reader) {
            told.write(out);
        }
    }

    /// Notes that a stream has unsubscribed from a channel in which nothing more comes. Returns `true` when that is so of all its
    /// channels.
    pub fn note_finished(&mut self, reader: ReaderKey, channel: &str) -> bool {
        self.streams.note_finished(reader, ChannelHash::of(channel))
    }

    /// Removes a connection and its subscriptions. Another one may have its key afterwards.
    pub fn leave(&mut self, reader: ReaderKey) {
        let Some(state) = self.readers.get_mut(reader as usize) else { return };
        if std::mem::take(&mut state.blocked) {
            self.counters.blocked.sub(1);
        }
        self.streams.remove(reader);
        for cursor in std::mem::take(&mut state.cursors) {
            self.unseat(reader, cursor);
        }
    }

    /// Lets a reader read a channel, from `start` on.
    ///
    /// From the position that it returns, the reader gets everything once and in order, or is told in a gap what it does not
    /// get. What comes after that position is kept for it as for a reader that keeps up, so that it has time to get there.
    ///
    /// A reader that has the channel keeps its cursor, wherever it wants to begin: that is [`Subscribed::Existing`], and
    /// [`Hub::restart`] moves it. A reader that has `max_subscriptions` channels gets [`Subscribed::TooMany`]. Its private channel
    /// does not count.
    pub fn subscribe(
        &mut self,
        reader: ReaderKey,
        channel: &ChannelName,
        start: Start,
        max_subscriptions: usize,
        now: Moment,
    ) -> Subscribed {
        if let Some(index) = self.cursor(reader, channel.as_str()) {
            let Cursor { feed, place, .. } = self.readers[reader as usize].cursors[index];
            let log = &self.feeds[feed as usize].log;
            let (position, top) = (log.position_of(place), log.top().offset());
            return Subscribed::Existing { position, top, is_state: log.retention().is_state() };
        }
        let cursors = &self.readers[reader as usize].cursors;
        let is_counted = |cursor: &&Cursor| !self.feeds[cursor.feed as usize].name.is_private();
        if cursors.len() >= max_subscriptions
            && !channel.is_private()
            && cursors.iter().filter(is_counted).count() >= max_subscriptions
        {
            return Subscribed::TooMany { most: max_subscriptions };
        }
        let key = self.names.get(channel).copied();
        let key = key.unwrap_or_else(|| self.open(channel));
        let feed = &mut self.feeds[key as usize];
        feed.readers.push(reader);
        feed.watcher.count_readers(feed.readers.len());
        let seat = feed.readers.len() as u32 - 1;
        let cursors = &mut self.readers[reader as usize].cursors;
        cursors.push(Cursor { feed: key, seat, place: Place::MAX });
        let index = cursors.len() - 1;
        self.counters.subscriptions.add(1);
        self.begin(reader, index, start, now)
    }

    /// Begins a subscription anew, as [`Hub::subscribe`] would begin it. What the reader was not given yet from its old place it
    /// does not get, unless it is after the new one. Returns `None` when there is no such subscription.
    pub fn restart(
        &mut self,
        reader: ReaderKey,
        channel: &str,
        start: Start,
        now: Moment,
    ) -> Option<Subscribed> {
        let index = self.cursor(reader, channel)?;
        Some(self.begin(reader, index, start, now))
    }

    /// Ends one subscription. Returns `false` when there was none.
    ///
    /// What was published before is lost for this reader, except for what [`Hub::catch_up`] delivers before this call.
    pub fn unsubscribe(&mut self, reader: ReaderKey, channel: &str) -> bool {
        let Some(index) = self.cursor(reader, channel) else { return false };
        self.streams.note_cursors(reader, &self.readers[reader as usize].cursors, &self.feeds);
        let cursor = self.readers[reader as usize].cursors.swap_remove(index);
        self.unseat(reader, cursor);
        true
    }

    /// Whether a reader has a channel.
    pub fn reads(&self, reader: ReaderKey, channel: &str) -> bool {
        self.cursor(reader, channel).is_some()
    }

    /// The channels that a reader has.
    pub fn channels(&self, reader: ReaderKey) -> Vec<ChannelName> {
        let cursors = self.readers.get(reader as usize).map_or(&[][..], |state| &state.cursors);
        cursors.iter().map(|cursor| self.feeds[cursor.feed as usize].name.clone()).collect()
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

    /// Where a reader has its cursor in a channel.
    pub(super) fn cursor(&self, reader: ReaderKey, channel: &str) -> Option<usize> {
        let feed = *self.names.get(channel)?;
        self.readers.get(reader as usize)?.cursors.iter().position(|cursor| cursor.feed == feed)
    }

    /// Puts a cursor to where its reader begins.
    fn begin(&mut self, reader: ReaderKey, cursor: usize, start: Start, now: Moment) -> Subscribed {
        let state = &mut self.readers[reader as usize];
        let index = cursor;
        let cursor = &mut state.cursors[index];
        let (key, feed) = (cursor.feed, &mut self.feeds[cursor.feed as usize]);
        feed.forget_beginning(reader);
        let Seat { place, position, top, recovered } = feed.log.seat(&feed.watcher, start);
        cursor.place = place;
        match recovered {
            Some(Ok(())) => self.counters.recovered.add(1),
            // It did not come back.
            None | Some(Err(Unrecovered::New)) => {}
            Some(Err(_)) => self.counters.unrecovered.add(1),
        }
        if !state.blocked && !state.late {
            // It gets time to reach the others. One that takes nothing gets none.
            state.judged = now;
        }
        let (is_finished, is_state) = (feed.log.is_finished(), feed.log.retention().is_state());
        if place < top {
            state.returning = true;
            self.enqueue(reader);
        }
        self.streams.note_begin(reader, &mut self.readers[reader as usize], index, &self.feeds);
        if is_finished {
            let (keeping_up, mut hub) = self.readership();
            keeping_up.look_again(key, &mut hub, now);
        }
        Subscribed::From { position, top: top.offset(), recovered, is_state }
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
    fn unseat(&mut self, reader: ReaderKey, cursor: Cursor) {
        self.counters.subscriptions.sub(1);
        let feed = &mut self.feeds[cursor.feed as usize];
        feed.readers.swap_remove(cursor.seat as usize);
        feed.forget_beginning(reader);
        feed.watcher.count_readers(feed.readers.len());
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
pub(super) const MAX_BATCH: usize = 64 * 1024;
