//! What a client says: the envelope, and the fields of the types that the core answers itself.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed as _, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::validate::{Key, Keys, validate};
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::publication::KEY_BYTES;

/// How many channels one message may name. More is answered `too_many_items`, before they are gathered.
pub const MAX_CHANNELS: usize = 128;

/// One message of a client, borrowed from its text. The whole text is valid JSON by all the rules of
/// `validate.rs`, also where nothing was taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMessage<'a> {
    pub id: Option<Id<'a>>,
    pub kind: Kind<'a>,
}

/// The JSON text of a message's `id`, to be echoed as it stands: a string of at most 128 bytes, or an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id<'a>(&'a str);

impl<'a> Id<'a> {
    /// Reads an `id` that was kept as its JSON text.
    pub fn from_json(json: &'a str) -> Option<Self> {
        let fits = match json.as_bytes().first() {
            Some(b'"') => json.len() <= MAX_ID + 2 && validate(json, 1).is_ok(),
            _ => json.parse::<i64>().is_ok() || json.parse::<u64>().is_ok(),
        };
        fits.then_some(Self(json))
    }

    /// JSON text: a string with its quotes, or digits.
    pub const fn as_json(self) -> &'a str {
        self.0
    }
}

/// What the message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// `subscribe_updates`. With a position, the client wants all since then.
    Subscribe { channels: Channels<'a>, from: Option<Position> },
    /// `unsubscribe_updates`.
    Unsubscribe { channels: Channels<'a> },
    /// `publish`. `data` is JSON text.
    Publish { channel: Cow<'a, str>, data: &'a str, key: Option<Cow<'a, str>> },
    /// `heartbeat`.
    Heartbeat,
    /// Any other type: the application's.
    Application { message_type: Cow<'a, str> },
}

/// At least one name, usually one; not checked beyond being a string.
pub type Channels<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// A message that cannot be used. The connection stays; the answer is an `error` with this code, text and `id`.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct EnvelopeError {
    pub error: ParseError,
    /// The JSON text of the message's `id`, where that much of it was right.
    pub id: Option<Box<str>>,
}

impl EnvelopeError {
    /// For programs.
    pub const fn code(&self) -> ErrorCode {
        match self.error {
            ParseError::TooManyChannels => ErrorCode::TooManyItems,
            ParseError::NotAnObject
            | ParseError::Json(_)
            | ParseError::DuplicateField
            | ParseError::MissingField(_)
            | ParseError::WrongField { .. }
            | ParseError::ChannelAndChannels
            | ParseError::HalfPosition => ErrorCode::BadMessage,
        }
    }

    /// To be echoed.
    pub fn id(&self) -> Option<Id<'_>> {
        self.id.as_deref().map(Id)
    }
}

/// What was wrong, for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    #[error("not a JSON object")]
    NotAnObject,
    /// Carries the rule and the place, never the text.
    #[error("not acceptable JSON: {0}")]
    Json(String),
    #[error("a field of the message stands twice")]
    DuplicateField,
    #[error("field {0:?} is missing")]
    MissingField(&'static str),
    #[error("field {field:?} must be {expected}")]
    WrongField { field: &'static str, expected: &'static str },
    #[error("\"channel\" and \"channels\" exclude each other")]
    ChannelAndChannels,
    #[error("\"epoch\" and \"offset\" go together")]
    HalfPosition,
    #[error("\"channels\" names more than {MAX_CHANNELS} channels")]
    TooManyChannels,
}

/// Reads one message.
///
/// # Errors
///
/// When the text is not acceptable JSON, or lacks what its type needs. Unknown fields are ignored.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, EnvelopeError> {
    let mut fields = Fields::default();
    let read = fields.read(text);
    let id = fields.id();
    let echo = id.as_ref().ok().copied().flatten().map(|id| id.0.into());
    let message = read.and(id).and_then(|id| Ok(ClientMessage { id, kind: fields.kind()? }));
    message.map_err(|error| EnvelopeError { error, id: echo })
}

