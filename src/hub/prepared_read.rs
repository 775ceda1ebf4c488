//! Frames made once and shared.
//!
//! All readers of a shard that are at the same offset of the same channel get the same bytes. A [`PreparedRead`] holds
//! the updates from one offset to another, in every form that some reader needs: a whole frame per wire for readers of
//! this channel only, and a compressed segment per wire for readers that get several channels in one frame. A segment
//! ends with a sync flush, so segments can be put together without compressing again.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::broker::log::{Log, Read};
use crate::hub::encoder::FrameEncoder;
use crate::protocol::message::{self, BATCH_PREFIX, Gap, Timestamp};
use crate::protocol::wire::{MessageKind, Wire};

/// One read of a log, and what was made of it.
#[derive(Debug)]
pub(super) struct PreparedRead {
    pub from: u64,
    /// How far it was asked for. The read may have ended before.
    pub end: u64,
    /// Readers that come back stop at its end, wherever the top of the log is.
    pub is_step: bool,
    pub read: Read,
    /// Separated by commas.
    pub updates: Bytes,
    frames: SmallVec<[(Wire, Bytes); 2]>,
    /// `None` for updates that are sent plain.
    segments: SmallVec<[(Wire, Option<Bytes>); 1]>,
}

impl PreparedRead {
    pub fn new(log: &Log, from: u64, end: u64, max_bytes: usize, encoder: &mut FrameEncoder) -> Self {
        encoder.text.clear();
        let read = log.read(from, end, max_bytes, &mut encoder.text);
        let updates = Bytes::copy_from_slice(&encoder.text);
        encoder.work += updates.len() as u64;
        encoder.made += updates.len() as u64;
        Self { from, end, is_step: false, read, updates, frames: SmallVec::new(), segments: SmallVec::new() }
    }

    /// The frame for readers that get this channel alone.
    pub fn frame(
        &mut self,
        encoder: &mut FrameEncoder,
        log: &Log,
        channel: &str,
        wire: Wire,
        time: Timestamp,
    ) -> &Bytes {
        let index = self.frames.iter().position(|(other, _)| *other == wire).unwrap_or_else(|| {
            let frame = self.encode(encoder, log, channel, wire, time);
            encoder.made += frame.len() as u64;
            self.frames.push((wire, frame));
            self.frames.len() - 1
        });
        &self.frames[index].1
    }

    fn encode(
        &self,
        encoder: &mut FrameEncoder,
        log: &Log,
        channel: &str,
        wire: Wire,
        time: Timestamp,
    ) -> Bytes {
        let mut out = Vec::with_capacity(self.updates.len() + BATCH_PREFIX.len() + 96);
        self.gap(log, channel, wire, &mut out);
        if self.read.count > 0 {
            let mut text = std::mem::take(&mut encoder.text);
            text.clear();
            text.extend_from_slice(BATCH_PREFIX);
            text.extend_from_slice(&self.updates);
            message::batch_suffix(u64::from(self.read.count), time, &mut text);
            encoder.work += text.len() as u64;
            encoder.message(MessageKind::Text, &text, wire, &mut out);
            encoder.text = text;
        }
        out.into()
    }

    /// Appends the message that tells a reader what will not come, when there is something.
    pub fn gap(&self, log: &Log, channel: &str, wire: Wire, out: &mut Vec<u8>) {
        let Some((from, to)) = self.read.gap else { return };
        let mut text = Vec::new();
        let epoch = log.epoch().to_string();
        message::gap(&Gap { channel, epoch: &epoch, from, to, reason: "overrun" }, &mut text);
        wire.text(&text, out);
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
