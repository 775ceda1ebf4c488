//! One channel as one shard sees it: its log, its readers here, and the frames that were made for them.
//!
//! All readers of a shard that are at the same offset of the same channel get the same bytes. A [`PreparedRead`] holds
//! the updates from one offset to another, in every form that some reader needs: a whole frame per wire for readers of
//! this channel only, and a compressed segment per wire for readers that get several channels in one frame. A segment
//! ends with a sync flush, so segments can be put together without compressing again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::broker::{End, Log, LogRead, Place, Watcher};
use crate::channel::ChannelName;
use crate::hub::encoder::FrameEncoder;
use crate::hub::keys::ReaderKey;
use crate::hub::read_plan::ReadPlan;
use crate::hub::singles::{Single, Singles};
use crate::position::{Gap, Position};
use crate::protocol::event_stream::{ChannelHash, StreamPositions};
use crate::protocol::message::{BATCH_PREFIX, ServerMessage, Timestamp, batch_suffix};
use crate::protocol::wire::{MessageKind, Wire};
use crate::publication;
use crate::rules::Overrun;

/// A channel that has readers in this shard.
#[derive(Debug)]
pub(super) struct Feed {
    pub name: ChannelName,
    /// What stands for the name in the ids of event streams.
    pub hash: ChannelHash,
    pub log: Arc<Log>,
    pub watcher: Arc<Watcher>,
    pub readers: Vec<ReaderKey>,
    /// Top of the log when it was last read.
    pub top: Place,
    /// The slice in which that was.
    pub slice: u64,
    /// Top of the log when the readers were last put into the queue.
    pub marked: Place,
    /// It is in the hub's list of active feeds.
    pub active: bool,
    /// It is in the hub's list of warm feeds.
    pub warm: bool,
    /// It is in the hub's list of crowded and finished feeds.
    pub crowded: bool,
    pub frames: FrameCache,
    /// Readers of a state that have begun at its beginning and were not at its end since.
    beginnings: HashMap<ReaderKey, Beginning>,
}

/// What a reader of a state needs while it reads all of that.
#[derive(Clone, Copy, Debug)]
struct Beginning {
    /// The lowest end of the log of all that it was given. What was removed up to there it never got.
    since: Place,
    /// How often it had to begin anew.
    resets: u8,
}

impl Feed {
    pub fn new(name: ChannelName, log: Arc<Log>, watcher: Arc<Watcher>) -> Self {
        let top = log.top();
        Self {
            hash: ChannelHash::of(name.as_str()),
            name,
            log,
            watcher,
            readers: Vec::new(),
            top,
            slice: 0,
            marked: top,
            active: false,
            warm: false,
            crowded: false,
            frames: FrameCache::default(),
            beginnings: HashMap::new(),
        }
    }

    /// Up to where a reader needs no removals, besides its cursor.
    pub fn since(&self, reader: ReaderKey) -> Place {
        self.beginnings.get(&reader).map_or(Place::default(), |beginning| beginning.since)
    }

    /// Whether a reader that has lost something is to be closed.
    pub fn gives_up(&self, reader: ReaderKey) -> bool {
        let resets = self.beginnings.get(&reader).map_or(0, |beginning| beginning.resets);
        self.log.retention().overrun == Overrun::Close || resets >= MOST_RESETS
    }

    /// Notes what a reader of a state was given.
    pub fn given(&mut self, reader: ReaderKey, from: Place, read: &LogRead) {
        if !self.log.retention().is_state() {
            return;
        }
        if read.to >= read.top {
            self.beginnings.remove(&reader);
        } else if read.gap.is_some() || from.offset() == 0 {
            let resets = self.beginnings.get(&reader).map_or(0, |beginning| beginning.resets);
            let resets = resets + u8::from(read.gap.is_some());
            self.beginnings.insert(reader, Beginning { since: read.top, resets });
        } else if let Some(beginning) = self.beginnings.get_mut(&reader) {
            beginning.since = beginning.since.min(read.top);
        }
    }

    /// A reader begins anew, or leaves.
    pub fn forget_beginning(&mut self, reader: ReaderKey) {
        self.beginnings.remove(&reader);
    }

    /// Top of the log, read once per slice: neighbours in a slice see the same top and share a frame.
    pub fn top_in(&mut self, slice: u64) -> Place {
        if self.slice != slice {
            self.slice = slice;
            let top = self.log.top();
            if top != self.top {
                self.top = top;
                self.frames.keep_ends([self.top, self.marked]);
            }
        }
        self.top
    }

    /// Notes the top of the log at the beginning of a tick.
    pub fn mark(&mut self, top: Place) {
        self.marked = top;
        self.frames.keep_ends([self.top, self.marked]);
    }

