//! What is left of the receiving side of a connection after the server's close frame.

use super::frame::{HeaderReader, Opcode};

/// Looks for the client's close frame. The client may have sent other frames before it saw ours: they are skipped, and
/// nothing of them is held.
#[derive(Debug)]
pub struct CloseWait {
    /// Bytes of payload to skip.
    pub(super) missing: u64,
    pub(super) header: HeaderReader,
}

impl CloseWait {
    /// Takes all of `input`. Returns `true` when there is nothing more to wait for: the close frame has begun, or what came
    /// can't be a frame.
    pub fn receive(&mut self, mut input: &[u8]) -> bool {
        loop {
            let skipped = usize::try_from(self.missing).unwrap_or(usize::MAX).min(input.len());
            self.missing -= skipped as u64;
            input = &input[skipped..];
            if input.is_empty() {
                return false;
            }
            match self.header.read(input) {
                Ok(Some((header, _))) if header.opcode == Opcode::Close => return true,
                Ok(Some((header, used))) => {
                    self.missing = header.length;
                    input = &input[used..];
                }
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
}
