//! The tick and the rolling flush.

use smallvec::SmallVec;

use crate::broker::LogRead;
use crate::hub::feed::FrameCache;
use crate::hub::keeping_up::{KeepingUp, Readership};
use crate::hub::keys::{FeedKey, ReaderKey};
use crate::hub::outbound::{Delivery, Outbound, Outgoing};
use crate::hub::read_plan::ReadPlan;
use crate::hub::serve::{Ends, LARGE, Lag, Served, WARM, count};
use crate::hub::subscriptions::{Hub, MAX_BATCH};
use crate::moment::Moment;
use crate::protocol::message::Timestamp;

/// What [`Hub::catch_up`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// In bytes, as [`SLICE_BYTES`] counts them.
    pub cost: u64,
    /// The socket took everything, and there is more.
    pub unfinished: bool,
}

impl Hub {
    /// Begins a tick if one is due, and serves one slice of the queue. Call it again while [`Hub::due`] says
    /// [`Due::Now`], and read sockets in between.
    pub fn flush(&mut self, now: Moment, time: Timestamp, out: &mut impl Outbound) {
        self.keeping_up.note_turn(!self.queue.is_empty(), now);
        let (keeping_up, mut hub) = self.readership();
        keeping_up.look(&mut hub, now, out);
        self.drop_frames(now);
        if now >= self.next_tick && !self.active.is_empty() {
            let window = std::mem::replace(&mut self.next_tick, now + self.tick);
            if self.begin_tick(now) {
                if let Some(began) = self.ticking.replace(now) {
                    self.counters.tick_duration.record(now.since(began));
                }
            } else {
                // Nothing is sent: a new window would only delay the next publication.
                self.next_tick = window;
            }
        }
        self.slice += 1;
        let began = self.encoder.work;
        let mut bytes = 0;
        for _ in 0..SLICE_READERS {
            let Some(reader) = self.queue.pop_front() else { break };
            if let Some(state) = self.readers.get_mut(reader as usize) {
                state.queued = false;
            }
            let served = self.serve(reader, Ends::Shared, now, time, out);
            if served.unfinished {
                self.enqueue(reader);
            }
            bytes += served.bytes as u64;
            if bytes + self.encoder.work - began >= SLICE_BYTES {
                break;
            }
        }
    }

