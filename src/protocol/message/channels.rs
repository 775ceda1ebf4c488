//! The channels that a message names.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use smallvec::SmallVec;

use super::fields::{MAX_CHANNELS, ParseError, wrong};
use super::validate::Key;

/// One or more names, nearly always one. Nothing is known of them but that they are strings.
pub type Channels<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// Reads them: one channel, or the JSON text of a list.
pub(super) fn channels<'a>(
    channel: Option<Cow<'a, str>>,
    list: Option<&'a str>,
) -> Result<Channels<'a>, ParseError> {
    let list = match (channel, list) {
        (Some(channel), None) => return Ok(SmallVec::from_buf([channel])),
        (None, Some(list)) => list,
        (Some(_), Some(_)) => return Err(ParseError::ChannelAndChannels),
        (None, None) => return Err(ParseError::MissingField("channel")),
    };
    let wrong = || wrong("channels", "a list of one or more strings");
    let mut deserializer = serde_json::Deserializer::from_str(list);
    match deserializer.deserialize_seq(ChannelList).map_err(|_| wrong())? {
        None => Err(ParseError::TooManyChannels),
        Some(channels) if channels.is_empty() => Err(wrong()),
        Some(channels) => Ok(channels),
    }
}

/// Gathers the names in `channels`. `None` when there are too many: the rest is skipped.
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
