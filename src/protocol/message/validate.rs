//! Validates JSON without building values of it, so that it is safe for every program that reads it later.
//!
//! It is stricter than RFC 8259 where readers disagree: there are no duplicate keys (one reader takes the first, another the
//! last), no lone surrogates (they are no text), no numbers beyond a double (some readers say infinity), no integers beyond 64 bits
//! (some readers keep the digits, others round), and there is a bound on depth (Python's recursion limit; CVE-2024-27454).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

/// How deep arrays and objects may nest. The message itself counts.
const MAX_DEPTH: usize = 64;

/// Checks that `text` is one JSON value that keeps to all these rules. `depth` is the number of arrays and objects around it.
///
/// Returns the number of its elements: values and keys, itself and all in it.
///
/// The work is linear in the length of `text`. The keys of the objects that are open are held.
///
/// # Errors
///
/// At the first rule that is broken; with the place in `text`.
pub fn validate(text: &str, depth: usize) -> Result<u32, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let has_large = Cell::new(false);
    let elements = Value { depth, has_large: &has_large }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    if has_large.get() && has_large_integer(text) {
        return Err(Error::custom("an integer beyond 64 bits"));
    }
    Ok(elements)
}

/// Whether a JSON text has an integer that neither `i64` nor `u64` can hold. `1e30` is none.
fn has_large_integer(text: &str) -> bool {
    let (mut in_string, mut is_escaped) = (false, false);
    let ends_number = |letter: char| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        in_string || !matches!(letter, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
    };
    let is_large = |token: &str| {
        let is_integer = !token.is_empty() && token.bytes().all(|it| it == b'-' || it.is_ascii_digit());
        is_integer && token.parse::<i64>().is_err() && token.parse::<u64>().is_err()
    };
    text.split(ends_number).any(is_large)
}

/// The keys of one open object.
///
/// A few keys are a list. More are a set; its hash has a random key, so that a peer can't choose names that collide.
#[derive(Default)]
pub(super) struct Keys<'a> {
    few: SmallVec<[Cow<'a, str>; FEW_KEYS]>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    /// Adds a key. Returns whether it is new.
    pub(super) fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        if self.few.len() == FEW_KEYS {
            self.many.extend(self.few.drain(..));
            return self.many.insert(key);
        }
        self.few.push(key);
        true
    }
}

/// Just under the largest double (1.7976…e308). Above it, readers that round differently do not agree what is infinite.
const LARGEST_NUMBER: f64 = 1.797e308;

/// 2⁶³: no smaller one is an integer beyond 64 bits.
const LARGE_NUMBER: f64 = 9_223_372_036_854_775_808.0;

/// Comparing this many short keys costs about as much as hashing one.
const FEW_KEYS: usize = 8;

/// One value with so many arrays and objects around it. It is validated by being visited, and its elements are counted.
#[derive(Clone, Copy)]
struct Value<'c> {
    depth: usize,
    /// It has a number that may be an integer beyond 64 bits: serde makes a double of that.
    has_large: &'c Cell<bool>,
}

impl Value<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth < MAX_DEPTH {
            Ok(Self { depth: self.depth + 1, ..self })
        } else {
            Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = u32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<u32, E> {
        Ok(1)
    }

    fn visit_i64<E>(self, _: i64) -> Result<u32, E> {
        Ok(1)
    }

    fn visit_u64<E>(self, _: u64) -> Result<u32, E> {
        Ok(1)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<u32, E> {
        if number.abs() >= LARGE_NUMBER {
            self.has_large.set(true);
        }
        if number.abs() < LARGEST_NUMBER { Ok(1) } else { Err(E::custom("number out of range")) }
    }

    fn visit_str<E>(self, _: &str) -> Result<u32, E> {
        Ok(1)
    }

    fn visit_unit<E>(self) -> Result<u32, E> {
        Ok(1)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u32, A::Error> {
        let inner = self.inner()?;
        let mut elements = 1;
        while let Some(more) = items.next_element_seed(inner)? {
            elements += more;
        }
        Ok(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<u32, A::Error> {
        let inner = self.inner()?;
        let mut keys = Keys::default();
        let mut elements = 1;
        while let Some(key) = entries.next_key_seed(Key)? {
            if !keys.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
            elements += 1 + entries.next_value_seed(inner)?;
        }
        Ok(elements)
    }
}

/// A string with its escapes resolved. It is borrowed from the text when it has none.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_all_readers_agree_on_is_accepted() {
        for text in [
            "null",
            "-0",
            "1e308",
            "18446744073709551615",
            "-9223372036854775808",
            r#"["99999999999999999999", "\"99999999999999999999", {"99999999999999999999": 1e30, "x": true}]"#,
            "1.8446744073709552e19",
            r#"{"a":{"a":[1]}}"#,
            r#""\ud83d\ude00""#,
        ] {
            assert!(validate(text, 0).is_ok(), "{text}");
        }
    }

    #[test]
    fn json_that_readers_disagree_on_is_refused() {
        let duplicate_late =
            format!("{{{}\"k3\":1}}", (0..20).map(|n| format!("\"k{n}\":0,")).collect::<String>());
        for text in [
            "NaN",
            "Infinity",
            "1e400",
            "1.7976931348623159e308",
            "-1e400",
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890",
            r#"{"a\"": [1e30, {"b": "\\", "c":99999999999999999999}]}"#,
            "\"\\ud800\"",
            "\"\\udc00x\"",
            "{\"a\":1,\"\\u0061\":2}",
            "1 1",
            "",
            "01",
            "\"\t\"",
            "[1,]",
            "'a'",
            "\u{feff}1",
            &duplicate_late,
        ] {
            assert!(validate(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_counts_what_is_around_the_value() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(validate(&nested(MAX_DEPTH), 0).is_ok());
        assert!(validate(&nested(MAX_DEPTH + 1), 0).is_err());
        assert!(validate(&nested(MAX_DEPTH), 1).is_err());
        assert!(validate(&nested(100_000), 0).is_err());
    }
}
