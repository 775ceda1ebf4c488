//! Compression without context takeover, of whole messages and of segments.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::segments::{TAIL, stored};

/// A raw DEFLATE compressor that starts every text with an empty window. A shard has one for all its connections.
///
/// It holds about 260 KiB with a window of 12 bits, and 370 KiB with one of 15 (zlib-rs 0.6).
pub struct Compressor {
    engine: Compress,
}

impl Compressor {
    /// `level` is 1 (fast) to 9 (small), `window_bits` is 9 to 15. Other values become the nearest of these.
    ///
    /// A connection can read the output when its `server_max_window_bits` is at least `window_bits`.
    pub fn new(level: u32, window_bits: u8) -> Self {
        let level = Compression::new(level.clamp(1, 9));
        Self { engine: Compress::new_with_window_bits(level, false, window_bits.clamp(9, 15)) }
    }

    /// Appends `data` as the whole payload of a compressed message. `out` may hold a frame header already.
    pub fn message(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.segment(data, out);
        out.truncate(out.len() - TAIL.len());
    }

    /// Appends `data` as DEFLATE blocks that end on a byte: one part of a message.
    ///
    /// The part becomes `data` again at any place of the payload. After the last part, call
    /// [`finish_segments`](super::finish_segments).
    pub fn segment(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.engine.reset();
        let before = out.len();
        out.reserve(data.len() / 2 + SPARE);
        loop {
            let taken = (self.engine.total_in() as usize).min(data.len());
            let status = self.engine.compress_vec(&data[taken..], out, FlushCompress::Sync);
            // The flush is complete when room for output is left (zlib.h, "deflate").
            if !matches!(status, Ok(Status::Ok)) || out.len() < out.capacity() {
                break;
            }
            out.reserve((data.len() - taken) / 2 + SPARE);
        }
        if !out[before..].ends_with(&TAIL) {
            // The engine can't fail with valid arguments. If it ever does, the text is sent uncompressed.
            out.truncate(before);
            stored(data, out);
            out.push(0);
            out.extend_from_slice(&TAIL);
        }
    }
}

/// In bytes. With 6 or less a flush could be announced twice (zlib.h); more saves calls for short texts.
const SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_is_one_zero_byte() {
        // RFC 7692 §7.2.3.6.
        let mut out = Vec::new();
        Compressor::new(1, 15).message(b"", &mut out);
        assert_eq!(out, [0]);
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 7692 §7.2.3.1.
        let mut out = b"header".to_vec();
        Compressor::new(6, 15).message(b"Hello", &mut out);
        assert_eq!(out, b"header\xf2\x48\xcd\xc9\xc9\x07\x00");
    }
}
