//! One entry of a channel's log. It is encoded once: what is stored is the text that goes on the wire.
//!
//! The lowest layer knows this much of the wire on purpose. A log that kept data only would have to be encoded again at every
//! read, for each group of readers at the same position; this way a read is a copy, and the bytes that a log is charged
//! for are the bytes that it sends.

use serde_json::value::RawValue;

use crate::change::{Expected, Op};
use crate::channel::NAME_BYTES;
use crate::json::{push_line, push_number, push_string};
use crate::moment::Moment;

/// What is published, or done to an entry of a state.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// One JSON text.
    pub data: &'a [u8],
    /// See [`Publication::key`].
    pub key: Option<&'a str>,
    /// JSON text that says which client published it. `None` for the application.
    pub sender: Option<&'a str>,
    /// The name of its event on streams that have an event for each publication.
    pub event: Option<EventName<'a>>,
    /// What is done. A log keeps no patches.
    pub op: Op,
    /// What has to be there. Only in a state.
    pub expected: Expected,
    /// JSON text that says how a conflict was resolved by it.
    pub conflict: Option<&'a str>,
}

impl<'a> Content<'a> {
    /// What the application publishes.
    pub const fn new(data: &'a [u8], key: Option<&'a str>) -> Self {
        Self {
            data,
            key,
            sender: None,
            event: None,
            op: Op::Publish,
            expected: Expected::Any,
            conflict: None,
        }
    }

    /// What removes a key from a state.
    pub const fn removal(key: &'a str) -> Self {
        Self { op: Op::Delete, ..Self::new(b"", Some(key)) }
    }

    /// Whether it removes an entry. Then it has no data.
    pub fn is_removal(&self) -> bool {
        self.op == Op::Delete
    }

    /// The same as an event with a name.
    #[must_use]
    pub const fn named(self, event: Option<EventName<'a>>) -> Self {
        Self { event, ..self }
    }
}

/// The name of an event. It needs no escape in JSON, and ends no line of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventName<'a>(&'a str);

impl<'a> EventName<'a> {
    /// The event of an entry that says who is in a channel.
    pub const CLIENT_PRESENCE: Self = Self("client_presence");
    /// The event of an update that resolves a conflict. Nobody else may use it.
    pub const RESOLVED: Self = Self("conflict_resolved");

    /// Checks a name. `None` for other characters, for more than 64 of them, and for the names of events that have a meaning.
    pub fn new(name: &'a str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
        let is_legal = (1..=EVENT_BYTES).contains(&name.len()) && name.bytes().all(is_plain);
        (is_legal && !RESERVED_EVENTS.contains(&name)).then_some(Self(name))
    }
}

/// An entry of a log. Its text is the JSON of one update, `{"channel":…,"offset":…,"event":…,"key":…,"sender":…,"data":…}`, of which
/// event, key and sender may be left out. A removal has `"removed":true` in place of the data.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its place in the log: 1 for the first of an epoch.
    pub offset: u64,
    /// When it was appended. Its age and its lateness count from here.
    pub appended: Moment,
    /// The JSON, and after that the key as it is without escapes.
    text: Box<[u8]>,
    /// Where the data begin. 0 for a removal, which has none.
    data: u32,
    /// Where the JSON ends.
    end: u32,
    /// Length of `{"channel":"…",`: where `"from":N,` goes when this entry takes the place of several.
    prefix: u16,
    has_key: bool,
}

/// Longest name of an event.
const EVENT_BYTES: usize = 64;

/// Names that an `EventSource` uses itself, and those of the messages of a stream, now and in later versions.
pub const RESERVED_EVENTS: [&str; 18] = [
    "error",
    "open",
    "message",
    "connected",
    "subscription_established",
    "subscription_ended",
    "gap",
    "server_error",
    "heartbeat",
    "reconnect",
    "closed",
    "batched_updates",
    "published",
    "snapshot",
    "authenticated",
    "token_expiring",
    "client_presence",
    "conflict_resolved",
];

/// Longest key, in bytes of UTF-8: as long as a channel name.
pub const KEY_BYTES: usize = NAME_BYTES;

