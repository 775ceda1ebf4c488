//! Inflation with a limit, shared by all connections of a shard.

use flate2::{Decompress, FlushDecompress, Status};

use super::TAIL;

/// Why a compressed message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The text would be longer than the limit. How much longer is not known: inflation stopped there.
    #[error("inflated message longer than {limit} bytes")]
    TooBig {
        /// In bytes.
        limit: usize,
    },
    /// The payload is not DEFLATE data, or ends inside a block.
    #[error("not valid DEFLATE data")]
    Invalid,
}

/// Inflates messages, one after the other, of any number of connections; also holds the message that was last put
/// together, so that idle connections hold nothing.
///
/// Between messages at most [`KEPT`] bytes of buffer stay; see [`release`](Self::release).
pub struct Inflater {
    engine: Decompress,
    output: Vec<u8>,
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

    fn push(&mut self, message: &[u8]) {
        let message = &message[message.len().saturating_sub(self.window)..];
        let kept = self.bytes.len().min(self.window - message.len());
        self.bytes.drain(..self.bytes.len() - kept);
        self.bytes.reserve_exact(message.len());
        self.bytes.extend_from_slice(message);
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// Holds about 40 KiB, most of it the window.
    pub fn new() -> Self {
        Self { engine: Decompress::new(false), output: Vec::new() }
    }

    /// Inflates the payload of one message whose sender started with an empty window.
    ///
    /// Work and memory stop at `limit`: the buffer never grows past `limit` + 1 bytes.
    ///
    /// # Errors
    ///
    /// [`InflateError::TooBig`] over `limit` bytes, [`InflateError::Invalid`] when the data are not DEFLATE.
    pub fn inflate(&mut self, compressed: &[u8], limit: usize) -> Result<&[u8], InflateError> {
        self.run(compressed, limit, &[])?;
        Ok(&self.output)
    }

    /// Inflates the payload of one message whose sender goes on with the window of its earlier messages, and brings that
    /// window up to date.
    ///
    /// # Errors
    ///
    /// As [`inflate`](Self::inflate).
    pub fn inflate_with_history(
        &mut self,
        compressed: &[u8],
        limit: usize,
        history: &mut History,
    ) -> Result<&[u8], InflateError> {
        self.run(compressed, limit, &history.bytes)?;
        history.push(&self.output);
        Ok(&self.output)
    }

    /// Takes over a message that was put together elsewhere, and lends it out.
    pub(crate) fn adopt(&mut self, message: Vec<u8>) -> &[u8] {
        self.output = message;
        &self.output
    }

    /// Gives back the memory of a large message. Called whenever input is taken; call it also when a shard has nothing more
    /// to read for now.
    pub fn release(&mut self) {
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
    }

    /// How many bytes of buffer are held, the engine's window aside.
    pub fn held_bytes(&self) -> usize {
        self.output.capacity()
    }

    /// Inflates the payload, its tail, and a final empty block that must be the end.
    ///
    /// The last is our own addition: it turns "the payload stopped inside a block", which would silently shorten the
    /// message, into an error.
    fn run(&mut self, compressed: &[u8], limit: usize, history: &[u8]) -> Result<(), InflateError> {
        self.release();
        self.output.clear();
        self.restart(history)?;
        if self.feed(compressed, limit, history)? == Fed::AfterFinalBlock {
            // RFC 7692 §7.2.3.4: a sender may end with a final block. It then adds a zero byte, which would have been read
            // as the beginning of a block; one that leaves it out meant the same.
            return Ok(());
        }
        self.feed(&TAIL, limit, history)?;
        match self.feed(&FINAL_EMPTY_BLOCK, limit, history)? {
            Fed::AfterFinalBlock => Ok(()),
            Fed::InsideStream => Err(InflateError::Invalid),
        }
    }

    /// Inflates all of `input`. After a final block with more input behind it, a new stream begins in the same window.
    fn feed(&mut self, mut input: &[u8], limit: usize, history: &[u8]) -> Result<Fed, InflateError> {
        let mut restarts_left = RESTARTS + input.len() / BYTES_PER_RESTART;
        loop {
            self.reserve(limit);
            let (taken_before, made_before) = (self.engine.total_in(), self.output.len());
            let status = self
                .engine
                .decompress_vec(input, &mut self.output, FlushDecompress::None)
                .map_err(|_| InflateError::Invalid)?;
            if self.output.len() > limit {
                return Err(InflateError::TooBig { limit });
            }
            let taken = (self.engine.total_in() - taken_before) as usize;
            input = input.get(taken..).unwrap_or_default();
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(Fed::AfterFinalBlock),
                Status::StreamEnd => {
                    restarts_left = restarts_left.checked_sub(1).ok_or(InflateError::Invalid)?;
                    self.restart(history)?;
                }
                Status::Ok | Status::BufError => {
                    let full = self.output.len() == self.output.capacity();
                    if input.is_empty() && !full {
                        return Ok(Fed::InsideStream);
                    }
                    if taken == 0 && self.output.len() == made_before {
                        return Err(InflateError::Invalid);
                    }
                }
            }
        }
    }

    /// Makes room for the next step: a quarter of what there is, and never past one byte over the limit.
    fn reserve(&mut self, limit: usize) {
        if self.output.len() == self.output.capacity() {
            let room = limit.saturating_add(1).saturating_sub(self.output.len()).max(1);
            self.output.reserve_exact((self.output.len() / 4).max(STEP).min(room));
        }
    }

    /// Begins a DEFLATE stream in the window of what came before: earlier messages, then this one.
    fn restart(&mut self, history: &[u8]) -> Result<(), InflateError> {
        self.engine.reset(false);
        let own = &self.output[self.output.len().saturating_sub(LARGEST_WINDOW)..];
        for window in [history, own] {
            if !window.is_empty() {
                self.engine.set_dictionary(window).map_err(|_| InflateError::Invalid)?;
            }
        }
        Ok(())
    }
}

/// Where the engine stands when its input is used up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fed {
    InsideStream,
    AfterFinalBlock,
}

/// In bytes: what one step may add at least (row C1 of the fault checklist: bounded steps).
const STEP: usize = 16 * 1024;

/// In bytes: the buffer that stays allocated between messages.
const KEPT: usize = 64 * 1024;

/// In bytes: 2^15.
const LARGEST_WINDOW: usize = 32 * 1024;

/// How many final blocks a message may hold before its end, whatever its size; one more for each [`BYTES_PER_RESTART`].
///
/// Legal (RFC 7692 §7.2.1), useless, and costing a copy of the window each: a message of nothing else would cost a second
/// of work for each megabyte.
const RESTARTS: usize = 16;
const BYTES_PER_RESTART: usize = 1024;

/// An empty block of fixed codes with BFINAL set.
const FINAL_EMPTY_BLOCK: [u8; 2] = [0x03, 0x00];
