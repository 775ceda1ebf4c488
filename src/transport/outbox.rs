//! The bytes that a socket did not take. Nearly all connections have none.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use bytes::{Buf, Bytes};

use crate::transport::budget::Share;
use crate::transport::io::Io;

/// Bytes in the order in which they must leave.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    parts: VecDeque<Bytes>,
    bytes: usize,
    /// The first part is the rest of a frame that belongs to many connections.
    begins_shared: bool,
    /// What these bytes hold of the server's budget.
    pub share: Option<Share>,
}

impl Outbox {
    pub fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.parts.push_back(bytes);
    }

    /// Puts bytes before all others. Nothing of these has left.
    pub fn push_front(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.parts.push_front(bytes);
    }

    /// Keeps the rest of a shared frame, which a connection takes only when nothing waits.
    pub fn push_shared(&mut self, bytes: Bytes) {
        self.begins_shared |= self.parts.is_empty();
        self.push(bytes);
    }

    /// All bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that are kept for this connection alone.
    pub fn own_bytes(&self) -> usize {
        if self.begins_shared { self.len_after_first() } else { self.bytes }
    }

    /// Bytes after the first part. The first part may be the rest of a frame of publications. There is never more than one
    /// such frame, and the peer did not cause its size: it says nothing about the answers that wait.
    pub fn len_after_first(&self) -> usize {
        self.bytes - self.parts.front().map_or(0, Bytes::len)
    }

    /// Writes as much as the socket takes. Returns `true` when nothing is left, here or in TLS.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn flush(&mut self, io: &mut Io, sent: &mut u64) -> io::Result<bool> {
        while let Some(first) = self.parts.front_mut() {
            match io.try_write(first) {
                Ok(count) => {
                    self.bytes -= count;
                    *sent += count as u64;
                    first.advance(count);
                    if !first.is_empty() {
                        return Ok(false);
                    }
                    self.parts.pop_front();
                    self.begins_shared = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if io.holds_output() {
            match io.try_write(&[]) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(!io.holds_output())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_frame_is_not_what_a_connection_holds() {
        let mut outbox = Outbox::default();
        outbox.push_shared(Bytes::from_static(b"everybody's"));
        assert_eq!(outbox.own_bytes(), 0);
        outbox.push(Bytes::from_static(b"mine"));
        assert_eq!(outbox.own_bytes(), 4);
    }
}
