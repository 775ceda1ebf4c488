//! The window of a client that takes its context over, where that was agreed
//! ([`DeflatePolicy::client_context_takeover`](super::DeflatePolicy::client_context_takeover)).

/// The last bytes of one client's earlier compressed messages.
///
/// Two inflaters differ in their window only, so a connection keeps no more than this: at most 2^`client_max_window_bits` bytes,
/// and no more than the client sent.
#[derive(Debug)]
pub struct History {
    bytes: Vec<u8>,
    window: usize,
}

impl History {
    /// `window_bits` is 9 to 15. Other values become the nearest of these.
    pub fn new(window_bits: u8) -> Self {
        Self { bytes: Vec::new(), window: 1 << window_bits.clamp(9, 15) }
    }

    /// What the client's next message may refer to.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that are held on the heap.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds a message. What is older than the window is dropped.
    pub fn push(&mut self, message: &[u8]) {
        let message = &message[message.len().saturating_sub(self.window)..];
        let kept = self.bytes.len().min(self.window - message.len());
        self.bytes.drain(..self.bytes.len() - kept);
        self.bytes.reserve_exact(message.len());
        self.bytes.extend_from_slice(message);
    }
}