    /// Serves one reader out of its turn, before it leaves a channel or goes. It gets what is in its channels now, as
    /// far as its socket takes it and until this has cost as much as one slice may.
    pub fn catch_up(
        &mut self,
        reader: ReaderKey,
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> CaughtUp {
        // The tops stay the same within a slice, so a reader reaches them however fast others publish.
        self.slice += 1;
        self.drop_frames(now);
        let began = self.encoder.work;
        let mut bytes = 0;
        loop {
            let served = self.serve(reader, Ends::Tops, now, time, out);
            bytes += served.bytes as u64;
            let cost = bytes + self.encoder.work - began;
            if !served.unfinished || cost >= SLICE_BYTES {
                if served.unfinished {
                    self.enqueue(reader);
                }
                return CaughtUp { cost, unfinished: served.unfinished };
            }
        }
    }

    /// The reader that was being served when [`Hub::flush`] or [`Hub::catch_up`] panicked. End it before you call
    /// either of them again. All other readers keep their cursors and their places in the queue.
    pub fn interrupted(&mut self) -> Option<ReaderKey> {
        self.serving.take()
    }

    /// Drops the frames of the warm feeds when it is time, and those of all feeds when there may be too many.
    fn drop_frames(&mut self, now: Moment) {
        let too_many = self.encoder.made - self.emptied >= CACHED_BYTES;
        if !self.warm.is_empty() && (too_many || now >= self.cool) {
            for key in self.warm.drain(..) {
                if let Some(feed) = self.feeds.get_mut(key as usize) {
                    feed.warm = false;
                    feed.frames = FrameCache::default();
                }
            }
        }
        if too_many {
            self.emptied = self.encoder.made;
            for &key in &self.active {
                if let Some(feed) = self.feeds.get_mut(key as usize) {
                    feed.frames = FrameCache::default();
                }
            }
        }
    }

    /// Puts the readers of every feed that has moved into the queue. A feed that has not moved since the last tick is
    /// armed again, so that its next publication notifies the hub. Returns `false` when no feed has moved.
    fn begin_tick(&mut self, now: Moment) -> bool {
        // The list is not taken out meanwhile: a feed that a panic removed from it would never be served again.
        let mut index = 0;
        while let Some(&key) = self.active.get(index) {
            if self.begin_feed(key, now) {
                index += 1;
            } else {
                self.active.swap_remove(index);
            }
        }
        index > 0
    }

    pub(super) fn readership(&mut self) -> (&mut KeepingUp, Readership<'_>) {
        let Self { feeds, readers, broker, keeping_up, .. } = self;
        (keeping_up, Readership { feeds, readers, broker: &**broker })
    }

    /// Returns `false` when nothing new came since the last tick.
    fn begin_feed(&mut self, key: FeedKey, now: Moment) -> bool {
        let (keeping_up, mut hub) = self.readership();
        keeping_up.tell_offered(key, &mut hub, now);
        let Some(feed) = self.feeds.get_mut(key as usize) else { return false };
        let mut top = feed.log.top();
        if top == feed.marked {
            top = feed.log.arm(&feed.watcher);
            if top == feed.marked {
                feed.rest();
                // Asked after the watcher was armed: whoever begins to wait for room after that notifies it.
                if feed.log.is_crowded() || feed.log.is_finished() {
                    let (keeping_up, mut hub) = self.readership();
                    keeping_up.look_again(key, &mut hub, now);
                }
                return false;
            }
        }
        feed.mark(top);
        for &reader in &feed.readers {
            let state = &mut self.readers[reader as usize];
            if !state.queued && !state.blocked {
                state.queued = true;
                self.queue.push_back(reader);
            }
        }
        true
    }

    fn serve(
        &mut self,
        reader: ReaderKey,
        ends: Ends,
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> Served {
        self.serving = Some(reader);
        let mut lags = self.lags(reader, ends, now);
        let served = match lags[..] {
            [] => Served::default(),
            [lag] if self.readers[reader as usize].wire.is_shared() => {
                self.serve_one(reader, lag, false, now, time, out)
            }
            _ => {
                // Not everything may fit into one frame: another channel comes first each time.
                let first = self.slice as usize % lags.len();
                lags.rotate_left(first);
                self.serve_several(reader, &lags, now, time, out)
            }
        };
        self.serving = None;
        if let Some(state) = self.readers.get_mut(reader as usize) {
            state.returning &= served.unfinished;
            if served.unfinished && state.late {
                state.judged = now;
            }
        }
        served
    }

    /// In which of its channels a reader is behind. In none while its socket takes nothing.
    fn lags(&mut self, reader: ReaderKey, ends: Ends, now: Moment) -> SmallVec<[Lag; 8]> {
        let mut lags = SmallVec::new();
        let Some(state) = self.readers.get(reader as usize).filter(|state| !state.blocked) else {
            return lags;
        };
        let to_tops = ends == Ends::Tops || state.cursors.len() == 1;
        for (index, cursor) in state.cursors.iter().enumerate() {
            let feed = &mut self.feeds[cursor.feed as usize];
            // A state is read to the end of its log in any case.
            let to_top = to_tops || feed.log.retention().is_state();
            let end = if to_top { feed.top_in(self.slice) } else { feed.marked };
            if end > cursor.place {
                if (state.returning || !feed.active) && !std::mem::replace(&mut feed.warm, true) {
                    if self.warm.is_empty() {
                        self.cool = now + WARM;
                    }
                    self.warm.push(cursor.feed);
                }
                let plan = if state.returning {
                    ReadPlan::returning(cursor.place, end)
                } else {
                    ReadPlan::whole(cursor.place, end)
                };
                lags.push(Lag { index, plan });
            }
        }
        lags
    }

    /// Serves one channel, with the frame that all its readers share. `more`: there are other channels in which it is behind.
    fn serve_one(
        &mut self,
        reader: ReaderKey,
        Lag { index, plan }: Lag,
        more: bool,
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> Served {
        let state = &mut self.readers[reader as usize];
        let cursor = &mut state.cursors[index];
        let feed = &mut self.feeds[cursor.feed as usize];
        let wire = feed.wire(state.wire);
        let (since, gives_up) = (feed.since(reader), feed.gives_up(reader));
        let prepared = feed.frames.next(&feed.log, plan, since, MAX_BATCH, &mut self.encoder);
        if gives_up && prepared.read.loss().is_some() {
            out.overrun(reader);
            return Served::default();
        }
        let read = prepared.read;
        let unfinished = more || read.cut || prepared.end < plan.end;
        if read.is_empty() {
            return Served::default();
        }
        let frame = prepared.frame(&mut self.encoder, feed.name.as_str(), feed.hash, wire, time);
        let bytes = frame.len();
        let delivery = out.deliver(reader, Outgoing::Shared(frame));
        if delivery.is_taken() {
            let from = std::mem::replace(&mut cursor.place, read.to);
            feed.given(reader, from, &read);
            count(&self.counters, feed, &read, now, out);
        }
        self.delivered(reader, delivery, bytes, unfinished)
    }

    /// A reader that is behind in several channels gets one frame. What would make the frame too long waits for the
    /// reader's next turn.
    fn serve_several(
        &mut self,
        reader: ReaderKey,
        lags: &[Lag],
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> Served {
        let state = &mut self.readers[reader as usize];
        let mut reads = SmallVec::<[(usize, LogRead); 8]>::new();
        let (mut unfinished, mut large) = (false, None);
        self.multi_channel_frame.begin(self.streams.of(reader));
        for &lag in lags {
            let Lag { index, plan } = lag;
            let cursor = &state.cursors[index];
            let feed = &mut self.feeds[cursor.feed as usize];
            if self.multi_channel_frame.size() >= MAX_BATCH {
                unfinished = true;
                break;
            }
            let wire = feed.wire(state.wire);
            let (since, gives_up) = (feed.since(reader), feed.gives_up(reader));
            let prepared = feed.frames.next(&feed.log, plan, since, MAX_BATCH, &mut self.encoder);
            if gives_up && prepared.read.loss().is_some() {
                out.overrun(reader);
                return Served::default();
            }
            if prepared.updates.len() > LARGE && state.wire.is_shared() {
                // Its frame is shared. A frame of several channels is this reader's own, and would be kept as a copy.
                (unfinished, large) = (true, Some(lag));
                if reads.is_empty() {
                    break;
                }
                continue;
            }
            let channel = (feed.name.as_str(), feed.hash);
            self.multi_channel_frame.add(&mut self.encoder, prepared, channel, wire);
            unfinished |= prepared.read.cut || prepared.end < plan.end;
            reads.push((index, prepared.read));
        }
        if let Some(large) = large.filter(|_| reads.is_empty()) {
            return self.serve_one(reader, large, lags.len() > 1, now, time, out);
        }
        let frame = self.multi_channel_frame.finish(state.wire, time);
        let bytes = frame.len();
        if bytes == 0 {
            return Served::default();
        }
        let delivery = out.deliver(reader, Outgoing::Own(frame));
        if delivery.is_taken() {
            for (index, read) in &reads {
                let cursor = &mut state.cursors[*index];
                let feed = &mut self.feeds[cursor.feed as usize];
                let from = std::mem::replace(&mut cursor.place, read.to);
                feed.given(reader, from, read);
                count(&self.counters, feed, read, now, out);
            }
            self.streams.told(reader, &self.multi_channel_frame);
        }
        self.delivered(reader, delivery, bytes, unfinished)
    }

    fn delivered(&mut self, reader: ReaderKey, delivery: Delivery, bytes: usize, unfinished: bool) -> Served {
        if delivery.is_taken() {
            self.counters.frames.add(1);
        }
        if delivery.is_blocked() {
            self.blocked(reader);
        }
        Served { bytes, unfinished: unfinished && delivery.is_taken() }
    }
}

/// Readers served before sockets are read again: about 1 ms at 4 µs per send.
const SLICE_READERS: usize = 256;

/// Bytes written, and work done for new frames, before sockets are read again: about 1 ms at 4 GiB/s, and 10 ms where
/// everything is compressed.
pub const SLICE_BYTES: u64 = 4 << 20;

/// Bytes of all frames, segments and updates that are kept for sharing.
const CACHED_BYTES: u64 = 64 << 20;
