//! Gathers the pieces of a message that did not arrive whole.

/// One growing buffer for one unfinished message.
///
/// Counting fragments instead of bytes is how servers get hurt both ways: a peer that sends one-byte fragments costs a
/// list an object each, and a limit on their number refuses honest messages (Autobahn 9.3 and 9.4). Here a fragment leaves
/// nothing behind but its bytes, and an empty one nothing at all.
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Appends a piece that has arrived.
    ///
    /// Grows by a quarter, not by half or double: the capacity stays within 1.25 × what has arrived + 64 bytes. Moving the
    /// bytes costs about five copies of the message in all, and large blocks are remapped rather than copied.
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

    /// The message. Its memory goes with it.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// In bytes: below this, growing by a quarter would move a few bytes very often.
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
