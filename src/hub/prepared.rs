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
    pub read: Read,
    /// The updates, separated by commas.
    run: Bytes,
    frames: SmallVec<[(Form, Bytes); 2]>,
    segments: SmallVec<[(Form, Bytes); 1]>,
}

/// Makes frames. Owns the compressors, and the buffers they write to.
pub struct Press {
    level: u32,
    /// Window bits of our own compressors; smaller where a connection asked for less.
    window: u8,
    compressors: SmallVec<[(u8, Compressor); 1]>,
    payload: Vec<u8>,
    packed: Vec<u8>,
}

impl Press {
    pub fn new(level: u32, window: u8) -> Self {
        Self { level, window, compressors: SmallVec::new(), payload: Vec::new(), packed: Vec::new() }
    }

    /// The form that a connection with a negotiated window gets: windows above our own need no form of their own.
    pub fn form(&self, negotiated: Option<u8>) -> Form {
        negotiated.map_or(Form::Plain, |bits| Form::Deflated(bits.min(self.window)))
    }

    /// Reads a piece of a log, ready to be formed.
    pub fn prepare(&mut self, log: &Log, from: u64, max_bytes: usize) -> Prepared {
        self.payload.clear();
        let read = log.read(from, max_bytes, &mut self.payload);
        let run = Bytes::copy_from_slice(&self.payload);
        Prepared { from, read, run, frames: SmallVec::new(), segments: SmallVec::new() }
    }

    /// The frame for readers that get this piece alone.
    pub fn frame(
        &mut self,
        piece: &mut Prepared,
        channel: &Log,
        name: &str,
        form: Form,
        time: Timestamp,
    ) -> Bytes {
        if let Some((_, frame)) = piece.frames.iter().find(|(other, _)| *other == form) {
            return frame.clone();
        }
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
            self.text(&payload, form, &mut out);
            self.payload = payload;
        }
        let frame = Bytes::from(out);
        piece.frames.push((form, frame.clone()));
        frame
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
            self.compressor(bits).message(payload, &mut packed);
            let smaller = packed.len() + payload.len() / 10 < payload.len();
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

/// A frame of several pieces, put together for one connection. Nothing is compressed for it: short joints go in
/// stored blocks, runs come as shared segments. Kept by the hub for its buffers.
#[derive(Debug, Default)]
pub struct Composition {
    /// Frames of gaps, which go before the batch; at the end the whole that is sent.
    out: Vec<u8>,
    payload: Vec<u8>,
    count: u64,
}

impl Composition {
    pub fn begin(&mut self, form: Form) {
        self.out.clear();
        self.payload.clear();
        self.count = 0;
        self.literal(form, BATCH_PREFIX);
    }

    pub fn add(&mut self, press: &mut Press, piece: &mut Prepared, channel: &Log, name: &str, form: Form) {
        if let Some((from, to)) = piece.read.gap {
            gap(name, channel, from, to, &mut self.out);
        }
        if piece.read.count == 0 {
            return;
        }
        if self.count > 0 {
            self.literal(form, b",");
        }
        self.count += u64::from(piece.read.count);
        match form {
            Form::Plain => self.payload.extend_from_slice(&piece.run),
            Form::Deflated(bits) => self.payload.extend_from_slice(&piece.segment(press, bits)),
        }
    }

    /// Ends the frame and gives everything to send.
    pub fn finish(&mut self, form: Form, time: Timestamp) -> &[u8] {
        if self.count > 0 {
            let mut suffix = Vec::with_capacity(64);
            message::batch_suffix(self.count, time, &mut suffix);
            self.literal(form, &suffix);
            let deflated = matches!(form, Form::Deflated(_));
            if deflated {
                finish_segments(&mut self.payload);
            }
            encode_header(Opcode::Text, deflated, true, self.payload.len(), &mut self.out);
            self.out.extend_from_slice(&self.payload);
        }
        &self.out
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.payload.len()
    }

    fn literal(&mut self, form: Form, text: &[u8]) {
        match form {
            Form::Plain => self.payload.extend_from_slice(text),
            Form::Deflated(_) => stored(text, &mut self.payload),
        }
    }
}

/// The pieces of one channel that are in use.
#[derive(Debug, Default)]
pub struct Pieces(SmallVec<[Prepared; 1]>);

impl Pieces {
    /// The piece that begins at an offset. Nearly all readers stand at one or two offsets, so a few pieces are enough;
    /// a channel whose readers are scattered prepares again.
    pub fn from(&mut self, log: &Log, from: u64, max_bytes: usize, press: &mut Press) -> &mut Prepared {
        let found = self.0.iter().position(|piece| piece.from == from);
        let index = found.unwrap_or_else(|| {
            if self.0.len() >= PIECES {
                self.0.remove(0);
            }
            self.0.push(press.prepare(log, from, max_bytes));
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// Forgets all, because the head has moved.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Pieces that a channel keeps at once.
const PIECES: usize = 4;

fn gap(name: &str, channel: &Log, from: u64, to: u64, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    let epoch = channel.epoch().to_string();
    message::gap(&Gap { channel: name, epoch: &epoch, from, to, reason: "overrun" }, &mut text);
    encode_header(Opcode::Text, false, true, text.len(), out);
    out.extend_from_slice(&text);
}

impl Prepared {
    fn segment(&mut self, press: &mut Press, bits: u8) -> Bytes {
        let form = Form::Deflated(bits);
        if let Some((_, segment)) = self.segments.iter().find(|(other, _)| *other == form) {
            return segment.clone();
        }
        let mut packed = std::mem::take(&mut press.packed);
        packed.clear();
        if self.run.len() >= WORTH_DEFLATING {
            press.compressor(bits).segment(&self.run, &mut packed);
        } else {
            stored(&self.run, &mut packed);
        }
        let segment = Bytes::copy_from_slice(&packed);
        press.packed = packed;
        self.segments.push((form, segment.clone()));
        segment
    }
}

/// Shorter texts are sent as they are: resetting a compressor clears 128 KiB, which costs more than it saves.
const WORTH_DEFLATING: usize = 256;

/// Longer texts are sent as they are: compressing one would keep the whole shard waiting, about 10 ms per MiB.
const LONGEST_DEFLATED: usize = 1 << 20;