impl Publication {
    /// Encodes an update. `prefix` is what [`prefix`] made of the channel name. The data are put on one line.
    pub fn new(prefix: &[u8], offset: u64, content: &Content<'_>, appended: Moment) -> Self {
        let Content { data, key, sender, event, conflict, .. } = *content;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(offset).as_bytes();
        let mut text = Vec::with_capacity(length(prefix, digits.len(), content));
        text.extend_from_slice(prefix);
        text.extend_from_slice(OFFSET);
        text.extend_from_slice(digits);
        // First, because streams look for it there.
        if let Some(event) = event {
            text.extend_from_slice(EVENT);
            text.extend_from_slice(event.0.as_bytes());
            text.push(b'"');
        }
        if let Some(key) = key {
            text.extend_from_slice(KEY);
            push_string(key, &mut text);
        }
        if let Some(sender) = sender {
            text.extend_from_slice(SENDER);
            text.extend_from_slice(sender.as_bytes());
        }
        if let Some(conflict) = conflict {
            text.extend_from_slice(CONFLICT);
            text.extend_from_slice(conflict.as_bytes());
        }
        let mut before = 0;
        if content.is_removal() {
            text.extend_from_slice(REMOVED);
        } else {
            text.extend_from_slice(DATA);
            before = text.len() as u32;
            push_line(data, &mut text);
            text.extend_from_slice(END);
        }
        let end = text.len() as u32;
        text.extend_from_slice(key.unwrap_or_default().as_bytes());
        let text = text.into_boxed_slice();
        Self {
            offset,
            appended,
            text,
            data: before,
            end,
            prefix: prefix.len() as u16,
            has_key: key.is_some(),
        }
    }

    /// In modes `Latest` and `State`, a newer publication of the same key replaces this one.
    pub fn key(&self) -> Option<&str> {
        str::from_utf8(self.key_bytes()?).ok()
    }

    /// The same, as bytes.
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.has_key.then(|| &self.text[self.end as usize..])
    }

    fn json(&self) -> &[u8] {
        &self.text[..self.end as usize]
    }

    /// The data: one JSON text. `None` for a removal.
    pub fn data(&self) -> Option<&[u8]> {
        (!self.is_removal()).then(|| &self.text[self.data as usize..self.end as usize - END.len()])
    }

    /// Whether it removes its key.
    pub fn is_removal(&self) -> bool {
        self.data == 0
    }

    /// What [`Publication::size`] will be at most.
    pub fn size_of(prefix: &[u8], content: &Content<'_>) -> usize {
        size_of::<Self>() + length(prefix, LONGEST_OFFSET, content)
    }

    /// The JSON text that says which client published it, if it does.
    pub fn sender(&self) -> Option<&[u8]> {
        let digits = itoa::Buffer::new().format(self.offset).len();
        let end = match self.data as usize {
            0 => self.end as usize - REMOVED.len(),
            data => data - DATA.len(),
        };
        let fields = self.prefix as usize + OFFSET.len() + digits..end;
        let mut rest = self.text.get(fields)?;
        if let Some(event) = rest.strip_prefix(EVENT) {
            // It has no quotation mark inside.
            rest = &event[memchr::memchr(b'"', event)? + 1..];
        }
        if let Some(key) = self.key() {
            let mut text = KEY.to_vec();
            push_string(key, &mut text);
            rest = rest.strip_prefix(&*text)?;
        }
        let rest = rest.strip_prefix(SENDER)?;
        // Something may come after it.
        let sender = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>().next()?;
        Some(sender.ok()?.get().as_bytes())
    }

    /// Appends the update for a reader whose position is `from`. When that is not the offset right before this one, the
    /// update covers `(from, offset]` and says so. `top` is for the last update of a part of a state.
    pub fn write(&self, from: u64, top: Option<u64>, out: &mut Vec<u8>) {
        let from = (from + 1 != self.offset).then_some((FROM, from));
        let (prefix, rest) = self.json().split_at(self.prefix as usize);
        out.extend_from_slice(prefix);
        for (name, number) in from.into_iter().chain(top.map(|top| (TOP, top))) {
            out.extend_from_slice(name);
            push_number(number, out);
            out.push(b',');
        }
        out.extend_from_slice(rest);
    }

    /// Bytes of memory that this entry takes, itself included.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

/// The beginning of every update of a channel: `{"channel":"name",`.
pub fn prefix(channel: &str) -> Box<[u8]> {
    let mut text = b"{\"channel\":".to_vec();
    push_string(channel, &mut text);
    text.push(b',');
    text.into_boxed_slice()
}

