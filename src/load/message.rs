//! The cheap look at a message: its type, and of a batch the count, the first and the last update. Written for the order
//! of fields that Umbel sends; [`crate::load::verify`] uses a JSON parser instead and depends on no order.

use memchr::{memchr, memmem, memrchr_iter};

/// What the two ends of a `batched_updates` message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub count: u64,
    pub first_offset: u64,
    pub last_offset: u64,
    /// The position before the first update: its `from`, or its offset − 1.
    pub before: u64,
    /// Publishing times in nanoseconds, 0 where the data does not begin with `t`.
    pub first_time: u64,
    pub last_time: u64,
}

pub const BATCH: &[u8] = br#"{"type":"batched_updates""#;
pub const GAP: &[u8] = br#"{"type":"gap""#;
pub const ESTABLISHED: &[u8] = br#"{"type":"connection_established""#;
pub const SUBSCRIBED: &[u8] = br#"{"type":"subscription_established""#;
pub const PUBLISHED: &[u8] = br#"{"type":"published""#;
pub const ERROR: &[u8] = br#"{"type":"error""#;

/// Reads both ends of a batch; `None` when it does not look as expected.
#[inline]
pub fn read_batch(message: &[u8]) -> Option<Batch> {
    let head = &message[BATCH.len()..message.len().min(BATCH.len() + 512)];
    let first = read_update(head, memmem::find(head, OFFSET)?)?;
    let tail_at = message.len().saturating_sub(96);
    let tail = &message[tail_at..];
    let count_at = memmem::rfind(tail, COUNT)?;
    let count = digits(&tail[count_at + COUNT.len()..]).filter(|&count| count <= message.len() as u64)?;
    let last = if count == 1 { first } else { last_update(&message[..tail_at + count_at])? };
    Some(Batch {
        count,
        first_offset: first.offset,
        last_offset: last.offset,
        before: first.from.unwrap_or(first.offset.wrapping_sub(1)),
        first_time: first.time,
        last_time: last.time,
    })
}

/// Whether an update may stand for several: some text in it looks so.
pub fn says_from(message: &[u8]) -> bool {
    memmem::find(message, FROM).is_some()
}

/// A number field of a small message, found by its quoted name with the colon.
pub fn number_field(message: &[u8], quoted_name: &[u8]) -> Option<u64> {
    digits(&message[memmem::find(message, quoted_name)? + quoted_name.len()..])
}

/// A text field of a small message, found by its quoted name with the colon and the quote after it.
pub fn text_field<'a>(message: &'a [u8], quoted_name: &[u8]) -> Option<&'a str> {
    let rest = &message[memmem::find(message, quoted_name)? + quoted_name.len()..];
    std::str::from_utf8(&rest[..memchr(b'"', rest)?]).ok()
}

#[derive(Clone, Copy)]
struct Update {
    offset: u64,
    from: Option<u64>,
    time: u64,
}

/// Reads an update from the place of its `"offset":` on.
fn read_update(bytes: &[u8], at: usize) -> Option<Update> {
    let head = &bytes[at.saturating_sub(64)..at];
    let from = memmem::rfind(head, FROM).and_then(|at| digits(&head[at + FROM.len()..]));
    let bytes = &bytes[at + OFFSET.len()..];
    let offset = digits(bytes)?;
    let near = &bytes[..bytes.len().min(96)];
    let time = memmem::find(near, TIME).and_then(|at| digits(&near[at + TIME.len()..])).unwrap_or(0);
    Some(Update { offset, from, time })
}

/// The last update before the end of the batch. Goes back from quote to quote: padding is skipped at the speed of memory.
fn last_update(bytes: &[u8]) -> Option<Update> {
    let at = memrchr_iter(b'"', bytes).find(|&at| bytes[at..].starts_with(OFFSET))?;
    read_update(bytes, at)
}

/// The number that stands first.
pub fn digits(bytes: &[u8]) -> Option<u64> {
    let length = bytes.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    Some(bytes[..length].iter().fold(0u64, |value, byte| value.wrapping_mul(10) + u64::from(byte - b'0')))
}

const OFFSET: &[u8] = br#""offset":"#;
const FROM: &[u8] = br#""from":"#;
const COUNT: &[u8] = br#""count":"#;
const TIME: &[u8] = br#""data":{"t":"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_batch_are_read() {
        let message = br#"{"type":"batched_updates","updates":[{"channel":"bench","offset":5,"data":{"t":17,"pad":"x"}},{"channel":"bench","offset":6,"data":{"t":18,"pad":"xx"}},{"channel":"bench","offset":7,"data":{"t":19}}],"count":3,"timestamp":"2026-01-01T00:00:00.000Z"}"#;
        let expected =
            Batch { count: 3, first_offset: 5, last_offset: 7, before: 4, first_time: 17, last_time: 19 };
        assert_eq!(read_batch(message), Some(expected));
    }

    #[test]
    fn a_folded_update_covers_the_range_from_its_from() {
        let message = br#"{"type":"batched_updates","updates":[{"channel":"c","from":3,"offset":9,"key":"k","data":{"t":1}}],"count":1,"timestamp":"x"}"#;
        assert_eq!(read_batch(message).unwrap().before, 3);
    }
}
