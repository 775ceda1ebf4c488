//! What a client says: the fields that every message may have, and those of the types that the core acts on itself.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::channels::{Channels, channels};
use super::fields::{MAX_OFFSET, ParseError, required, string, wrong};
use super::presence::{PresenceChange, PresenceFields};
use super::publish::{Publish, PublishFields, publish};
use super::resume::{Resume, positions};
use super::validate::{Key, Keys, validate};
use crate::error_code::ErrorCode;
use crate::position::{Position, Start};

/// One message of a client, borrowed from its text. All of the text keeps the rules of `validate.rs`, also the parts that are
/// not used.
#[derive(Clone, Debug)]
pub struct ClientMessage<'a> {
    /// Comes back in every answer to the message.
    pub id: Option<Id<'a>>,
    /// Values and keys in it.
    pub elements: u32,
    /// What the client wants.
    pub kind: Kind<'a>,
}

/// The JSON text of a message's `id`: a string of at most 128 bytes, or an integer. Answers repeat it unchanged.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub struct Id<'a>(&'a RawValue);

impl<'a> Id<'a> {
    /// Reads an `id` from its JSON text.
    pub fn from_json(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok().and_then(Self::new)
    }

    fn new(raw: &'a RawValue) -> Option<Self> {
        let json = raw.get();
        let fits = match json.as_bytes().first() {
            Some(b'"') => json.len() <= MAX_ID + 2 && validate(json, 1).is_ok(),
            _ => json.parse::<i64>().is_ok() || json.parse::<u64>().is_ok(),
        };
        fits.then_some(Self(raw))
    }

    /// The JSON text: a string with its quotes, or digits.
    pub fn as_json(self) -> &'a str {
        self.0.get()
    }
}

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// `subscribe_updates`.
    Subscribe {
        /// What the client wants to read.
        channels: Channels<'a>,
        /// Where they begin.
        start: Start,
        /// A subscription that the client has begins anew.
        restart: bool,
    },
    /// `unsubscribe_updates`.
    Unsubscribe {
        /// What the client does not want to read any more.
        channels: Channels<'a>,
    },
    /// `publish`, `state_set`, `state_patch` and `state_delete`.
    Publish(Publish<'a>),
    /// `presence_update`.
    Presence {
        /// Where others see it.
        channel: Cow<'a, str>,
        /// What they see then.
        change: PresenceChange,
    },
    /// `heartbeat`.
    Heartbeat,
    /// `authenticate`, which only the first message can be.
    Authenticate {
        /// What the application knows the client by.
        token: Option<Cow<'a, str>>,
        /// See [`Resume::part`].
        part: Option<u64>,
    },
    /// `resume`, which only the first message can be.
    Resume(Resume<'a>),
    /// A message of any other type, which the application answers.
    Application {
        /// That type.
        message_type: Cow<'a, str>,
    },
}

/// A message that can't be used. The client gets an `error` with this code, text and `id`, and stays connected.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct EnvelopeError {
    /// What is wrong.
    pub error: ParseError,
    id: Option<Box<RawValue>>,
}

impl EnvelopeError {
    /// The code of the `error` message.
    pub const fn code(&self) -> ErrorCode {
        match self.error {
            ParseError::TooManyChannels => ErrorCode::TooManyItems,
            _ => ErrorCode::BadMessage,
        }
    }

    /// The `id` of the message, where it could be read and is legal.
    pub fn id(&self) -> Option<Id<'_>> {
        self.id.as_deref().map(Id)
    }
}

/// Reads one message.
///
/// # Errors
///
/// When the text is not acceptable JSON, or a field that its type needs is missing or wrong. Unknown fields are ignored.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, EnvelopeError> {
    let mut fields = Fields::default();
    let read = fields.read(text);
    let id = fields.id();
    let legal = id.as_ref().ok().copied().flatten();
    let message =
        read.and(id).and_then(|id| Ok(ClientMessage { id, elements: fields.elements, kind: fields.kind()? }));
    message.map_err(|error| EnvelopeError { error, id: legal.map(|id| id.0.to_owned()) })
}

/// Reads what a program publishes over HTTP: `publish` or a change of a state. The type of `publish` may be left out. Returns the values and
/// keys in it, too.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_publication(text: &str) -> Result<(Publish<'_>, u32), ParseError> {
    let mut fields = Fields::default();
    fields.read(text)?;
    let message_type = string("type", fields.message_type)?.unwrap_or(Cow::Borrowed("publish"));
    Ok((fields.publish(&message_type)?, fields.elements))
}