    /// How this channel is sent to a reader with this wire: a channel may be declared without compression.
    pub fn wire(&self, reader: Wire) -> Wire {
        if self.log.retention().compress { reader } else { reader.plain() }
    }

    /// Nothing new came for a tick: the frames are dropped.
    pub fn rest(&mut self) {
        self.active = false;
        self.frames = FrameCache::default();
    }
}

/// Holds the frames that readers of a channel share. Nearly all readers are at a few offsets, so few entries are enough.
/// Where they are not, a read is prepared again.
#[derive(Debug, Default)]
pub(super) struct FrameCache(SmallVec<[PreparedRead; 1]>);

impl FrameCache {
    /// What a reader with this plan gets next. Of a state it needs no removals up to `since`.
    pub fn next(
        &mut self,
        log: &Log,
        plan: ReadPlan,
        since: Place,
        max_bytes: usize,
        encoder: &mut FrameEncoder,
    ) -> &mut PreparedRead {
        let ReadPlan { from, step, end } = plan;
        let is_state = log.retention().is_state();
        if is_state {
            // A reader of one that ended before would lack what is forgotten, get all anew, and perhaps the same read again.
            let forgotten = log.forgotten();
            self.0.retain(|prepared| forgotten <= prepared.read.top);
        }
        // A state is right only where a read comes to the end of the log: who reads several channels would never be there while one
        // of them changes.
        let whole = if is_state { End::Top } else { End::At(end) };
        let mut index = 0;
        let mut is_step = step < end;
        if is_step {
            index = self.find(log, (from, step), End::At(step), max_bytes, encoder);
            // Newer publications may have replaced all in the step.
            is_step = !self.0[index].read.is_empty();
            self.0[index].is_step = is_step;
        }
        if !is_step {
            index = self.find(log, (from, end), whole, max_bytes, encoder);
        }
        let read = &self.0[index].read;
        if is_state && from.offset() > 0 && read.gap.is_none() && read.forgotten > from.max(since) {
            index = self.find(log, (from, end), End::Anew, max_bytes, encoder);
        }
        &mut self.0[index]
    }

    /// `how` is how far it is read, to get to `end`.
    fn find(
        &mut self,
        log: &Log,
        (from, end): (Place, Place),
        how: End,
        max_bytes: usize,
        encoder: &mut FrameEncoder,
    ) -> usize {
        let is_anew = how == End::Anew;
        let is_it = |prepared: &PreparedRead| {
            prepared.from == from && prepared.end == end && prepared.is_anew == is_anew
        };
        self.0.iter().position(is_it).unwrap_or_else(|| {
            if self.0.len() >= CACHED_READS {
                self.0.remove(0);
            }
            self.0.push(PreparedRead::new(log, (from, end), how, max_bytes, encoder));
            self.0.len() - 1
        })
    }

    /// Drops the reads that end where no reader stops any more.
    pub fn keep_ends(&mut self, ends: [Place; 2]) {
        self.0.retain(|prepared| prepared.is_step || ends.contains(&prepared.end));
    }
}

/// One read of a log, and what was made of it.
#[derive(Debug)]
pub(super) struct PreparedRead {
    from: Place,
    /// How far it was asked for. The read may have ended before; that of a state also later.
    pub end: Place,
    /// All of a state, for readers that were at `from`.
    is_anew: bool,
    /// Readers that come back stop at its end, wherever the top of the log is.
    is_step: bool,
    pub read: LogRead,
    /// Separated by commas.
    pub updates: Bytes,
    frames: SmallVec<[(Wire, Bytes); 2]>,
    /// Found when the first reader needs them one by one.
    singles: Option<Singles>,
    /// `None` for updates that are sent plain.
    segments: SmallVec<[(Wire, Option<Bytes>); 1]>,
}

impl PreparedRead {
    fn new(
        log: &Log,
        (from, end): (Place, Place),
        how: End,
        max_bytes: usize,
        encoder: &mut FrameEncoder,
    ) -> Self {
        encoder.text.clear();
        let read = log.read(from, how, max_bytes, &mut encoder.text);
        let updates = Bytes::copy_from_slice(&encoder.text);
        encoder.work += updates.len() as u64;
        encoder.made += updates.len() as u64;
        Self {
            from,
            end,
            is_anew: how == End::Anew,
            is_step: false,
            read,
            updates,
            frames: SmallVec::new(),
            singles: None,
            segments: SmallVec::new(),
        }
    }

    /// The frame for readers that get this channel alone.
    pub fn frame(
        &mut self,
        encoder: &mut FrameEncoder,
        channel: &str,
        hash: ChannelHash,
        wire: Wire,
        time: Timestamp,
    ) -> &Bytes {
        let index = self.frames.iter().position(|(other, _)| *other == wire).unwrap_or_else(|| {
            if wire.is_single() {
                self.find_singles(channel);
            }
            let frame = self.encode(encoder, channel, hash, wire, time);
            encoder.made += frame.len() as u64;
            self.frames.push((wire, frame));
            self.frames.len() - 1
        });
        &self.frames[index].1
    }

