//! Reading single fields, and what can be wrong with a message.

use std::borrow::Cow;

use serde::de::DeserializeSeed as _;

use super::validate::Key;

/// Most channels that one message may name. A message with more is refused before its names are gathered.
pub const MAX_CHANNELS: usize = 128;

/// The largest integer that every reader of JSON keeps: 2⁵³ - 1.
pub(super) const MAX_OFFSET: u64 = (1 << 53) - 1;

/// What is wrong with a message. The text is for people, and never repeats the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It is something else, or it is no JSON at all.
    #[error("not a JSON object")]
    NotAnObject,
    /// It breaks a rule of JSON, or one of ours; carries the rule and the place.
    #[error("not acceptable JSON: {0}")]
    Json(String),
    /// Two fields of the message have the same name.
    #[error("a field of the message occurs twice")]
    DuplicateField,
    /// A message of this type needs the field.
    #[error("field {0:?} is missing")]
    MissingField(&'static str),
    /// The field has a value of a wrong type or length.
    #[error("field {field:?} must be {expected}")]
    WrongField {
        /// Its name.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// The channels are named in two ways.
    #[error("give \"channel\" or \"channels\", not both")]
    ChannelAndChannels,
    /// A position needs both parts.
    #[error("\"epoch\" and \"offset\" must be given together")]
    HalfPosition,
    /// A position is of one channel.
    #[error("a position is for one channel, and \"channels\" names several")]
    SharedPosition,
    /// More than [`MAX_CHANNELS`].
    #[error("\"channels\" names more than {MAX_CHANNELS} channels")]
    TooManyChannels,
}

pub(super) const fn wrong(field: &'static str, expected: &'static str) -> ParseError {
    ParseError::WrongField { field, expected }
}

pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ParseError> {
    value.ok_or(ParseError::MissingField(field))
}

/// Reads a field that is a string.
pub(super) fn string<'a>(
    field: &'static str,
    json: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, ParseError> {
    let Some(json) = json else { return Ok(None) };
    let decoded = Key.deserialize(&mut serde_json::Deserializer::from_str(json));
    decoded.map(Some).map_err(|_| wrong(field, "a string"))
}