/// The JSON texts of the fields that the core reads.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a RawValue>,
    message_type: Option<&'a str>,
    channel: Option<&'a str>,
    channels: Option<&'a str>,
    epoch: Option<&'a str>,
    offset: Option<&'a str>,
    restart: Option<&'a str>,
    data: Option<&'a str>,
    key: Option<&'a str>,
    event: Option<&'a str>,
    version: Option<&'a str>,
    resolve: Option<&'a str>,
    token: Option<&'a str>,
    session: Option<&'a str>,
    attempt: Option<&'a str>,
    part: Option<&'a str>,
    positions: Option<&'a str>,
    presence: PresenceFields<'a>,
    elements: u32,
    /// The first rule that a field broke. Reading goes on, because the `id` may come after it.
    error: Option<ParseError>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), ParseError> {
        // Checked here, because the error of serde would repeat the text.
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

    fn take(&mut self, key: &str, value: &'a RawValue) {
        let field = match key {
            "id" => {
                self.id = Some(value);
                return;
            }
            "type" => &mut self.message_type,
            "channel" => &mut self.channel,
            "channels" => &mut self.channels,
            "epoch" => &mut self.epoch,
            "offset" => &mut self.offset,
            "restart" => &mut self.restart,
            "data" => &mut self.data,
            "key" => &mut self.key,
            "event" => &mut self.event,
            "ifVersion" => &mut self.version,
            "resolve" => &mut self.resolve,
            "token" => &mut self.token,
            "session" => &mut self.session,
            "attempt" => &mut self.attempt,
            "part" => &mut self.part,
            "positions" => &mut self.positions,
            other => return self.presence.take(other, value.get()),
        };
        *field = Some(value.get());
    }

    fn id(&self) -> Result<Option<Id<'a>>, ParseError> {
        let wrong = || wrong("id", "a string of at most 128 bytes, or an integer");
        self.id.map(|raw| Id::new(raw).ok_or_else(wrong)).transpose()
    }

    fn kind(&self) -> Result<Kind<'a>, ParseError> {
        let message_type = required("type", string("type", self.message_type)?)?;
        Ok(match &*message_type {
            "subscribe_updates" => {
                let (channels, start) = (self.channels()?, self.start()?);
                if channels.len() > 1 && start != Start::Newcomer {
                    return Err(ParseError::SharedPosition);
                }
                Kind::Subscribe { channels, start, restart: self.restart()? }
            }
            "unsubscribe_updates" => Kind::Unsubscribe { channels: self.channels()? },
            "publish" | "state_set" | "state_patch" | "state_delete" => {
                Kind::Publish(self.publish(&message_type)?)
            }
            "presence_update" => Kind::Presence {
                channel: required("channel", string("channel", self.channel)?)?,
                change: self.presence.read(self.data)?,
            },
            "heartbeat" => Kind::Heartbeat,
            "authenticate" => Kind::Authenticate { token: self.token()?, part: self.part()? },
            "resume" => Kind::Resume(self.resume()?),
            _ if message_type.is_empty() || message_type.len() > MAX_TYPE => {
                return Err(wrong("type", "1 to 128 bytes long"));
            }
            _ => Kind::Application { message_type },
        })
    }

    fn publish(&self, message_type: &str) -> Result<Publish<'a>, ParseError> {
        let Self { channel, data, key, event, version, epoch, resolve, .. } = *self;
        publish(PublishFields { channel, data, key, event, version, epoch, resolve }, message_type)
    }

    fn resume(&self) -> Result<Resume<'a>, ParseError> {
        let part = self.part()?;
        // The session may have begun without an attempt.
        let least = u64::from(part.is_none_or(|part| part == 1));
        let attempt = required("attempt", self.attempt)?.parse().ok();
        let attempt = attempt.filter(|attempt| (least..=MAX_OFFSET).contains(attempt));
        Ok(Resume {
            session: required("session", string("session", self.session)?)?,
            attempt: attempt.ok_or_else(|| wrong("attempt", "an integer from 1 to 2^53 - 1"))?,
            positions: positions(required("positions", self.positions)?)?,
            token: self.token()?,
            part,
        })
    }

    fn part(&self) -> Result<Option<u64>, ParseError> {
        let part = self.part.map(|part| part.parse().ok().filter(|part| (1..=MAX_OFFSET).contains(part)));
        part.map(|part| part.ok_or_else(|| wrong("part", "an integer from 1 to 2^53 - 1"))).transpose()
    }

    fn token(&self) -> Result<Option<Cow<'a, str>>, ParseError> {
        let token = string("token", self.token)?;
        if token.as_ref().is_some_and(|token| token.len() > MAX_TOKEN) {
            return Err(wrong("token", "at most 16 KiB long"));
        }
        Ok(token)
    }

    fn channels(&self) -> Result<Channels<'a>, ParseError> {
        channels(string("channel", self.channel)?, self.channels)
    }

    fn start(&self) -> Result<Start, ParseError> {
        match (string("epoch", self.epoch)?, self.offset) {
            (None, None) => Ok(Start::Newcomer),
            (Some(epoch), Some(offset)) => {
                let offset = offset.parse().ok().filter(|offset| *offset <= MAX_OFFSET);
                let offset =
                    offset.ok_or_else(|| wrong("offset", "an integer from 0 to 9007199254740991"))?;
                // No log ever had an epoch of another form. That is not an error: the client is told that its log is gone.
                let position = epoch.parse().map(|epoch| Position { epoch, offset });
                Ok(position.map_or(Start::Foreign, Start::After))
            }
            (Some(_), None) | (None, Some(_)) => Err(ParseError::HalfPosition),
        }
    }

    fn restart(&self) -> Result<bool, ParseError> {
        match self.restart {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(wrong("restart", "true or false")),
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
            let value = entries.next_value::<&'a RawValue>()?;
            match validate(value.get(), 1) {
                Ok(elements) => self.elements += 1 + elements,
                Err(error) => drop(self.error.get_or_insert(ParseError::Json(error.to_string()))),
            }
            self.take(&key, value);
            if !keys.insert(key) {
                self.error.get_or_insert(ParseError::DuplicateField);
            }
        }
        Ok(())
    }
}

/// In bytes of JSON text between the quotes. Every answer repeats the `id`.
const MAX_ID: usize = 128;

/// In bytes. The application keeps it as long as the client.
const MAX_TOKEN: usize = 16 * 1024;

/// In bytes. A type is a name, and appears in logs.
const MAX_TYPE: usize = 128;