/// Length of the text of an update and its key, when nothing in it has to be escaped.
fn length(prefix: &[u8], digits: usize, content: &Content<'_>) -> usize {
    let sender = content.sender.map_or(0, |sender| SENDER.len() + sender.len());
    let event = content.event.map_or(0, |event| EVENT.len() + event.0.len() + 1);
    let key = content.key.map_or(0, |key| KEY.len() + 2 * key.len() + 2);
    let data = if content.is_removal() { REMOVED.len() } else { DATA.len() + content.data.len() + END.len() };
    let conflict = content.conflict.map_or(0, |conflict| CONFLICT.len() + conflict.len());
    prefix.len() + OFFSET.len() + digits + sender + event + key + conflict + data
}

/// Digits of the largest offset.
const LONGEST_OFFSET: usize = 16;

const FROM: &[u8] = b"\"from\":";
const TOP: &[u8] = b"\"top\":";
const OFFSET: &[u8] = b"\"offset\":";
const KEY: &[u8] = b",\"key\":";
const SENDER: &[u8] = b",\"sender\":";
const EVENT: &[u8] = b",\"event\":\"";
const CONFLICT: &[u8] = b",\"conflict\":";
const DATA: &[u8] = b",\"data\":";
const END: &[u8] = b"}";
const REMOVED: &[u8] = b",\"removed\":true}";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(from: u64) -> String {
        written_of(Content::new(b"{\"x\":1}", None), from)
    }

    fn written_of(content: Content<'_>, from: u64) -> String {
        let publication = Publication::new(&prefix("a\"b"), 7, &content, Moment::default());
        let mut out = Vec::new();
        publication.write(from, None, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn an_update_names_its_sender_beside_the_data() {
        let content = Content { sender: Some(r#"{"subject":"ada"}"#), ..Content::new(b"1", None) };
        let expected = r#"{"channel":"a\"b","offset":7,"sender":{"subject":"ada"},"data":1}"#;
        assert_eq!(written_of(content, 6), expected);
    }

    #[test]
    fn what_was_put_in_can_be_taken_out() {
        let event = EventName::new("done");
        for (offset, sender, event) in [
            (1, None, None),
            (1000, Some(r#"{"subject":",\"data\":1"}"#), None),
            (u64::MAX, None, event),
            (7, Some(r#"{"subject":"},\"event\":\"x"}"#), event),
        ] {
            let content =
                Content { sender, event, ..Content::new(br#"{"data":1,"sender":2}"#, Some("k\"}")) };
            let publication = Publication::new(&prefix("a\"b"), offset, &content, Moment::default());
            assert_eq!(publication.data(), Some(content.data));
            assert_eq!(publication.sender(), sender.map(str::as_bytes));
        }
    }

    #[test]
    fn an_update_that_follows_its_reader_is_plain() {
        assert_eq!(written(6), r#"{"channel":"a\"b","offset":7,"data":{"x":1}}"#);
    }

    #[test]
    fn an_update_names_its_event_and_its_key_before_its_sender() {
        let content = Content { sender: Some("{}"), ..Content::new(b"1", Some("a\"b")) };
        let text = written_of(content.named(EventName::new("done")), 6);
        assert_eq!(text, r#"{"channel":"a\"b","offset":7,"event":"done","key":"a\"b","sender":{},"data":1}"#);
    }

    #[test]
    fn a_folded_update_says_what_it_covers() {
        assert_eq!(written(2), r#"{"channel":"a\"b","from":2,"offset":7,"data":{"x":1}}"#);
    }

    #[test]
    fn a_removal_has_no_data_and_a_part_of_a_state_says_where_the_log_ends() {
        let content = Content { sender: Some(r#"{"x":1}"#), ..Content::removal("k") };
        let publication = Publication::new(&prefix("a"), 7, &content, Moment::default());
        assert_eq!((publication.data(), publication.sender()), (None, Some(&br#"{"x":1}"#[..])));
        assert!(
            publication.is_removal() && publication.size() <= Publication::size_of(&prefix("a"), &content)
        );
        let mut out = Vec::new();
        publication.write(2, Some(9), &mut out);
        let expected =
            r#"{"channel":"a","from":2,"top":9,"offset":7,"key":"k","sender":{"x":1},"removed":true}"#;
        assert_eq!(String::from_utf8(out).expect("JSON is UTF-8"), expected);
    }

    #[test]
    fn data_on_several_lines_are_put_on_one() {
        let data = b"[\r\n  1,\r  \"\\n\"\n]";
        let publication = Publication::new(&prefix("a"), 1, &Content::new(data, None), Moment::default());
        let mut out = Vec::new();
        publication.write(0, None, &mut out);
        assert_eq!(out, br#"{"channel":"a","offset":1,"data":[    1,   "\n" ]}"#);
    }
}
