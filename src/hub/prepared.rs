//! Frames made once and shared.
//!
//! Readers of a shard that stand at the same offset of the same channel get the same bytes. What is made here is one
//! piece of a log, from one offset to another, in every form that some reader wants: a whole frame, plain or
//! compressed, for readers that have this channel only; a bare run of updates for readers that get several channels
//! in one frame. Compressed runs are closed by a sync flush, so they can be put together without compressing again.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::broker::log::{Log, Read};
use crate::protocol::deflate::{Compressor, finish_segments, stored};
use crate::protocol::frame::{Opcode, encode_header};
use crate::protocol::message::{self, BATCH_PREFIX, Gap, Timestamp};

/// What a connection negotiated: nothing, or the largest window it can look back into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// permessage-deflate without context takeover; window bits 9 to 15.
    Deflated(u8),
}

/// One piece of a channel, and the forms of it that were asked for.
#[derive(Debug)]
pub struct Prepared {
    pub from: u64,
    /// How far it was asked for; the read may end before.
    pub end: u64,
    /// It ends where all come by that were further behind, wherever the head is.
    is_step: bool,
    pub read: Read,
    /// The updates, separated by commas.
    run: Bytes,
    frames: SmallVec<[(Form, Bytes); 2]>,
    /// `None` for a run that compression does not make smaller.
    segments: SmallVec<[(Form, Option<Bytes>); 1]>,
}

/// Makes frames. Owns the compressors, and the buffers they write to.
pub struct Press {
    level: u32,
    /// Window bits of our own compressors; smaller where a connection asked for less.
    window: u8,
    compressors: SmallVec<[(u8, Compressor); 1]>,
    payload: Vec<u8>,
    packed: Vec<u8>,
    /// Bytes of pieces that were made so far, and [`DEFLATE_WORK`] for each that was compressed: at least what those take
    /// that are kept.
    work: u64,
}

impl Press {
    pub fn new(level: u32, window: u8) -> Self {
        Self { level, window, compressors: SmallVec::new(), payload: Vec::new(), packed: Vec::new(), work: 0 }
    }

    /// The form that a connection with a negotiated window gets: windows above our own need no form of their own.
    pub fn form(&self, negotiated: Option<u8>) -> Form {
        negotiated.map_or(Form::Plain, |bits| Form::Deflated(bits.min(self.window)))
    }

    /// What has been done so far, in bytes that were copied; compressing one counts as [`DEFLATE_WORK`].
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Reads a piece of a log, ready to be formed.
    pub fn prepare(&mut self, log: &Log, from: u64, end: u64, max_bytes: usize) -> Prepared {
        self.payload.clear();
        let read = log.read(from, end, max_bytes, &mut self.payload);
        let run = Bytes::copy_from_slice(&self.payload);
        self.work += run.len() as u64;
        Prepared { from, end, is_step: false, read, run, frames: SmallVec::new(), segments: SmallVec::new() }
    }

