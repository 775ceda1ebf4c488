//! One frame with updates of several channels.

use crate::hub::encoder::FrameEncoder;
use crate::hub::feed::PreparedRead;
use crate::protocol::deflate::{finish_segments, stored};
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
}

impl MultiChannelFrame {
    pub fn begin(&mut self) {
        self.out.clear();
        self.blocks.clear();
        self.text.clear();
        self.text.extend_from_slice(BATCH_PREFIX);
        self.count = 0;
    }

    /// Adds one channel. `wire` is how this channel is sent to the reader.
    pub fn add(
        &mut self,
        encoder: &mut FrameEncoder,
        prepared: &mut PreparedRead,
        channel: &str,
        wire: Wire,
    ) {
        prepared.gap(channel, wire, &mut self.out);
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
        if self.count > 0 {
            batch_suffix(self.count, time, &mut self.text);
            if self.blocks.is_empty() {
                wire.text(&self.text, &mut self.out);
            } else {
                stored(&self.text, &mut self.blocks);
                finish_segments(&mut self.blocks);
                wire.compressed(MessageKind::Text, &self.blocks, &mut self.out);
            }
        }
        &self.out
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.blocks.len() + self.text.len()
    }
}
