//! `resume`: what a client says first that comes back to its session.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};

use super::fields::{MAX_OFFSET, ParseError, wrong};
use super::validate::Key;
use crate::position::{Position, Start};

/// A `resume` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume<'a> {
    /// The token of the session.
    pub session: Cow<'a, str>,
    /// Grows with each attempt of this session.
    pub attempt: u64,
    /// What the client wants to be subscribed to.
    pub positions: Positions<'a>,
    /// What the application knows the client by.
    pub token: Option<Cow<'a, str>>,
    /// Which part of a stream that comes in parts this is to be, from 1 on. `None`: the stream is to be whole.
    pub part: Option<u64>,
}

/// Channels by their names, each with the position that the client has in it, if it has one. Nothing is known of the names but that
/// they are strings, each of them another one.
pub type Positions<'a> = Vec<(Cow<'a, str>, Option<Start>)>;

/// Reads `positions`.
pub(super) fn positions(json: &str) -> Result<Positions<'_>, ParseError> {
    serde_json::Deserializer::from_str(json)
        .deserialize_map(PositionMap)
        .map_err(|_| wrong("positions", "an object with an epoch and an offset, or null, for each channel"))
}

struct PositionMap;

impl<'de> Visitor<'de> for PositionMap {
    type Value = Positions<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut positions = Vec::new();
        while let Some(channel) = entries.next_key_seed(Key)? {
            let asked = entries.next_value::<Option<Asked<'de>>>()?;
            if asked.as_ref().is_some_and(|asked| asked.offset > MAX_OFFSET) {
                return Err(A::Error::custom("an offset beyond 2^53 - 1"));
            }
            positions.push((channel, asked.map(|asked| asked.start())));
        }
        Ok(positions)
    }
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    offset: u64,
}

impl Asked<'_> {
    fn start(&self) -> Start {
        let epoch = self.epoch.parse().ok();
        epoch.map_or(Start::Foreign, |epoch| Start::After(Position { epoch, offset: self.offset }))
    }
}

#[cfg(test)]
mod tests {
    use crate::position::{Epoch, Position, Start};
    use crate::protocol::message::{Kind, parse};

    fn text(fields: &str) -> String {
        format!(r#"{{"type":"resume","session":"s","attempt":1,"positions":{{}}{fields}}}"#)
    }

    #[test]
    fn a_client_names_each_channel_with_its_position_or_without() {
        let positions =
            r#"{"a":{"epoch":"00000000000000ff","offset":7},"b":null,"c":{"epoch":"?","offset":0,"x":1}}"#;
        let text =
            format!(r#"{{"type":"resume","session":"s","attempt":3,"positions":{positions},"token":"t"}}"#);
        let Kind::Resume(resume) = parse(&text).expect("legal").kind else { panic!("another type") };
        let position = Position { epoch: Epoch::new(255), offset: 7 };
        let expected = [("a", Some(Start::After(position))), ("b", None), ("c", Some(Start::Foreign))];
        let found: Vec<_> = resume.positions.iter().map(|(channel, start)| (&**channel, *start)).collect();
        assert_eq!(found, expected);
        assert_eq!((&*resume.session, resume.attempt, resume.token.as_deref()), ("s", 3, Some("t")));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, field) in [
            (r#"{"type":"resume","attempt":1,"positions":{}}"#.to_owned(), "session"),
            (r#"{"type":"resume","session":"s","positions":{}}"#.to_owned(), "attempt"),
            (r#"{"type":"resume","session":"s","attempt":1}"#.to_owned(), "positions"),
            (text(r#","token":1"#), "token"),
        ] {
            let error = parse(&text).expect_err("it is wrong").to_string();
            assert!(error.contains(field), "{error}");
        }
        for attempt in ["0", "-1", "1.0", "\"1\"", "9007199254740992", "null", "true"] {
            let text = format!(r#"{{"type":"resume","session":"s","attempt":{attempt},"positions":{{}}}}"#);
            assert!(parse(&text).expect_err("it is wrong").to_string().contains("attempt"), "{attempt}");
        }
        for position in [
            "1",
            "{}",
            r#"{"epoch":"a"}"#,
            r#"{"offset":1}"#,
            r#"{"epoch":1,"offset":1}"#,
            r#"{"epoch":"a","offset":-1}"#,
            r#"{"epoch":"a","offset":1.5}"#,
            r#"{"epoch":"a","offset":9007199254740992}"#,
        ] {
            let text =
                format!(r#"{{"type":"resume","session":"s","attempt":1,"positions":{{"a":{position}}}}}"#);
            assert!(parse(&text).expect_err("it is wrong").to_string().contains("positions"), "{position}");
        }
    }
}
