//! How far event streams have told their clients: what the ids of their events say.

use slab::Slab;

use crate::hub::feed::Feed;
use crate::hub::keys::ReaderKey;
use crate::hub::multi_channel_frame::MultiChannelFrame;
use crate::hub::reader::{Cursor, Reader};
use crate::protocol::event_stream::{ChannelHash, StreamPositions};
use crate::protocol::wire::Wire;

/// The streams among the readers. Empty while there is none.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Option<Box<Stream>>>);

/// What the hub knows of an event stream beside its cursors.
#[derive(Debug)]
struct Stream {
    /// While the stream shares its frames, its cursor counts.
    told: StreamPositions,
    /// One bit for each channel in which nothing more comes.
    finished: u32,
}

impl Streams {
    fn get_mut(&mut self, reader: ReaderKey) -> Option<&mut Stream> {
        self.0.get_mut(reader as usize)?.as_deref_mut()
    }

    /// The positions of a stream.
    pub fn of(&self, reader: ReaderKey) -> Option<&StreamPositions> {
        Some(&self.0.get(reader as usize)?.as_deref()?.told)
    }

    /// The client was given a frame.
    pub fn told(&mut self, reader: ReaderKey, frame: &MultiChannelFrame) {
        if let Some(stream) = self.get_mut(reader) {
            stream.told.copy(frame.positions());
        }
    }

    pub fn add(&mut self, reader: ReaderKey, told: StreamPositions) {
        let index = reader as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Box::new(Stream { told, finished: 0 }));
    }

    pub fn remove(&mut self, reader: ReaderKey) {
        if let Some(stream) = self.0.get_mut(reader as usize) {
            *stream = None;
        }
    }

    /// Notes that nothing more comes in a channel, and that the client of this stream has all of it. Returns `true` when that is so
    /// of all its channels.
    pub fn note_finished(&mut self, reader: ReaderKey, channel: ChannelHash) -> bool {
        let Some(stream) = self.get_mut(reader) else { return false };
        if let Some(index) = stream.told.find(channel) {
            stream.finished |= 1 << index;
        }
        stream.finished.count_ones() as usize == stream.told.len()
    }

    /// Notes how far the cursors of a stream are. For other readers it does nothing.
    pub fn note_cursors(&mut self, reader: ReaderKey, cursors: &[Cursor], feeds: &Slab<Feed>) {
        let Some(stream) = self.get_mut(reader) else { return };
        for cursor in cursors {
            let feed = &feeds[cursor.feed as usize];
            stream.told.tell(feed.hash, feed.log.position_of(cursor.place));
        }
    }

    /// Notes that a reader begins in a channel. One that is not of its stream has no place in the ids, so the stream shares no
    /// frames any more.
    pub fn note_begin(&mut self, reader: ReaderKey, state: &mut Reader, index: usize, feeds: &Slab<Feed>) {
        let Some(stream) = self.get_mut(reader) else { return };
        let Cursor { feed, place, .. } = state.cursors[index];
        let feed = &feeds[feed as usize];
        stream.told.tell(feed.hash, feed.log.position_of(place));
        if stream.told.find(feed.hash).is_none()
            && let Wire::Events { alone, .. } = &mut state.wire
        {
            *alone = false;
            self.note_cursors(reader, &state.cursors, feeds);
        }
    }
}