    /// The frame for readers that get this piece alone.
    pub fn frame<'piece>(
        &mut self,
        piece: &'piece mut Prepared,
        channel: &Log,
        name: &str,
        form: Form,
        time: Timestamp,
    ) -> &'piece Bytes {
        let index = piece.frames.iter().position(|(other, _)| *other == form).unwrap_or_else(|| {
            let frame = self.whole(piece, channel, name, form, time);
            piece.frames.push((form, frame));
            piece.frames.len() - 1
        });
        &piece.frames[index].1
    }

    fn whole(&mut self, piece: &Prepared, channel: &Log, name: &str, form: Form, time: Timestamp) -> Bytes {
        let mut out = Vec::with_capacity(piece.run.len() + BATCH_PREFIX.len() + 96);
        if let Some((from, to)) = piece.read.gap {
            gap(name, channel, from, to, &mut out);
        }
        if piece.read.count > 0 {
            self.payload.clear();
            self.payload.extend_from_slice(BATCH_PREFIX);
            self.payload.extend_from_slice(&piece.run);
            message::batch_suffix(u64::from(piece.read.count), time, &mut self.payload);
            let payload = std::mem::take(&mut self.payload);
            self.work += payload.len() as u64;
            self.text(&payload, form, &mut out);
            self.payload = payload;
        }
        out.into()
    }

    /// Appends a text frame, compressed where that is wanted and worth it.
    pub fn text(&mut self, payload: &[u8], form: Form, out: &mut Vec<u8>) {
        self.message(Opcode::Text, payload, form, out);
    }

    /// Appends a message in one frame, compressed where that is wanted and worth it.
    pub fn message(&mut self, opcode: Opcode, payload: &[u8], form: Form, out: &mut Vec<u8>) {
        if let Form::Deflated(bits) = form
            && (WORTH_DEFLATING..=LONGEST_DEFLATED).contains(&payload.len())
        {
            let mut packed = std::mem::take(&mut self.packed);
            packed.clear();
            self.work += payload.len() as u64 * DEFLATE_WORK;
            self.compressor(bits).message(payload, &mut packed);
            let smaller = is_smaller(packed.len(), payload.len());
            if smaller {
                encode_header(opcode, true, true, packed.len(), out);
                out.extend_from_slice(&packed);
            }
            self.packed = packed;
            if smaller {
                return;
            }
        }
        encode_header(opcode, false, true, payload.len(), out);
        out.extend_from_slice(payload);
    }

    fn compressor(&mut self, bits: u8) -> &mut Compressor {
        let index = self.compressors.iter().position(|(other, _)| *other == bits).unwrap_or_else(|| {
            self.compressors.push((bits, Compressor::new(self.level, bits)));
            self.compressors.len() - 1
        });
        &mut self.compressors[index].1
    }
}

/// A frame of several pieces, put together for one connection. Nothing is compressed for it: runs that are worth it come
/// as shared segments, all text between them goes in stored blocks. Kept by the hub for its buffers.
#[derive(Debug, Default)]
pub struct Composition {
    /// Frames of gaps, which go before the batch; at the end the whole that is sent.
    out: Vec<u8>,
    /// Blocks so far; empty while everything is plain.
    blocks: Vec<u8>,
    /// Text behind the last block.
    text: Vec<u8>,
    count: u64,
}

impl Composition {
    pub fn begin(&mut self) {
        self.out.clear();
        self.blocks.clear();
        self.text.clear();
        self.text.extend_from_slice(BATCH_PREFIX);
        self.count = 0;
    }

    pub fn add(&mut self, press: &mut Press, piece: &mut Prepared, channel: &Log, name: &str, form: Form) {
        if let Some((from, to)) = piece.read.gap {
            gap(name, channel, from, to, &mut self.out);
        }
        if piece.read.count == 0 {
            return;
        }
        if self.count > 0 {
            self.text.push(b',');
        }
        self.count += u64::from(piece.read.count);
        match piece.segment(press, form) {
            Some(segment) => {
                stored(&self.text, &mut self.blocks);
                self.text.clear();
                self.blocks.extend_from_slice(&segment);
            }
            None => self.text.extend_from_slice(&piece.run),
        }
    }

    /// Ends the frame and gives everything to send.
    pub fn finish(&mut self, time: Timestamp) -> &[u8] {
        if self.count > 0 {
            message::batch_suffix(self.count, time, &mut self.text);
            let deflated = !self.blocks.is_empty();
            if deflated {
                stored(&self.text, &mut self.blocks);
                finish_segments(&mut self.blocks);
            }
            let payload = if deflated { &self.blocks } else { &self.text };
            encode_header(Opcode::Text, deflated, true, payload.len(), &mut self.out);
            self.out.extend_from_slice(payload);
        }
        &self.out
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.blocks.len() + self.text.len()
    }
}

/// The pieces of one channel that are in use.
#[derive(Debug, Default)]
pub struct Pieces(SmallVec<[Prepared; 1]>);

impl Pieces {
    /// The piece that a reader gets next. Nearly all readers stand at a few offsets, so a few pieces are enough; a channel
    /// whose readers are scattered prepares again.
    pub fn next(
        &mut self,
        log: &Log,
        stretch: Stretch,
        max_bytes: usize,
        press: &mut Press,
    ) -> &mut Prepared {
        let Stretch { from, step, end } = stretch;
        let mut index = self.find(log, (from, step), max_bytes, press);
        if step < end {
            if self.0[index].read.is_empty() {
                // Newer publications have replaced all in the step.
                index = self.find(log, (from, end), max_bytes, press);
            } else {
                self.0[index].is_step = true;
            }
        }
        &mut self.0[index]
    }

