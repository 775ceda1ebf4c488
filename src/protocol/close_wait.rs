//! What is left of the receiving side of a connection when our close frame is out.

use super::frame::{LONGEST_HEADER, Opcode, decode_header};

/// Looks for the client's close frame. What comes before it was sent in ignorance of ours: it is skipped unread, and
/// nothing of it is held.
#[derive(Debug, Default)]
pub struct CloseWait {
    /// Bytes of payload to skip.
    missing: u64,
    /// The part of a header that arrived without its rest.
    header: [u8; LONGEST_HEADER],
    header_length: u8,
}

impl CloseWait {
    /// Goes on in a frame of which `missing` bytes of payload have not come, or behind `header`, a part of one.
    pub(super) fn new(missing: u64, header: &[u8]) -> Self {
        let mut wait = Self { missing, ..Self::default() };
        wait.header[..header.len()].copy_from_slice(header);
        wait.header_length = header.len() as u8;
        wait
    }

    /// Takes all of `input`. `true` when there is nothing more to wait for: the close frame has begun, or what came can't
    /// be a frame.
    pub fn receive(&mut self, mut input: &[u8]) -> bool {
        loop {
            let skipped = usize::try_from(self.missing).unwrap_or(usize::MAX).min(input.len());
            self.missing -= skipped as u64;
            input = &input[skipped..];
            if input.is_empty() {
                return false;
            }
            let before = usize::from(self.header_length);
            let added = input.len().min(LONGEST_HEADER - before);
            self.header[before..before + added].copy_from_slice(&input[..added]);
            match decode_header(&self.header[..before + added]) {
                Ok(Some((header, _))) if header.opcode == Opcode::Close => return true,
                Ok(Some((header, used))) => {
                    self.missing = header.length;
                    self.header_length = 0;
                    input = &input[used - before..];
                }
                Ok(None) => {
                    self.header_length = (before + added) as u8;
                    return false;
                }
                Err(_) => return true,
            }
        }
    }
}
