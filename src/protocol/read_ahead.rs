//! Input that was read while the messages before it have to wait.
//!
//! Pings in it are answered at once, because a client that gets no pong gives up. Everything else stays as it came: masked,
//! and compressed where the client compresses.

use super::frame::{HeaderReader, Opcode, decode_header};
use super::mask::unmask;

/// What was read from one client and not worked on.
#[derive(Debug, Default)]
pub struct ReadAhead {
    bytes: Vec<u8>,
    /// Those before it were worked on.
    start: usize,
    /// Where the next frame begins that was not looked at. It may be beyond the end.
    next_frame: usize,
    /// Pings that were answered and not worked on.
    answered: usize,
    /// Where the last frame ends that was looked at and is neither a ping nor a pong.
    data_end: usize,
    /// A close frame comes after it.
    closes: bool,
}

impl ReadAhead {
    /// Begins within a frame of which so many bytes are missing, or with the part of a header.
    pub(super) fn new(missing: u64, header: HeaderReader) -> Self {
        let next_frame = usize::try_from(missing).unwrap_or(usize::MAX);
        Self { bytes: header.into_bytes(), next_frame, data_end: next_frame, ..Self::default() }
    }

    /// Bytes that are kept.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds what came next.
    pub fn push(&mut self, input: &[u8]) {
        self.bytes.extend_from_slice(input);
    }

    /// The payload of the next ping that is to be answered now. [`ReadAhead::is_answered`] says so when it is worked on.
    pub fn next_ping(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = self.bytes.get(self.next_frame..)?;
            let Ok(found) = decode_header(rest) else {
                self.next_frame = usize::MAX; // what comes after a fault is nothing
                return None;
            };
            let (header, used) = found?;
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            let end = used.saturating_add(length);
            match header.opcode {
                Opcode::Close | Opcode::Ping if rest.len() < end => return None,
                Opcode::Close => (self.next_frame, self.closes) = (usize::MAX, true),
                Opcode::Ping => {
                    let mut payload = rest[used..end].to_vec();
                    unmask(&mut payload, header.mask, 0);
                    self.next_frame += end;
                    self.answered += 1;
                    return Some(payload);
                }
                Opcode::Pong => self.next_frame = self.next_frame.saturating_add(end),
                Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                    self.next_frame = self.next_frame.saturating_add(end);
                    self.data_end = self.next_frame;
                }
            }
        }
    }

    /// Whether nothing has to be worked on before the close frame. So it need not wait.
    pub fn is_closing(&self) -> bool {
        self.closes && self.start >= self.data_end
    }

    /// Whether the ping that is worked on was answered. Asked once for each.
    pub fn is_answered(&mut self) -> bool {
        let before = self.answered;
        self.answered = before.saturating_sub(1);
        before > 0
    }

    /// Lends out what was not worked on: the bytes, and where it begins. [`ReadAhead::give_back`] takes it back. Meanwhile
    /// nothing is here.
    pub fn lend(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.start))
    }

    /// Takes back what was lent. The bytes before `start` were worked on, up to the end of a frame unless that is all.
    pub fn give_back(&mut self, mut bytes: Vec<u8>, start: usize) {
        self.next_frame = self.next_frame.max(start);
        self.start = start;
        // In halves, so that each byte is moved a few times at most.
        if start >= bytes.len() / 2 {
            bytes.drain(..start);
            self.next_frame -= start;
            self.data_end = self.data_end.saturating_sub(start);
            self.start = 0;
        }
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut masked = payload.to_vec();
        unmask(&mut masked, mask, 0);
        [&[first, 0x80 | payload.len() as u8], &mask[..], &masked].concat()
    }

    fn pings(ahead: &mut ReadAhead) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| ahead.next_ping()).collect()
    }

    #[test]
    fn pings_among_messages_are_found_once_however_the_bytes_arrive() {
        let input =
            [frame(0x81, b"text"), frame(0x89, b"one"), frame(0xc2, b"\x89\x80"), frame(0x89, b"")].concat();
        for size in 1..=input.len() {
            let mut ahead = ReadAhead::new(2, HeaderReader::default());
            let mut found = Vec::new();
            for piece in [&b"\x89\x80"[..], &input].concat().chunks(size) {
                ahead.push(piece);
                found.extend(pings(&mut ahead));
            }
            assert_eq!(found, [b"one".to_vec(), Vec::new()], "in pieces of {size}");
            assert_eq!([(); 3].map(|()| ahead.is_answered()), [true, true, false]);
        }
    }

    #[test]
    fn a_header_that_had_begun_is_the_beginning() {
        let input = frame(0x89, b"ping");
        for cut in 1..6 {
            let mut header = HeaderReader::default();
            assert_eq!(header.read(&input[..cut]), Ok(None));
            let mut ahead = ReadAhead::new(0, header);
            ahead.push(&input[cut..]);
            assert_eq!(pings(&mut ahead), [b"ping"]);
        }
    }

    #[test]
    fn a_close_frame_is_next_when_what_came_before_it_was_worked_on() {
        let frames = [frame(0x81, b"text"), frame(0x89, b""), frame(0x8a, b""), frame(0x88, b"\x03\xe8")];
        let mut ahead = ReadAhead::new(3, HeaderReader::default());
        let input = [&b"end"[..], &frames.concat()].concat();
        ahead.push(&input[..input.len() - 1]);
        assert_eq!((pings(&mut ahead).len(), ahead.is_closing()), (1, false), "it is not whole");
        ahead.push(&input[input.len() - 1..]);
        assert!(pings(&mut ahead).is_empty());
        let mut is_closing_after = |size| {
            let (bytes, start) = ahead.lend();
            ahead.give_back(bytes, start + size);
            ahead.is_closing()
        };
        assert!(!is_closing_after(3));
        assert!(is_closing_after(frames[0].len()));
        assert!(is_closing_after(frames[1].len()), "a ping does not count");
    }

    #[test]
    fn nothing_counts_after_a_close_or_a_fault() {
        for end in [frame(0x88, b""), frame(0x83, b"")] {
            let mut ahead = ReadAhead::new(0, HeaderReader::default());
            ahead.push(&[end, frame(0x89, b"late")].concat());
            assert!(pings(&mut ahead).is_empty());
        }
    }

    #[test]
    fn frames_that_were_worked_on_are_not_looked_at_again() {
        let frames = [frame(0x89, b"a"), frame(0x89, b"b"), frame(0x81, b"c"), frame(0x89, b"d")];
        let mut ahead = ReadAhead::new(0, HeaderReader::default());
        ahead.push(&frames.concat());
        let (bytes, start) = ahead.lend();
        ahead.give_back(bytes, start + frames[0].len());
        assert_eq!(ahead.next_ping(), Some(b"b".to_vec()));
        let (bytes, start) = ahead.lend();
        assert_eq!(bytes[start..], frames[1..].concat());
        ahead.give_back(bytes, start + frames[1].len() + frames[2].len());
        assert_eq!(pings(&mut ahead), [b"d"]);
        assert_eq!(ahead.len(), frames[3].len());
    }
}