    fn find(&mut self, log: &Log, (from, end): (u64, u64), max_bytes: usize, press: &mut Press) -> usize {
        let found = self.0.iter().position(|piece| piece.from == from && piece.end == end);
        found.unwrap_or_else(|| {
            if self.0.len() >= PIECES {
                self.0.remove(0);
            }
            self.0.push(press.prepare(log, from, end, max_bytes));
            self.0.len() - 1
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the pieces that end where nobody reads to any more.
    pub fn keep_ends(&mut self, ends: [u64; 2]) {
        self.0.retain(|piece| piece.is_step || ends.contains(&piece.end));
    }
}

/// What one reader is to get of a channel: all behind `from`, up to `end`, and now up to `step`.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub from: u64,
    pub step: u64,
    pub end: u64,
}

impl Stretch {
    pub fn whole(from: u64, end: u64) -> Self {
        Self { from, step: end, end }
    }

    /// For a reader that comes back. When it is far behind, the step ends where a block does, the next steps at ever larger
    /// blocks and the last ones at smaller ones again, up to a head that may move meanwhile. So readers that come back from
    /// everywhere soon stand at the same few offsets, and share what is left.
    pub fn returning(from: u64, end: u64) -> Self {
        if end.saturating_sub(from) < NEAR {
            return Self::whole(from, end);
        }
        let mut block = BLOCK;
        while from.is_multiple_of(block) && block <= end {
            block *= GROWTH;
        }
        let mut step = (from / block + 1) * block;
        while step > end || step == from {
            block /= GROWTH;
            step = end / block * block;
        }
        Self { from, step, end }
    }
}

/// Pieces that a channel keeps at once: enough for a pass through the queue that takes 16 ticks, and for the steps of
/// readers that come back to a history of a thousand publications.
const PIECES: usize = 64;

/// Publications behind the end within which a reader that comes back gets all at once: four blocks.
const NEAR: u64 = 64;

/// Publications in the smallest block. Half of it is what each reader that comes back may have made for itself.
const BLOCK: u64 = 16;

/// Each block has so many of the next smaller ones.
const GROWTH: u64 = 8;

/// Compressing a byte counts as copying so many: about 100 MB/s, and what a slice may copy it may spend in 10 ms.
const DEFLATE_WORK: u64 = 4;

fn gap(name: &str, channel: &Log, from: u64, to: u64, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    let epoch = channel.epoch().to_string();
    message::gap(&Gap { channel: name, epoch: &epoch, from, to, reason: "overrun" }, &mut text);
    encode_header(Opcode::Text, false, true, text.len(), out);
    out.extend_from_slice(&text);
}

impl Prepared {
    /// The run as compressed blocks; `None` where it is sent plain.
    fn segment(&mut self, press: &mut Press, form: Form) -> Option<Bytes> {
        let Form::Deflated(bits) = form else { return None };
        if !(WORTH_DEFLATING..=LONGEST_DEFLATED).contains(&self.run.len()) {
            return None;
        }
        if let Some((_, segment)) = self.segments.iter().find(|(other, _)| *other == form) {
            return segment.clone();
        }
        let mut packed = std::mem::take(&mut press.packed);
        packed.clear();
        press.work += self.run.len() as u64 * DEFLATE_WORK;
        press.compressor(bits).segment(&self.run, &mut packed);
        let segment = is_smaller(packed.len(), self.run.len()).then(|| Bytes::copy_from_slice(&packed));
        press.packed = packed;
        self.segments.push((form, segment.clone()));
        segment
    }
}

/// Whether compressing has gained a tenth; else the reader is spared the work.
fn is_smaller(packed: usize, plain: usize) -> bool {
    packed + plain / 10 < plain
}

/// Shorter texts are sent as they are: resetting a compressor clears 128 KiB, which costs more than it saves.
const WORTH_DEFLATING: usize = 256;

/// Longer texts are sent as they are: compressing one would keep the whole shard waiting, about 10 ms per MiB.
const LONGEST_DEFLATED: usize = 1 << 20;
