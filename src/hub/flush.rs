//! The tick and the rolling flush.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::broker::log::Read;
use crate::config::Overrun;
use crate::hub::prepared::{Pieces, Stretch};
use crate::hub::{FeedKey, Hub, ReaderKey};
use crate::moment::Moment;
use crate::protocol::message::Timestamp;

/// Where frames go: the connections of the shard.
pub trait Outbound {
    /// Writes bytes for a reader without waiting.
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery;

    /// Ends a reader past whom the log has moved, in a channel that wants this (close code 4413).
    fn overrun(&mut self, reader: ReaderKey, channel: &str);
}

/// Bytes on their way to a socket.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// Shared with other readers: what the socket does not take can be kept without a copy.
    Shared(&'a Bytes),
    /// Made for this reader alone; a rest has to be copied.
    Own(&'a [u8]),
}

impl Outgoing<'_> {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// The socket took them all.
    Sent,
    /// The socket took a part, the connection keeps the rest. The reader is blocked.
    Parked,
    /// The socket took nothing. The reader is blocked, and its cursor stays.
    Refused,
    /// The connection has ended; its owner will call [`Hub::leave`].
    Gone,
}

/// What [`Hub::catch_up`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// In bytes, as the bound of a slice counts them.
    pub cost: u64,
    /// The socket took all, and there is more.
    pub unfinished: bool,
}

/// When the hub wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    /// The tick; nothing that is published before is sent earlier.
    At(Moment),
    /// Memory is given back then. Who publishes meanwhile need not wait for it.
    Rest(Moment),
    Never,
}

impl Hub {
    /// The log of a feed has moved. Call [`Hub::due`] afterwards.
    pub fn moved(&mut self, feed: FeedKey) {
        // A bell may still ring after its feed was dropped.
        if let Some(state) = self.feeds.get_mut(feed as usize)
            && !std::mem::replace(&mut state.active, true)
        {
            self.active.push(feed);
        }
    }

    /// When [`Hub::flush`] has something to do.
    ///
    /// The tick is leading-edge: after a quiet window the first publication is due at once, those that follow are due
    /// together when the window is over.
    pub fn due(&self, now: Moment) -> Due {
        if !self.queue.is_empty() {
            Due::Now
        } else if !self.active.is_empty() {
            if now >= self.next_tick { Due::Now } else { Due::At(self.next_tick) }
        } else if !self.warm.is_empty() {
            if now >= self.cool { Due::Now } else { Due::Rest(self.cool) }
        } else {
            Due::Never
        }
    }

