//! Memory of a shard that is lent.

use crate::protocol::deflate::Inflater;

/// Memory that is lent to the connection that is being worked on.
#[derive(Default)]
pub(crate) struct Buffers {
    pub replies: Vec<u8>,
    pub text: Vec<u8>,
    pub read: Vec<u8>,
    pub inflater: Option<Box<Inflater>>,
}

impl Buffers {
    /// What is kept of a buffer that was lent for messages. A long one is not: messages of the application have no bound.
    pub fn kept(lent: Vec<u8>) -> Vec<u8> {
        if lent.capacity() <= LONGEST_KEPT { lent } else { Vec::new() }
    }
}

/// Bytes of a buffer for messages that a shard keeps: those of a message of the default limit.
const LONGEST_KEPT: usize = 1 << 20;
