//! One entry of a channel's log. It is encoded once: what is stored is the text that goes on the wire.
//!
//! The lowest layer knows this much of the wire on purpose. A log that kept data only would have to be encoded again at every
//! read, for each group of readers at the same position; this way a read is a copy, and the bytes that a log is charged
//! for are the bytes that it sends.

use crate::channel::NAME_BYTES;
use crate::json::{push_line, push_number, push_string};
use crate::moment::Moment;

/// An entry of a log. Its text is the JSON of one update, `{"channel":…,"offset":…,"data":…}`.
#[derive(Debug)]
pub struct Publication {
    /// Its place in the log: 1 for the first of an epoch.
    pub offset: u64,
    /// In mode `Latest`, a newer publication of the same key replaces this one.
    pub key: Option<Box<str>>,
    /// When it was appended. Its age and its lateness count from here.
    pub appended: Moment,
    text: Box<[u8]>,
    /// Length of `{"channel":"…",`: where `"from":N,` goes when this entry takes the place of several.
    prefix: u32,
}

/// Longest key, in bytes of UTF-8: as long as a channel name.
pub const KEY_BYTES: usize = NAME_BYTES;

impl Publication {
    /// Encodes an update. `prefix` is what [`prefix`] made of the channel name. `data` is one JSON text; it is put on one
    /// line.
    pub fn new(prefix: &[u8], offset: u64, key: Option<&str>, data: &[u8], appended: Moment) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(offset).as_bytes();
        let start = [prefix, OFFSET, digits, DATA];
        let length = start.map(<[u8]>::len).iter().sum::<usize>() + data.len() + END.len();
        let mut text = Vec::with_capacity(length);
        start.iter().for_each(|part| text.extend_from_slice(part));
        push_line(data, &mut text);
        text.extend_from_slice(END);
        let text = text.into_boxed_slice();
        Self { offset, key: key.map(Box::from), appended, text, prefix: prefix.len() as u32 }
    }

    /// Appends the update for a reader whose position is `from`. When that is not the offset right before this one, the
    /// update covers `(from, offset]` and says so.
    pub fn write(&self, from: u64, out: &mut Vec<u8>) {
        if from + 1 == self.offset {
            out.extend_from_slice(&self.text);
            return;
        }
        let (prefix, rest) = self.text.split_at(self.prefix as usize);
        out.extend_from_slice(prefix);
        out.extend_from_slice(FROM);
        push_number(from, out);
        out.push(b',');
        out.extend_from_slice(rest);
    }

    /// Bytes of memory that this entry takes, itself included.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

/// The beginning of every update of a channel: `{"channel":"name",`.
pub fn prefix(channel: &str) -> Box<[u8]> {
    let mut text = b"{\"channel\":".to_vec();
    push_string(channel, &mut text);
    text.push(b',');
    text.into_boxed_slice()
}

const FROM: &[u8] = b"\"from\":";
const OFFSET: &[u8] = b"\"offset\":";
const DATA: &[u8] = b",\"data\":";
const END: &[u8] = b"}";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(from: u64) -> String {
        let publication = Publication::new(&prefix("a\"b"), 7, None, b"{\"x\":1}", Moment::default());
        let mut out = Vec::new();
        publication.write(from, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn an_update_that_follows_its_reader_is_plain() {
        assert_eq!(written(6), r#"{"channel":"a\"b","offset":7,"data":{"x":1}}"#);
    }

    #[test]
    fn a_folded_update_says_what_it_covers() {
        assert_eq!(written(2), r#"{"channel":"a\"b","from":2,"offset":7,"data":{"x":1}}"#);
    }

    #[test]
    fn data_on_several_lines_are_put_on_one() {
        let data = b"[\r\n  1,\r  \"\\n\"\n]";
        let publication = Publication::new(&prefix("a"), 1, None, data, Moment::default());
        let mut out = Vec::new();
        publication.write(0, &mut out);
        assert_eq!(out, br#"{"channel":"a","offset":1,"data":[    1,   "\n" ]}"#);
    }
}
