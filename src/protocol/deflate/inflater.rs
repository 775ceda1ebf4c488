//! Inflation with a limit, while the bytes arrive.

use flate2::{Decompress, FlushDecompress, Status};

use super::segments::TAIL;
use crate::protocol::error::ProtocolError;

/// Inflates the messages of many connections, one after the other. It also holds the message that was finished last, compressed
/// or not, so that idle connections hold nothing.
///
/// A new one holds nothing: its engine is made when it is first needed. Between messages it keeps the engine and a buffer of at
/// most 64 KiB; see [`release`](Self::release).
#[derive(Debug, Default)]
pub struct Inflater {
    engine: Option<Decompress>,
    /// The text of the current message, or of the last one.
    output: Vec<u8>,
    /// Bytes of the current message that the engine has taken.
    taken: u64,
    /// Final blocks of the current message that were not its end.
    restarts: u64,
    stream: Stream,
}

impl Inflater {
    /// Inflates the whole payload of one [`message`](Self::message). It may refer to `history`, the text of earlier messages.
    ///
    /// Work and memory end at `limit`: the buffer never has more than `limit` + 1 bytes.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::TooBig`] over `limit` bytes, [`ProtocolError::InvalidDeflate`] when the data are not DEFLATE.
    pub(crate) fn inflate(
        &mut self,
        compressed: &[u8],
        limit: usize,
        history: &[u8],
    ) -> Result<(), ProtocolError> {
        self.release();
        self.begin();
        self.push(compressed, limit, history)?;
        self.finish(limit, history)
    }

    /// Takes the engine of `shared`, unless there is one here already.
    pub(crate) fn take_engine(&mut self, shared: &mut Self) {
        if self.engine.is_none() {
            self.engine = shared.engine.take();
        }
    }

    /// Checks that the message may end here. Its last bytes may come out only now.
    ///
    /// It inflates the tail that the sender left out, and then a final empty block, which must be the end. RFC 7692 does not ask for
    /// the block. Without it, a payload that stops inside a block would be a shorter message, and not an error.
    pub(crate) fn finish(&mut self, limit: usize, history: &[u8]) -> Result<(), ProtocolError> {
        if self.stream == Stream::Ended {
            // RFC 7692 §7.2.3.4: a sender may end with a final block. It then has to add a zero byte, which would have been read as
            // the beginning of a block. A sender that leaves the byte out means the same.
            return Ok(());
        }
        self.push(&TAIL, limit, history)?;
        self.push(&FINAL_EMPTY_BLOCK, limit, history)?;
        if self.stream == Stream::Ended { Ok(()) } else { Err(ProtocolError::InvalidDeflate) }
    }

    /// The message, as far as it is inflated. After [`ProtocolError::TooBig`] it ends at the limit or later.
    pub(crate) fn message(&self) -> &[u8] {
        &self.output
    }

    /// Keeps a message that was not compressed, as if it had been inflated here.
    pub(crate) fn set_message(&mut self, message: Vec<u8>) {
        self.output = message;
    }

    /// Gives back the memory of a large message. A connection does this whenever it takes input. Do it also when a shard has
    /// nothing more to read for now.
    pub fn release(&mut self) {
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
    }

    /// Bytes that are held on the heap.
    pub fn held_bytes(&self) -> usize {
        self.output.capacity() + self.engine.as_ref().map_or(0, |_| ENGINE_BYTES)
    }

    fn begin(&mut self) {
        self.output.clear();
        self.taken = 0;
        self.restarts = 0;
        self.stream = Stream::New;
    }

    /// Inflates the next piece of a message. After a final block, more input begins a new stream with the same window.
    ///
    /// Neither the text nor an error depends on how the message is cut.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        limit: usize,
        history: &[u8],
    ) -> Result<(), ProtocolError> {
        if input.is_empty() {
            return Ok(());
        }
        loop {
            if self.stream != Stream::Inside {
                self.restart(history)?;
            }
            self.reserve(limit);
            let engine = self.engine.get_or_insert_with(new_engine);
            let (taken_before, made_before) = (engine.total_in(), self.output.len());
            let result = engine.decompress_vec(input, &mut self.output, FlushDecompress::None);
            let taken = engine.total_in() - taken_before;
            self.taken += taken;
            // Checked first, because the text came before the byte that could not be read.
            if self.output.len() > limit {
                return Err(ProtocolError::TooBig { limit });
            }
            input = input.get(taken as usize..).unwrap_or_default();
            match result.map_err(|_| ProtocolError::InvalidDeflate)? {
                Status::StreamEnd => {
                    self.stream = Stream::Ended;
                    if input.is_empty() {
                        return Ok(());
                    }
                }
                Status::Ok | Status::BufError => {
                    let full = self.output.len() == self.output.capacity();
                    if input.is_empty() && !full {
                        return Ok(());
                    }
                    if taken == 0 && self.output.len() == made_before {
                        return Err(ProtocolError::InvalidDeflate);
                    }
                }
            }
        }
    }

    /// Makes room for the next step: as many bytes as the message has while it is short, then a quarter of them. Never makes room
    /// for more than one byte over the limit.
    fn reserve(&mut self, limit: usize) {
        let made = self.output.len();
        if made == self.output.capacity() {
            let room = limit.saturating_add(1).saturating_sub(made).max(1);
            let step = made.clamp(SMALLEST_STEP, STEP).max(made / 4);
            self.output.reserve_exact(step.min(room));
        }
    }

    /// Begins a DEFLATE stream that may refer to earlier messages and to this one.
    fn restart(&mut self, history: &[u8]) -> Result<(), ProtocolError> {
        if self.stream == Stream::Ended {
            self.restarts += 1;
            if self.restarts > RESTARTS + self.taken / BYTES_PER_RESTART {
                return Err(ProtocolError::InvalidDeflate);
            }
        }
        let engine = self.engine.get_or_insert_with(new_engine);
        engine.reset(false);
        let own = &self.output[self.output.len().saturating_sub(LARGEST_WINDOW)..];
        for window in [history, own] {
            if !window.is_empty() {
                engine.set_dictionary(window).map_err(|_| ProtocolError::InvalidDeflate)?;
            }
        }
        self.stream = Stream::Inside;
        Ok(())
    }
}

/// Where the engine is in the current message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stream {
    /// Before its first byte.
    #[default]
    New,
    Inside,
    /// After a final block. The message ends, or a new stream begins.
    Ended,
}

fn new_engine() -> Decompress {
    Decompress::new(false)
}

/// In bytes: what one step adds to a message, so that a small payload can't cause much work before the limit is checked. A
/// message of more than four times this grows by a quarter.
const STEP: usize = 16 * 1024;

/// In bytes: what the first step adds.
const SMALLEST_STEP: usize = 1024;

/// In bytes: what the engine holds, which is mostly the window (47,552 in one allocation, zlib-rs 0.6.8).
const ENGINE_BYTES: usize = 48 * 1024;

/// In bytes: the buffer that is kept between messages.
const KEPT: usize = 64 * 1024;

/// In bytes: 2^15.
const LARGEST_WINDOW: usize = 32 * 1024;

/// Final blocks that a message of any size may have before its end. It may have one more for each [`BYTES_PER_RESTART`] before
/// them.
///
/// Such blocks are legal (RFC 7692 §7.2.1) and useless. Each costs a copy of the window: a message of nothing else would cost a
/// second of work for each megabyte.
const RESTARTS: u64 = 16;
const BYTES_PER_RESTART: u64 = 1024;

/// An empty block of fixed codes with BFINAL set.
const FINAL_EMPTY_BLOCK: [u8; 2] = [0x03, 0x00];
