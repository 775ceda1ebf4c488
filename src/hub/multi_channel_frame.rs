//! One frame with updates of several channels.

use smallvec::SmallVec;

use crate::hub::encoder::FrameEncoder;
use crate::hub::feed::PreparedRead;
use crate::hub::singles::Single;
use crate::position::Position;
use crate::protocol::deflate::{finish_segments, stored};
use crate::protocol::event_stream::{ChannelHash, StreamPositions};
use crate::protocol::message::{BATCH_PREFIX, Timestamp, batch_suffix};
use crate::protocol::wire::{MessageKind, Wire};

/// Puts a frame together for one connection from parts that are shared. Nothing is compressed for it: updates that are
/// worth it come as shared segments, and the text between them goes in stored blocks. The hub keeps one of these for
/// its buffers.
#[derive(Debug, Default)]
pub(super) struct MultiChannelFrame {
    /// Messages about gaps, which go before the updates. In the end everything that is sent.
    out: Vec<u8>,
    /// DEFLATE blocks so far. Empty while everything is plain.
    blocks: Vec<u8>,
    /// Text after the last block.
    text: Vec<u8>,
    count: u64,
    /// What the id of an event stream says after the messages so far.
    positions: StreamPositions,
    /// What it says after the updates.
    reached: SmallVec<[(ChannelHash, Position); 8]>,
    id: Vec<u8>,
}

impl MultiChannelFrame {
    /// Begins a frame. `told` is how far an event stream has told its client.
    pub fn begin(&mut self, told: Option<&StreamPositions>) {
        self.out.clear();
        self.blocks.clear();
        self.text.clear();
        self.text.extend_from_slice(BATCH_PREFIX);
        self.count = 0;
        if let Some(told) = told {
            self.positions.copy(told);
            self.reached.clear();
        }
    }

    /// How far the client of an event stream is when it has this frame.
    pub fn positions(&self) -> &StreamPositions {
        &self.positions
    }

    /// Adds one channel. `wire` is how this channel is sent to the reader.
    pub fn add(
        &mut self,
        encoder: &mut FrameEncoder,
        prepared: &mut PreparedRead,
        (channel, hash): (&str, ChannelHash),
        wire: Wire,
    ) {
        if wire.has_ids() {
            // A gap and the id that moves past it are one event. The updates of the channels before it are still to come.
            self.reached.push((hash, prepared.read.position()));
            if let Some(gap) = &prepared.read.gap {
                self.positions.tell(hash, gap.position());
                self.write_id();
            }
        }
        prepared.gap(channel, &self.id, wire, &mut self.out);
        if wire.is_single() {
            prepared.find_singles(channel);
            for Single { text, offset, event } in prepared.singles() {
                self.positions.tell(hash, Position { epoch: prepared.read.epoch, offset });
                self.write_id();
                wire.update(event, text, &self.id, &mut self.out);
            }
            return;
        }
        if prepared.read.count == 0 {
            return;
        }
        if self.count > 0 {
            self.text.push(b',');
        }
        self.count += u64::from(prepared.read.count);
        match prepared.segment(encoder, wire) {
            Some(segment) => {
                stored(&self.text, &mut self.blocks);
                self.text.clear();
                self.blocks.extend_from_slice(segment);
            }
            None => self.text.extend_from_slice(&prepared.updates),
        }
    }

    /// Ends the frame. Returns everything to send on the reader's wire.
    pub fn finish(&mut self, wire: Wire, time: Timestamp) -> &[u8] {
        if wire.has_ids() {
            for (hash, position) in self.reached.drain(..) {
                self.positions.tell(hash, position);
            }
            self.write_id();
        }
        if self.count > 0 {
            batch_suffix(self.count, time, &mut self.text);
            if self.blocks.is_empty() {
                wire.text_with_id(&self.text, &self.id, &mut self.out);
            } else {
                stored(&self.text, &mut self.blocks);
                finish_segments(&mut self.blocks);
                wire.compressed(MessageKind::Text, &self.blocks, &mut self.out);
            }
        }
        &self.out
    }

    fn write_id(&mut self) {
        self.id.clear();
        self.positions.write(&mut self.id);
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.blocks.len() + self.text.len() + self.out.len()
    }
}
