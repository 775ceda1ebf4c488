//! Inflation with a limit, as the bytes arrive.

use flate2::{Decompress, FlushDecompress, Status};

use super::segments::TAIL;
use crate::protocol::error::ProtocolError;

/// Inflates messages, one after the other, of any number of connections; also holds the message that was last put
/// together, so that idle connections hold nothing.
///
/// A new one holds nothing: its engine is made when it is needed first. Between messages at most [`KEPT`] bytes of buffer
/// stay beside the engine; see [`release`](Self::release).
#[derive(Debug, Default)]
pub struct Inflater {
    engine: Option<Decompress>,
    /// What came of the current message, or of the last one.
    output: Vec<u8>,
    /// Bytes of the current message that the engine has taken.
    taken: u64,
    /// Final blocks of the current message that were not its end.
    restarts: u64,
    stream: Stream,
}

/// The window of one client that takes its context over: the last bytes of its earlier compressed messages.
///
/// The window is all that differs between two inflaters, so that a connection holds no more than this: at most
/// 2^`client_max_window_bits` bytes, and no more than was sent.
#[derive(Debug)]
pub struct History {
    bytes: Vec<u8>,
    window: usize,
}

impl History {
    /// `window_bits` is 9 to 15. Values outside are moved to the nearest inside.
    pub fn new(window_bits: u8) -> Self {
        Self { bytes: Vec::new(), window: 1 << window_bits.clamp(9, 15) }
    }

    /// How many bytes are held.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds a message. What is older than the window goes.
    pub(crate) fn push(&mut self, message: &[u8]) {
        let message = &message[message.len().saturating_sub(self.window)..];
        let kept = self.bytes.len().min(self.window - message.len());
        self.bytes.drain(..self.bytes.len() - kept);
        self.bytes.reserve_exact(message.len());
        self.bytes.extend_from_slice(message);
    }
}

impl Inflater {
    /// Inflates the payload of one message, which is [`made`](Self::made) then. Its sender started with the window of
    /// `history`, or with an empty one.
    ///
    /// Work and memory stop at `limit`: the buffer never grows past `limit` + 1 bytes.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::TooBig`] over `limit` bytes, [`ProtocolError::InvalidDeflate`] when the data are not DEFLATE.
    pub(crate) fn whole(
        &mut self,
        compressed: &[u8],
        limit: usize,
        history: Option<&History>,
    ) -> Result<(), ProtocolError> {
        self.release();
        self.begin();
        self.push(compressed, limit, history)?;
        self.finish(limit, history)
    }

    /// Makes `self`, which has no message, the inflater of one that goes on for longer, with the engine of `shared`.
    pub(crate) fn take_engine(&mut self, shared: &mut Self) {
        if self.engine.is_none() {
            self.engine = shared.engine.take();
        }
    }

    /// Inflates the next piece of a message. The first follows [`default`](Self::default).
    pub(crate) fn push(
        &mut self,
        piece: &[u8],
        limit: usize,
        history: Option<&History>,
    ) -> Result<(), ProtocolError> {
        self.feed(piece, limit, history.map_or(&[], |history| &history.bytes))
    }

    /// Says whether the message may end here. Its last bytes may appear now.
    ///
    /// Inflates the tail that the sender left out, and a final empty block that must be the end. The last is our own
    /// addition: it turns "the payload stopped inside a block", which would silently shorten the message, into an error.
    pub(crate) fn finish(&mut self, limit: usize, history: Option<&History>) -> Result<(), ProtocolError> {
        if self.stream == Stream::Ended {
            // RFC 7692 §7.2.3.4: a sender may end with a final block. It then adds a zero byte, which would have been read
            // as the beginning of a block; one that leaves it out meant the same.
            return Ok(());
        }
        self.push(&TAIL, limit, history)?;
        self.push(&FINAL_EMPTY_BLOCK, limit, history)?;
        if self.stream == Stream::Ended { Ok(()) } else { Err(ProtocolError::InvalidDeflate) }
    }

    /// The message so far. After [`ProtocolError::TooBig`] it is cut at the limit or later.
    pub(crate) fn made(&self) -> &[u8] {
        &self.output
    }

    /// Takes over a message that was put together elsewhere, as if it had been [`made`](Self::made) here.
    pub(crate) fn adopt(&mut self, message: Vec<u8>) {
        self.output = message;
    }

    /// Gives back the memory of a large message. Called whenever input is taken; call it also when a shard has nothing more
    /// to read for now.
    pub fn release(&mut self) {
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
    }

    /// How many bytes are held on the heap.
    pub fn held_bytes(&self) -> usize {
        self.output.capacity() + self.engine.as_ref().map_or(0, |_| ENGINE_BYTES)
    }

    fn begin(&mut self) {
        self.output.clear();
        self.taken = 0;
        self.restarts = 0;
        self.stream = Stream::New;
    }

    /// Inflates all of `input`. After a final block with more input behind it, a new stream begins in the same window.
    ///
    /// What comes of it, errors too, does not depend on how the message was cut.
    fn feed(&mut self, mut input: &[u8], limit: usize, history: &[u8]) -> Result<(), ProtocolError> {
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
            // First: what was made came before what could not be read.
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

    /// Makes room for the next step, and never past one byte over the limit: as much as there is while that is little,
    /// then a quarter.
    fn reserve(&mut self, limit: usize) {
        let made = self.output.len();
        if made == self.output.capacity() {
            let room = limit.saturating_add(1).saturating_sub(made).max(1);
            let step = made.clamp(SMALLEST_STEP, STEP).max(made / 4);
            self.output.reserve_exact(step.min(room));
        }
    }

    /// Begins a DEFLATE stream in the window of what came before: earlier messages, then this one.
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

/// Where the engine stands in the current message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stream {
    /// Before its first byte.
    #[default]
    New,
    Inside,
    /// After a final block: the end of the message, or a new stream begins.
    Ended,
}

fn new_engine() -> Decompress {
    Decompress::new(false)
}

/// In bytes: what one step adds to a message of this size (row C1 of the fault checklist: bounded steps).
const STEP: usize = 16 * 1024;

/// In bytes: what the first step adds.
const SMALLEST_STEP: usize = 1024;

/// In bytes: what the engine holds, most of it the window (47,552 in one allocation, zlib-rs 0.6.8).
const ENGINE_BYTES: usize = 48 * 1024;

/// In bytes: the buffer that stays allocated between messages.
const KEPT: usize = 64 * 1024;

/// In bytes: 2^15.
const LARGEST_WINDOW: usize = 32 * 1024;

/// How many final blocks a message may hold before its end, whatever its size; one more for each [`BYTES_PER_RESTART`]
/// before them.
///
/// Legal (RFC 7692 §7.2.1), useless, and costing a copy of the window each: a message of nothing else would cost a second
/// of work for each megabyte.
const RESTARTS: u64 = 16;
const BYTES_PER_RESTART: u64 = 1024;

/// An empty block of fixed codes with BFINAL set.
const FINAL_EMPTY_BLOCK: [u8; 2] = [0x03, 0x00];
