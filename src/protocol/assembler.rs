//! Gathers the pieces of a message that arrives in several.

/// One growing buffer for one unfinished message.
///
/// A fragment costs its bytes and nothing else; an empty one costs nothing. A list of fragments would be worse in both ways: a
/// peer that sends fragments of one byte makes the list long, and a limit on its length refuses honest messages (Autobahn 9.3
/// and 9.4).
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Appends a piece that has arrived.
    ///
    /// The buffer grows by a quarter, not to the double: its capacity stays within 1.25 × what has arrived + 64 bytes. Growing
    /// copies the message about five times in all; large blocks are remapped and not copied.
    pub fn push(&mut self, piece: &[u8]) {
        if piece.len() > self.bytes.capacity() - self.bytes.len() {
            let spare = (self.bytes.len() / 4).max(SMALLEST_GROWTH);
            self.bytes.reserve_exact(piece.len().max(spare));
        }
        self.bytes.extend_from_slice(piece);
    }

    /// How many bytes of memory are held.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The message. The assembler keeps no memory.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// In bytes. For less, growing by a quarter would move a few bytes very often.
const SMALLEST_GROWTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_little_more_than_what_arrived() {
        for size in [0, 1, 7, 64, 1000] {
            let mut assembler = Assembler::default();
            for count in 1..=10_000 {
                assembler.push(&vec![7; size]);
                assert!(assembler.held_bytes() <= size * count * 5 / 4 + SMALLEST_GROWTH);
            }
            assert_eq!(assembler.into_bytes().len(), size * 10_000);
        }
    }
}
