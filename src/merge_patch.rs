//! JSON merge patch (RFC 7396), on texts: what the patch does not name stays as it was written, digits of numbers too.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::de::IgnoredAny;

/// A patch that was read. It is an object: any other patch would be a new value (RFC 7396 §2), which is what a set is for.
#[derive(Debug)]
pub struct Patch<'a>(Members<'a>);

/// In their order, with the text of each name.
#[derive(Debug)]
struct Members<'a> {
    list: Vec<(&'a str, Node<'a>)>,
    /// Where a name is in the list.
    index: HashMap<Cow<'a, str>, usize>,
}

#[derive(Debug)]
enum Node<'a> {
    Object(Members<'a>),
    Null,
    /// The text of any other value.
    Other(&'a str),
}

/// Why a text is no patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is another value.
    #[error("a patch is a JSON object")]
    NoObject,
    /// It nests too much.
    #[error("a patch nests at most {MAX_DEPTH} deep")]
    Deep,
    /// It is no JSON.
    #[error("a patch is JSON")]
    NoJson,
}

impl<'a> Patch<'a> {
    /// Reads a patch. The work is linear in its length.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &'a str) -> Result<Self, PatchError> {
        serde_json::from_str::<IgnoredAny>(text).map_err(|_| PatchError::NoJson)?;
        match (Cursor { text, at: 0 }).node(MAX_DEPTH)? {
            Node::Object(members) => Ok(Self(members)),
            Node::Null | Node::Other(_) => Err(PatchError::NoObject),
        }
    }

    /// Appends the value that it makes of another one, which is JSON. The work is linear in both.
    pub fn apply(&self, value: Option<&str>, out: &mut Vec<u8>) {
        let mut cursor = Cursor { text: value.unwrap_or_default(), at: 0 };
        merge(&mut cursor, &self.0, out);
    }
}

/// Goes over the value at the cursor, if there is one, and writes what the patch makes of it.
fn merge(value: &mut Cursor<'_>, patch: &Members<'_>, out: &mut Vec<u8>) {
    let mut is_first = true;
    let mut write = |name: &str, text: &str, out: &mut Vec<u8>| {
        out.push(if std::mem::take(&mut is_first) { b'{' } else { b',' });
        for text in [name, ":", text] {
            out.extend_from_slice(text.as_bytes());
        }
    };
    let mut seen = vec![false; patch.list.len()];
    if value.peek() == Some(b'{') {
        value.at += 1;
        while let Some((name, decoded)) = value.name() {
            let Some(&index) = patch.index.get(&decoded) else {
                write(name, value.skip(), out);
                continue;
            };
            if std::mem::replace(&mut seen[index], true) {
                // It has the name twice. The patch counts once: otherwise a short patch of such a value could make a very long one.
                value.skip();
                continue;
            }
            match &patch.list[index].1 {
                Node::Object(members) => {
                    write(name, "", out);
                    merge(value, members, out);
                }
                Node::Other(text) => {
                    write(name, text, out);
                    value.skip();
                }
                Node::Null => drop(value.skip()),
            }
        }
    } else {
        value.skip();
    }
    for ((name, node), _) in patch.list.iter().zip(seen).filter(|(_, seen)| !seen) {
        match node {
            Node::Object(members) => {
                write(name, "", out);
                merge(&mut Cursor::default(), members, out);
            }
            Node::Other(text) => write(name, text, out),
            Node::Null => {}
        }
    }
    out.extend_from_slice(if is_first { b"{}" } else { b"}" });
}

/// Reads what was found to be JSON. Of anything else it makes something, without a panic.
#[derive(Default)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is no white space. It is not taken.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes the name of the next member of an object, with its colon: its text, and what that says. `None` at the end of the object, which
    /// is taken, too.
    fn name(&mut self) -> Option<(&'a str, Cow<'a, str>)> {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        if self.peek()? != b'"' {
            self.at += 1;
            return None;
        }
        let name = self.skip();
        if self.peek() == Some(b':') {
            self.at += 1;
        }
        let plain = name.get(1..name.len().saturating_sub(1)).filter(|text| !text.contains('\\'));
        let decoded = plain.map_or_else(|| serde_json::from_str(name).unwrap_or_default(), Cow::Borrowed);
        Some((name, decoded))
    }

    /// Takes the next value: its text.
    fn skip(&mut self) -> &'a str {
        self.peek();
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let mut depth = 0_usize;
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' => self.skip_string(),
                b'{' | b'[' => (self.at, depth) = (self.at + 1, depth + 1),
                b'}' | b']' if depth == 0 => break,
                b'}' | b']' => (self.at, depth) = (self.at + 1, depth - 1),
                b',' | b':' if depth == 0 => break,
                _ if depth == 0 => {
                    let ends = |byte: &u8| byte.is_ascii_whitespace() || b",:{}[]\"".contains(byte);
                    let length = bytes[self.at..].iter().position(ends);
                    self.at = length.map_or(bytes.len(), |length| self.at + length);
                }
                _ => self.at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// From one quotation mark to behind the other.
    fn skip_string(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(length) = memchr::memchr2(b'"', b'\\', &bytes[self.at.min(bytes.len())..]) {
            self.at += length + 1;
            if bytes[self.at - 1] == b'"' {
                return;
            }
            self.at += 1;
        }
        self.at = bytes.len();
    }

    /// Takes the next value of a patch.
    fn node(&mut self, depth: usize) -> Result<Node<'a>, PatchError> {
        if self.peek() != Some(b'{') {
            let text = self.skip();
            return Ok(if text == "null" { Node::Null } else { Node::Other(text) });
        }
        let depth = depth.checked_sub(1).ok_or(PatchError::Deep)?;
        self.at += 1;
        let mut members = Members { list: Vec::new(), index: HashMap::new() };
        while let Some((name, decoded)) = self.name() {
            let node = self.node(depth)?;
            // Of two with one name the last counts, as for all who read it otherwise.
            match members.index.entry(decoded) {
                Entry::Occupied(known) => members.list[*known.get()] = (name, node),
                Entry::Vacant(new) => {
                    new.insert(members.list.len());
                    members.list.push((name, node));
                }
            }
        }
        Ok(Node::Object(members))
    }
}

