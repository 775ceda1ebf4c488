//! Messages to frames, compressed where that is wanted and worth it.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::deflate::Compressor;
use crate::protocol::wire::{MessageKind, Wire};

/// Makes frames. Owns the compressors of a shard, and the buffers they write to.
pub struct FrameEncoder {
    level: u32,
    /// Window bits of our own compressors. A connection may ask for fewer.
    window: u8,
    compressors: SmallVec<[(u8, Compressor); 1]>,
    /// For a text while it is put together.
    pub(super) text: Vec<u8>,
    packed: Vec<u8>,
    /// Bytes that were copied, and [`DEFLATE_WORK`] for each that was compressed.
    pub(super) work: u64,
    /// Bytes that were made for the caches of frames.
    pub(super) made: u64,
}

impl FrameEncoder {
    /// `level` is 1 (fast) to 9, `window` 9 to 15 bits.
    pub fn new(level: u32, window: u8) -> Self {
        Self {
            level,
            window,
            compressors: SmallVec::new(),
            text: Vec::new(),
            packed: Vec::new(),
            work: 0,
            made: 0,
        }
    }

    /// The wire of a WebSocket that negotiated this window, or no compression. Windows larger than our own need no
    /// frames of their own.
    pub fn wire(&self, negotiated: Option<u8>) -> Wire {
        Wire::WebSocket { window: negotiated.map(|bits| bits.min(self.window)) }
    }

    /// All work so far, in bytes that were copied. Compressing a byte counts as copying four.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Appends a message, compressed where the wire allows it and where it is worth it.
    pub fn message(&mut self, kind: MessageKind, payload: &[u8], wire: Wire, out: &mut Vec<u8>) {
        let packed = self.compress(payload, wire, Compressor::message);
        match packed {
            Some(packed) => wire.compressed(kind, packed, out),
            None => wire.message(kind, payload, out),
        }
    }

    /// Updates as a DEFLATE segment that can be put together with others. `None` where they are to be sent plain.
    pub(super) fn segment(&mut self, updates: &[u8], wire: Wire) -> Option<Bytes> {
        let segment = self.compress(updates, wire, Compressor::segment).map(Bytes::copy_from_slice);
        self.made += segment.as_ref().map_or(0, Bytes::len) as u64;
        segment
    }

    /// `None` where the text is sent as it is.
    fn compress(
        &mut self,
        text: &[u8],
        wire: Wire,
        compress: fn(&mut Compressor, &[u8], &mut Vec<u8>),
    ) -> Option<&[u8]> {
        let bits = wire.window().filter(|_| (WORTH_DEFLATING..=LONGEST_DEFLATED).contains(&text.len()))?;
        self.work += text.len() as u64 * DEFLATE_WORK;
        let found = self.compressors.iter().position(|(other, _)| *other == bits);
        let index = found.unwrap_or_else(|| {
            self.compressors.push((bits, Compressor::new(self.level, bits)));
            self.compressors.len() - 1
        });
        self.packed.clear();
        compress(&mut self.compressors[index].1, text, &mut self.packed);
        is_smaller(self.packed.len(), text.len()).then_some(&self.packed)
    }
}

/// Whether compressing saved more than a tenth. Otherwise the reader is spared the work.
fn is_smaller(packed: usize, plain: usize) -> bool {
    packed + plain / 10 < plain
}

/// In bytes. Shorter texts are sent as they are: resetting a compressor clears 128 KiB, which costs more than it saves.
const WORTH_DEFLATING: usize = 256;

/// In bytes. Longer texts are sent as they are: compressing one would keep the whole shard waiting, about 10 ms per MiB.
const LONGEST_DEFLATED: usize = 1 << 20;

/// Compressing a byte counts as copying so many. Compressing does about 100 MB/s, so a slice of a flush spends 10 ms on
/// it at most.
const DEFLATE_WORK: u64 = 4;