    /// Begins a tick if one is due, and serves one slice of the queue. Call it again while [`Hub::due`] says so,
    /// letting sockets be read in between.
    pub fn flush(&mut self, now: Moment, time: Timestamp, out: &mut impl Outbound) {
        self.give_back(now);
        if now >= self.next_tick && !self.active.is_empty() {
            let window = std::mem::replace(&mut self.next_tick, now + self.tick);
            if !self.begin_tick() {
                // Feeds came to rest and nothing is sent: a new window would only hold the next publication back.
                self.next_tick = window;
            }
        }
        self.slice += 1;
        let began = self.press.work();
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
            if bytes + self.press.work() - began >= SLICE_BYTES {
                break;
            }
        }
    }

    /// Serves one reader out of its turn: what is in its channels now, as far as its socket takes it and until it has cost
    /// as much as one slice may. A reader that leaves a channel, or goes, is to lose no more than what it was far behind in.
    pub fn catch_up(
        &mut self,
        reader: ReaderKey,
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> CaughtUp {
        // The heads of one slice stay where they are, so a reader arrives at them however fast others publish.
        self.slice += 1;
        self.give_back(now);
        let began = self.press.work();
        let mut bytes = 0;
        loop {
            let served = self.serve(reader, Ends::Heads, now, time, out);
            bytes += served.bytes as u64;
            let cost = bytes + self.press.work() - began;
            if !served.unfinished || cost >= SLICE_BYTES {
                if served.unfinished {
                    self.enqueue(reader);
                }
                return CaughtUp { cost, unfinished: served.unfinished };
            }
        }
    }

    /// The reader that was being served when [`Hub::flush`] or [`Hub::catch_up`] panicked. All others keep their
    /// cursors and their places in the queue; end this one before you call either of them again.
    pub fn interrupted(&mut self) -> Option<ReaderKey> {
        self.serving.take()
    }

    /// Gives back the pieces of the warm feeds when it is time, and those of all feeds when there may be too many.
    fn give_back(&mut self, now: Moment) {
        let too_many = self.press.work() - self.emptied >= PIECE_BYTES;
        if !self.warm.is_empty() && (too_many || now >= self.cool) {
            for key in self.warm.drain(..) {
                if let Some(feed) = self.feeds.get_mut(key as usize) {
                    feed.warm = false;
                    feed.pieces = Pieces::default();
                }
            }
        }
        if too_many {
            self.emptied = self.press.work();
            for &key in &self.active {
                if let Some(feed) = self.feeds.get_mut(key as usize) {
                    feed.pieces = Pieces::default();
                }
            }
        }
    }

    /// Puts the readers of every feed that has moved into the queue. A feed that has not moved since the last tick
    /// is armed again: only then does its next publication ring. `false` when none has moved.
    fn begin_tick(&mut self) -> bool {
        // The list stays in its place meanwhile: a feed that fell out of it would be silent for ever.
        let mut index = 0;
        while let Some(&key) = self.active.get(index) {
            if self.begin_feed(key) {
                index += 1;
            } else {
                self.active.swap_remove(index);
            }
        }
        index > 0
    }

    /// `false` when nothing new came since the last tick.
    fn begin_feed(&mut self, key: FeedKey) -> bool {
        let Some(feed) = self.feeds.get_mut(key as usize) else { return false };
        let mut top = feed.log.top();
        if top == feed.marked {
            feed.watcher.arm();
            top = feed.log.top();
            if top == feed.marked {
                feed.rest();
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
        let mut behind = self.behind(reader, ends, now);
        let served = match behind[..] {
            [] => Served::default(),
            [piece] => self.serve_one(reader, piece, now, time, out),
            _ => {
                // When not all fits into one frame, nobody's last channel is always the one that waits.
                let first = self.slice as usize % behind.len();
                behind.rotate_left(first);
                self.serve_several(reader, &behind, now, time, out)
            }
        };
        self.serving = None;
        if let Some(state) = self.readers.get_mut(reader as usize)
            && !served.unfinished
        {
            state.returning = false;
        }
        served
    }

    /// What a reader has not been given of its channels, unless its socket takes nothing.
    fn behind(&mut self, reader: ReaderKey, ends: Ends, now: Moment) -> SmallVec<[Piece; 8]> {
        let mut behind = SmallVec::new();
        let Some(state) = self.readers.get(reader as usize).filter(|state| !state.blocked) else {
            return behind;
        };
        let heads = ends == Ends::Heads || state.cursors.len() == 1;
        for (index, cursor) in state.cursors.iter().enumerate() {
            let feed = &mut self.feeds[cursor.feed as usize];
            let end = if heads { feed.look(self.slice) } else { feed.marked };
            if end > cursor.offset {
                if (state.returning || !feed.active) && !std::mem::replace(&mut feed.warm, true) {
                    if self.warm.is_empty() {
                        self.cool = now + WARM;
                    }
                    self.warm.push(cursor.feed);
                }
                let stretch = if state.returning {
                    Stretch::returning(cursor.offset, end)
                } else {
                    Stretch::whole(cursor.offset, end)
                };
                behind.push(Piece { index, stretch });
            }
        }
        behind
    }

    fn serve_one(
        &mut self,
        reader: ReaderKey,
        Piece { index, stretch }: Piece,
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> Served {
        let state = &mut self.readers[reader as usize];
        let cursor = &mut state.cursors[index];
        let feed = &mut self.feeds[cursor.feed as usize];
        let form = feed.form(state.form);
        let piece = feed.pieces.next(&feed.log, stretch, self.max_batch, &mut self.press);
        if piece.read.gap.is_some() && feed.log.retention().overrun == Overrun::Close {
            out.overrun(reader, feed.name.as_str());
            return Served::default();
        }
        let read = piece.read;
        let unfinished = read.cut || piece.end < stretch.end;
        if read.is_empty() {
            return Served::default();
        }
        let frame = self.press.frame(piece, &feed.log, feed.name.as_str(), form, time);
        let bytes = frame.len();
        let delivery = out.deliver(reader, Outgoing::Shared(frame));
        if delivery.is_taken() {
            cursor.offset = read.to;
            self.count(&read, now);
            self.counters.frames.add(1);
        }
        if delivery.is_blocked() {
            self.blocked(reader);
        }
        Served { bytes, unfinished: unfinished && delivery.is_taken() }
    }

    /// A reader that is behind in several channels gets one frame. What would make the frame too long waits for the
    /// reader's next turn.
    fn serve_several(
        &mut self,
        reader: ReaderKey,
        behind: &[Piece],
        now: Moment,
        time: Timestamp,
        out: &mut impl Outbound,
    ) -> Served {
        let state = &mut self.readers[reader as usize];
        let mut reads = SmallVec::<[(usize, Read); 8]>::new();
        let mut unfinished = false;
        self.composition.begin();
        for &Piece { index, stretch } in behind {
            let cursor = &state.cursors[index];
            let feed = &mut self.feeds[cursor.feed as usize];
            if self.composition.size() >= self.max_batch {
                unfinished = true;
                break;
            }
            let form = feed.form(state.form);
            let piece = feed.pieces.next(&feed.log, stretch, self.max_batch, &mut self.press);
            if piece.read.gap.is_some() && feed.log.retention().overrun == Overrun::Close {
                out.overrun(reader, feed.name.as_str());
                return Served::default();
            }
            self.composition.add(&mut self.press, piece, &feed.log, feed.name.as_str(), form);
            unfinished |= piece.read.cut || piece.end < stretch.end;
            reads.push((index, piece.read));
        }
        let frame = self.composition.finish(time);
        let bytes = frame.len();
        if bytes == 0 {
            return Served::default();
        }
        let delivery = out.deliver(reader, Outgoing::Own(frame));
        if delivery.is_taken() {
            for (index, read) in &reads {
                state.cursors[*index].offset = read.to;
            }
            for (_, read) in &reads {
                self.count(read, now);
            }
            self.counters.frames.add(1);
        }
        if delivery.is_blocked() {
            self.blocked(reader);
        }
        Served { bytes, unfinished: unfinished && delivery.is_taken() }
    }

    fn count(&self, read: &Read, now: Moment) {
        let counters = &self.counters;
        counters.delivered.add(u64::from(read.count));
        if let Some((from, to)) = read.gap {
            counters.gaps.add(1);
            counters.lost.add(to - from);
        }
        if let Some(oldest) = read.oldest {
            counters.lateness.record(now.since(oldest), 1);
        }
    }
}

/// Up to where a reader is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// To where many are served alike: the heads for readers of one channel, the heads of the last tick for readers of several.
    /// With ten channels each, every reader of a pass would else stand at an offset of its own in each of them, and
    /// nothing could be shared.
    Shared,
    Heads,
}

/// What became of one serving.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    bytes: usize,
    /// One frame was not enough for all of it.
    unfinished: bool,
}

/// What one reader is behind in: which of its cursors, and what it is to get.
#[derive(Clone, Copy, Debug)]
struct Piece {
    index: usize,
    stretch: Stretch,
}

impl Delivery {
    /// The bytes count as sent.
    fn is_taken(self) -> bool {
        matches!(self, Self::Sent | Self::Parked)
    }

    fn is_blocked(self) -> bool {
        matches!(self, Self::Parked | Self::Refused)
    }
}

/// Readers served before sockets are read again: about 1 ms at 4 µs per send.
const SLICE_READERS: usize = 256;

/// Bytes written, and work done for new pieces, before sockets are read again: about 1 ms at 4 GiB/s, and 10 ms where
/// all is compressed.
pub const SLICE_BYTES: u64 = 4 << 20;

/// Pieces of a feed at rest are kept for so long: readers that lost their connections together come back within
/// seconds, and share them.
const WARM: Duration = Duration::from_secs(1);

/// Bytes of pieces, in all their forms, that are kept for sharing.
const PIECE_BYTES: u64 = 64 << 20;