/// The JSON texts of the fields that the core reads.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a str>,
    message_type: Option<&'a str>,
    channel: Option<&'a str>,
    channels: Option<&'a str>,
    epoch: Option<&'a str>,
    offset: Option<&'a str>,
    data: Option<&'a str>,
    key: Option<&'a str>,
    /// The first rule that a field broke. Reading goes on for the sake of the `id`.
    error: Option<ParseError>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), ParseError> {
        // Said here, because serde's own words would repeat the text.
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            return Err(ParseError::NotAnObject);
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer
            .deserialize_map(&mut *self)
            .and_then(|()| deserializer.end())
            .map_err(|error| ParseError::Json(error.to_string()))?;
        self.error.take().map_or(Ok(()), Err)
    }

    fn take(&mut self, key: &str, value: &'a str) {
        let field = match key {
            "id" => &mut self.id,
            "type" => &mut self.message_type,
            "channel" => &mut self.channel,
            "channels" => &mut self.channels,
            "epoch" => &mut self.epoch,
            "offset" => &mut self.offset,
            "data" => &mut self.data,
            "key" => &mut self.key,
            _ => return,
        };
        *field = Some(value);
    }

    fn id(&self) -> Result<Option<Id<'a>>, ParseError> {
        let wrong =
            ParseError::WrongField { field: "id", expected: "a string of at most 128 bytes, or an integer" };
        self.id.map(|json| Id::from_json(json).ok_or(wrong)).transpose()
    }

    fn kind(&self) -> Result<Kind<'a>, ParseError> {
        let message_type = string("type", self.message_type)?.ok_or(ParseError::MissingField("type"))?;
        Ok(match &*message_type {
            "subscribe_updates" => Kind::Subscribe { channels: self.channels()?, from: self.position()? },
            "unsubscribe_updates" => Kind::Unsubscribe { channels: self.channels()? },
            "publish" => Kind::Publish {
                channel: string("channel", self.channel)?.ok_or(ParseError::MissingField("channel"))?,
                data: self.data.ok_or(ParseError::MissingField("data"))?,
                key: self.key()?,
            },
            "heartbeat" => Kind::Heartbeat,
            _ if message_type.is_empty() || message_type.len() > MAX_TYPE => {
                return Err(ParseError::WrongField { field: "type", expected: "1 to 128 bytes long" });
            }
            _ => Kind::Application { message_type },
        })
    }

    fn key(&self) -> Result<Option<Cow<'a, str>>, ParseError> {
        let key = string("key", self.key)?;
        if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES) {
            return Err(ParseError::WrongField { field: "key", expected: "at most 255 bytes long" });
        }
        Ok(key)
    }

    fn channels(&self) -> Result<Channels<'a>, ParseError> {
        let list = match (string("channel", self.channel)?, self.channels) {
            (Some(channel), None) => return Ok(SmallVec::from_buf([channel])),
            (None, Some(list)) => list,
            (Some(_), Some(_)) => return Err(ParseError::ChannelAndChannels),
            (None, None) => return Err(ParseError::MissingField("channel")),
        };
        let wrong =
            || ParseError::WrongField { field: "channels", expected: "a list of one or more strings" };
        let mut deserializer = serde_json::Deserializer::from_str(list);
        match deserializer.deserialize_seq(ChannelList).map_err(|_| wrong())? {
            None => Err(ParseError::TooManyChannels),
            Some(channels) if channels.is_empty() => Err(wrong()),
            Some(channels) => Ok(channels),
        }
    }

    fn position(&self) -> Result<Option<Position>, ParseError> {
        match (string("epoch", self.epoch)?, self.offset) {
            (None, None) => Ok(None),
            (Some(epoch), Some(offset)) => {
                let expected = "an integer from 0 on";
                let wrong = |_| ParseError::WrongField { field: "offset", expected };
                let offset = offset.parse().map_err(wrong)?;
                // No log ever had an epoch of another form. The client starts at the present, as with one whose log is gone.
                Ok(epoch.parse().ok().map(|epoch| Position { epoch, offset }))
            }
            (Some(_), None) | (None, Some(_)) => Err(ParseError::HalfPosition),
        }
    }
}

impl<'a> Visitor<'a> for &mut Fields<'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(key) = entries.next_key_seed(Key)? {
            let value = entries.next_value::<&'a RawValue>()?.get();
            if let Err(error) = validate(value, 1) {
                self.error.get_or_insert(ParseError::Json(error.to_string()));
            }
            self.take(&key, value);
            if !keys.insert(key) {
                self.error.get_or_insert(ParseError::DuplicateField);
            }
        }
        Ok(())
    }
}

/// The string that this JSON text is.
fn string<'a>(field: &'static str, json: Option<&'a str>) -> Result<Option<Cow<'a, str>>, ParseError> {
    let Some(json) = json else { return Ok(None) };
    let decoded = Key.deserialize(&mut serde_json::Deserializer::from_str(json));
    decoded.map(Some).map_err(|_| ParseError::WrongField { field, expected: "a string" })
}

/// Gathers the names of `channels`. `None` when there are too many: the rest is skipped, not gathered.
struct ChannelList;

impl<'de> Visitor<'de> for ChannelList {
    type Value = Option<Channels<'de>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut channels = Channels::new();
        while let Some(channel) = items.next_element_seed(Key)? {
            if channels.len() == MAX_CHANNELS {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            channels.push(channel);
        }
        Ok(Some(channels))
    }
}

/// In bytes of JSON text between the quotes: what it costs to echo it.
const MAX_ID: usize = 128;

/// In bytes: a type is a name, and appears in logs.
const MAX_TYPE: usize = 128;
