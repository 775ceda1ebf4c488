//! Channel names, and the patterns by which an application configures channels.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest channel name, bytes of UTF-8. Names are repeated in every update, so long ones cost bandwidth.
pub const NAME_BYTES: usize = 255;

/// A legal channel name: 1 to 255 bytes, no control characters. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why text is not a channel name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    #[error("a channel name has at least one character")]
    Empty,
    #[error("a channel name has at most {NAME_BYTES} bytes")]
    TooLong,
    #[error("a channel name has no control characters")]
    Control,
    #[error("names that start with \"@\" are private channels of clients")]
    Private,
}

impl ChannelName {
    /// Checks a name that a client or an application gave.
    ///
    /// # Errors
    /// [`NameError`] when the name is empty, too long, has control characters, or is in the private range.
    pub fn new(name: &str) -> Result<Self, NameError> {
        match name.as_bytes() {
            [] => Err(NameError::Empty),
            [b'@', ..] => Err(NameError::Private),
            bytes if bytes.len() > NAME_BYTES => Err(NameError::TooLong),
            _ if name.chars().any(char::is_control) => Err(NameError::Control),
            _ => Ok(Self(name.into())),
        }
    }

    /// The private channel of one client. Nobody else can name it, because [`ChannelName::new`] refuses the range.
    pub fn private(client: &str) -> Self {
        Self(format!("@{client}").into())
    }

    pub fn is_private(&self) -> bool {
        self.0.starts_with('@')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A pattern such as `task:{task_id}` or `/files/{path:path}`.
///
/// `{name}` stands for one or more characters without the separator, `{name:path}` for any characters, none included.
#[derive(Clone, Debug)]
pub struct Pattern {
    parts: Vec<Part>,
    separator: char,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<str>),
    Segment,
    Rest,
}

/// Why text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    #[error("a pattern has at least one character")]
    Empty,
    #[error("unbalanced braces in the pattern {0:?}")]
    Braces(String),
    #[error("{0:?} is not a parameter: write {{name}} or {{name:path}}")]
    Parameter(String),
    #[error("two parameters touch in the pattern {0:?}: nothing says where the first one ends")]
    Touching(String),
}

impl Pattern {
    /// Reads a pattern; `separator` is the character that `{name}` does not match.
    ///
    /// # Errors
    /// [`PatternError`] says which part is wrong.
    pub fn new(text: &str, separator: char) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, braced) = rest.split_at(open);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let braces = || PatternError::Braces(text.to_owned());
            let (parameter, after) =
                braced.strip_prefix('{').and_then(|it| it.split_once('}')).ok_or_else(braces)?;
            if matches!(parts.last(), Some(Part::Segment | Part::Rest)) {
                return Err(PatternError::Touching(text.to_owned()));
            }
            parts.push(Part::parameter(parameter)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        if parts.is_empty() { Err(PatternError::Empty) } else { Ok(Self { parts, separator }) }
    }

    /// What the parameters stand for in `text`, in their order; `None` when the pattern does not match.
    ///
    /// A parameter takes as little as it can, so a match is unique and found in time linear in most names.
    pub fn matches<'a>(&self, text: &'a str) -> Option<Vec<&'a str>> {
        let mut found = Vec::new();
        self.parts.match_from(self.separator, text, &mut found).then_some(found)
    }
}

impl Part {
    fn parameter(text: &str) -> Result<Self, PatternError> {
        let (name, kind) = text.split_once(':').map_or((text, None), |(name, kind)| (name, Some(kind)));
        let named = !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        match (named, kind) {
            (true, None) => Ok(Self::Segment),
            (true, Some("path")) => Ok(Self::Rest),
            _ => Err(PatternError::Parameter(format!("{{{text}}}"))),
        }
    }
}

trait MatchFrom {
    fn match_from<'a>(&self, separator: char, text: &'a str, found: &mut Vec<&'a str>) -> bool;
}

impl MatchFrom for [Part] {
    fn match_from<'a>(&self, separator: char, text: &'a str, found: &mut Vec<&'a str>) -> bool {
        let Some((first, others)) = self.split_first() else { return text.is_empty() };
        let (least, bound) = match first {
            Part::Literal(literal) => {
                return text
                    .strip_prefix(&**literal)
                    .is_some_and(|rest| others.match_from(separator, rest, found));
            }
            Part::Segment => (1, text.find(separator).unwrap_or(text.len())),
            Part::Rest => (0, text.len()),
        };
        if others.is_empty() {
            let whole = text.len() >= least && bound == text.len();
            if whole {
                found.push(text);
            }
            return whole;
        }
        for end in (least..=bound).filter(|&end| text.is_char_boundary(end)) {
            found.push(&text[..end]);
            if others.match_from(separator, &text[end..], found) {
                return true;
            }
            found.pop();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
        Pattern::new(pattern, ':').expect("a legal pattern").matches(text)
    }

    #[test]
    fn a_parameter_is_one_segment_and_never_empty() {
        assert_eq!(matched("task:{id}", "task:17"), Some(vec!["17"]));
        assert_eq!(matched("task:{id}", "task:"), None);
        assert_eq!(matched("task:{id}", "task:1:2"), None);
        assert_eq!(matched("{a}:x:{b}", "ä:x:ö"), Some(vec!["ä", "ö"]));
        assert_eq!(matched("a{b}c", "abbc"), Some(vec!["bb"]));
    }

    #[test]
    fn a_path_parameter_takes_anything() {
        assert_eq!(matched("{name:path}", "a:b:c"), Some(vec!["a:b:c"]));
        assert_eq!(matched("x{rest:path}", "x"), Some(vec![""]));
    }

    #[test]
    fn patterns_without_a_unique_reading_are_refused() {
        for text in ["", "a{", "a}", "{}", "{1x}", "{a b}", "{a:int}", "{a}{b}"] {
            assert!(Pattern::new(text, ':').is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_bounded_and_private_ones_cannot_be_made() {
        assert_eq!(ChannelName::new(""), Err(NameError::Empty));
        assert_eq!(ChannelName::new("@x"), Err(NameError::Private));
        assert_eq!(ChannelName::new("a\nb"), Err(NameError::Control));
        assert_eq!(ChannelName::new(&"x".repeat(256)), Err(NameError::TooLong));
        assert!(ChannelName::new(&"x".repeat(255)).is_ok());
    }
}
