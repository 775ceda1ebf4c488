//! One entry of a channel, encoded once: what is stored is the text that goes on the wire.

use crate::moment::Moment;

/// An entry of a log. Its text is the JSON of one update, `{"channel":…,"offset":…,"data":…}`.
#[derive(Debug)]
pub struct Publication {
    pub offset: u64,
    pub key: Option<Box<str>>,
    /// When it was appended; lateness and age are counted from here.
    pub appended: Moment,
    text: Box<[u8]>,
    /// Length of `{"channel":"…",`: where `"from":N,` goes when this entry stands for several.
    head: u32,
}

/// A key has at most as many bytes as a channel name.
pub const KEY_BYTES: usize = 255;

impl Publication {
    /// Encodes an update. `head` is what [`head`] made of the channel name, `data` is one JSON text.
    pub fn new(head: &[u8], offset: u64, key: Option<&str>, data: &[u8], appended: Moment) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(offset).as_bytes();
        let parts = [head, OFFSET, digits, DATA, data, END];
        let text = parts.concat().into_boxed_slice();
        Self { offset, key: key.map(Box::from), appended, text, head: head.len() as u32 }
    }

    /// Appends the update for a reader that stands at `from`. When that is not the offset right before this one,
    /// the update covers `(from, offset]` and says so.
    pub fn write(&self, from: u64, out: &mut Vec<u8>) {
        if from + 1 == self.offset {
            out.extend_from_slice(&self.text);
            return;
        }
        let (head, rest) = self.text.split_at(self.head as usize);
        out.extend_from_slice(head);
        out.extend_from_slice(FROM);
        out.extend_from_slice(itoa::Buffer::new().format(from).as_bytes());
        out.push(b',');
        out.extend_from_slice(rest);
    }

    /// Bytes this entry holds, the bookkeeping included.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

/// The beginning of every update of a channel: `{"channel":"name",`.
pub fn head(channel: &str) -> Box<[u8]> {
    let mut text = b"{\"channel\":".to_vec();
    serde_json::to_writer(&mut text, channel).expect("a string is valid JSON, and a Vec takes all of it");
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
        let publication = Publication::new(&head("a\"b"), 7, None, b"{\"x\":1}", Moment::default());
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
}