    fn encode(
        &self,
        encoder: &mut FrameEncoder,
        channel: &str,
        hash: ChannelHash,
        wire: Wire,
        time: Timestamp,
    ) -> Bytes {
        let mut out = Vec::with_capacity(self.updates.len() + BATCH_PREFIX.len() + 192);
        let id = |position| {
            let mut id = Vec::new();
            if wire.has_ids() {
                StreamPositions::write_one(hash, position, &mut id);
            }
            id
        };
        if let Some(gap) = &self.read.gap {
            self.gap(channel, &id(gap.position()), wire, &mut out);
        }
        if wire.is_single() {
            for Single { text, offset, event } in self.singles() {
                let position = Position { epoch: self.read.epoch, offset };
                wire.update(event, text, &id(position), &mut out);
            }
        } else if self.read.count > 0 {
            let mut text = std::mem::take(&mut encoder.text);
            text.clear();
            text.extend_from_slice(BATCH_PREFIX);
            text.extend_from_slice(&self.updates);
            batch_suffix(u64::from(self.read.count), time, &mut text);
            encoder.work += text.len() as u64;
            if wire.has_ids() {
                wire.text_with_id(&text, &id(self.read.position()), &mut out);
            } else {
                encoder.message(MessageKind::Text, &text, wire, &mut out);
            }
            encoder.text = text;
        }
        out.into()
    }

    /// Looks for the updates one by one. The channel is that of the read.
    pub fn find_singles(&mut self, channel: &str) {
        if self.singles.is_none() {
            self.singles = Some(Singles::find(&self.updates, publication::prefix(channel).len()));
        }
    }

    /// The updates one by one, after [`PreparedRead::find_singles`].
    pub fn singles(&self) -> impl Iterator<Item = Single<'_>> {
        self.singles.iter().flat_map(|singles| singles.of(&self.updates))
    }

    /// Appends the message about the gap, when there is one.
    pub fn gap(&self, channel: &str, id: &[u8], wire: Wire, out: &mut Vec<u8>) {
        let Some(Gap { from, to, epoch, reason, top }) = self.read.gap else { return };
        let mut text = Vec::new();
        ServerMessage::Gap { channel, epoch, from, to, top, reason: reason.name() }.write(&mut text);
        wire.text_with_id(&text, id, out);
    }

    /// The updates as a compressed segment. `None` where they are sent plain.
    pub fn segment(&mut self, encoder: &mut FrameEncoder, wire: Wire) -> Option<&Bytes> {
        wire.window()?;
        let index = self.segments.iter().position(|(other, _)| *other == wire).unwrap_or_else(|| {
            self.segments.push((wire, encoder.segment(&self.updates, wire)));
            self.segments.len() - 1
        });
        self.segments[index].1.as_ref()
    }
}

/// A reader of a state that had to begin anew so often, and then would again, is closed.
const MOST_RESETS: u8 = 3;

/// Prepared reads that a channel keeps at once. Enough for a pass through the queue that takes 16 ticks, and for the
/// steps of readers that come back to a history of a thousand publications.
const CACHED_READS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Notify;
    use crate::position::Epoch;
    use crate::rules::{Mode, Retention};

    struct Deaf;

    impl Notify for Deaf {
        fn notify(&self) {}
    }

    #[test]
    fn a_reader_needs_removals_above_the_lowest_end_that_a_read_of_its_has_seen() {
        let name = ChannelName::new("a").expect("a legal name");
        let start = Position { epoch: Epoch::new(1), offset: 0 };
        let log = Arc::new(Log::new(&name, start, Retention { mode: Mode::State, ..Retention::default() }));
        let (watcher, _) = log.watch(Arc::new(Deaf));
        let mut feed = Feed::new(name, Arc::clone(&log), watcher);
        let at = |offset| Place::default().with_offset(offset);
        let read = |to, top| LogRead {
            to: at(to),
            top: at(top),
            ..log.read(Place::default(), End::Top, usize::MAX, &mut Vec::new())
        };
        feed.given(7, at(0), &read(4, 90));
        assert_eq!((feed.since(7), feed.since(8)), (at(90), at(0)));
        // A read that was made before the first one may be shared after it.
        feed.given(7, at(4), &read(8, 60));
        feed.given(7, at(8), &read(12, 95));
        assert_eq!(feed.since(7), at(60));
        feed.given(7, at(12), &read(95, 95));
        assert_eq!(feed.since(7), at(0), "it is as everybody");
        feed.given(7, at(95), &read(97, 99));
        assert_eq!(feed.since(7), at(0));
    }
}