/// As deep as a message may nest.
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn merged(value: Option<&str>, patch: &str) -> String {
        let mut out = Vec::new();
        Patch::read(patch).expect("a patch").apply(value, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn the_vectors_of_all_clients_hold_here() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../clients/vectors/merge_patch.json")).expect("JSON");
        assert!(vectors.len() > 20);
        for case in vectors {
            let text = |field: &str| case.get(field).map(Value::to_string);
            let (target, patch) = (text("target"), text("patch").expect("a patch"));
            if case["patch"].is_object() {
                let result: Value = serde_json::from_str(&merged(target.as_deref(), &patch)).expect("JSON");
                assert_eq!(result, case["result"], "{}", case["name"]);
            } else {
                assert_eq!(Patch::read(&patch).err(), Some(PatchError::NoObject), "{}", case["name"]);
            }
        }
    }

    #[test]
    fn what_is_not_named_stays_as_it_was_written() {
        let value = r#" { "a" : 1.10e2 , "b":[1, {"c":null}],"\u0063":"x\"}", "d" : {"e":12345678901234567890123} } "#;
        assert_eq!(
            merged(Some(value), r#"{"c":2,"d":{"f":0.10},"g":{"h":null,"i":{"j":null}}}"#),
            r#"{"a":1.10e2,"b":[1, {"c":null}],"\u0063":2,"d":{"e":12345678901234567890123,"f":0.10},"g":{"i":{}}}"#
        );
        assert_eq!(merged(Some(r#"{"a":1}"#), r#"{"\u0061":null}"#), "{}");
        assert_eq!(merged(None, r#"{"a":1}"#), r#"{"a":1}"#);
    }

    #[test]
    fn a_patch_is_an_object_that_does_not_nest_too_deep() {
        let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(merged(Some("[]"), &nested(64)), nested(64));
        assert_eq!(Patch::read(&nested(65)).err(), Some(PatchError::Deep));
        assert_eq!(Patch::read(&nested(200_000)).err(), Some(PatchError::Deep));
        for (text, error) in [
            ("[1]", PatchError::NoObject),
            ("null", PatchError::NoObject),
            ("", PatchError::NoJson),
            ("{", PatchError::NoJson),
            (r#"{"a":1} 2"#, PatchError::NoJson),
        ] {
            assert_eq!(Patch::read(text).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_there_twice_makes_no_patch_count_twice() {
        assert_eq!(merged(Some(r#"{"a":0}"#), r#"{"a":1,"b":1,"\u0061":2}"#), r#"{"a":2,"b":1}"#);
        assert_eq!(merged(Some(r#"{"a":0}"#), r#"{"a":1,"a":null}"#), "{}");
        assert_eq!(merged(Some(r#"{"a":0,"b":0,"\u0061":1}"#), r#"{"a":2}"#), r#"{"a":2,"b":0}"#);
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000));
        let many = format!("{{{}}}", vec![r#""a":0"#; 10_000].join(","));
        assert_eq!(merged(Some(&many), &long), long);
    }

    #[test]
    fn an_empty_value_and_a_broken_one_are_no_reason_to_panic() {
        let patch = Patch::read(r#"{"a":{"b":1},"c":null}"#).expect("a patch");
        for text in
            ["", "{", "{\"", "{\"a\\", "{\"a\":", "{\"a\":{", "}", ",", "{,,}", "{\"\\é", "{:1}", "[", "\"é"]
        {
            patch.apply(Some(text), &mut Vec::new());
        }
    }

    proptest::proptest! {
        #[test]
        fn it_does_what_the_rfc_says(value in json_value(), patch in json_value()) {
            let patch = json!({ "a": patch, "b": null });
            let result: Value = serde_json::from_str(&merged(Some(&value.to_string()), &patch.to_string())).unwrap();
            proptest::prop_assert_eq!(result, by_the_rfc(value, &patch));
        }
    }

    fn json_value() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a\"\\\\é{},:]{0,3}".prop_map(Value::from),
            any::<i64>().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[ab\"]{1,2}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// RFC 7396 §2, word for word.
    fn by_the_rfc(target: Value, patch: &Value) -> Value {
        let Value::Object(members) = patch else { return patch.clone() };
        let mut target = if let Value::Object(target) = target { target } else { serde_json::Map::new() };
        for (name, value) in members {
            if value.is_null() {
                target.remove(name);
            } else {
                let old = target.remove(name).unwrap_or(Value::Null);
                target.insert(name.clone(), by_the_rfc(old, value));
            }
        }
        target.into()
    }
}
