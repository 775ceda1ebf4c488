//! Patterns: how an application names many channels or websocket paths at once.

/// A pattern such as `task:{task_id}` or `/files/{path:path}`.
///
/// `{name}` matches one or more characters other than the separator. `{name:path}` matches any characters, also none.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The text before the first parameter.
    prefix: Box<str>,
    parameters: Vec<Parameter>,
    separator: char,
}

#[derive(Clone, Debug)]
struct Parameter {
    kind: Kind,
    /// The literal text after it. Only the last parameter can have an empty one.
    tail: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `{name}`
    Segment,
    /// `{name:path}`
    Rest,
}

/// Why text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It has no character.
    #[error("a pattern has at least one character")]
    Empty,
    /// A brace has no partner.
    #[error("unbalanced braces in the pattern {0:?}")]
    Braces(String),
    /// What is between two braces is no parameter.
    #[error("{0:?} is not a parameter: write {{name}} or {{name:path}}")]
    Parameter(String),
    /// Two parameters have nothing between them.
    #[error("two parameters touch in the pattern {0:?}: nothing says where the first one ends")]
    Touching(String),
}

impl Pattern {
    /// Reads a pattern; `separator` is the character that `{name}` does not match.
    ///
    /// # Errors
    /// [`PatternError`] says which part is wrong.
    pub fn new(text: &str, separator: char) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let braces = || PatternError::Braces(text.to_owned());
        let mut pieces = text.split('{');
        let prefix = pieces.next().filter(|literal| !literal.contains('}')).ok_or_else(braces)?;
        let mut parameters: Vec<Parameter> = Vec::new();
        for piece in pieces {
            let (parameter, tail) = piece.split_once('}').ok_or_else(braces)?;
            if tail.contains('}') {
                return Err(braces());
            }
            if parameters.last().is_some_and(|before| before.tail.is_empty()) {
                return Err(PatternError::Touching(text.to_owned()));
            }
            parameters.push(Parameter { kind: Kind::new(parameter)?, tail: tail.into() });
        }
        Ok(Self { prefix: prefix.into(), parameters, separator })
    }

    /// The values of the parameters in `text`, in their order; `None` when the pattern does not match.
    ///
    /// Each parameter takes as little as it can, the first one first, so there is only one answer.
    ///
    /// A parameter ends where the literal text after it occurs first. A later place needs no try in most cases: if it led to a
    /// match, the next parameter could as well take the text between the two places. The exception is a segment after a
    /// `{name:path}`, because a segment can't take a separator. When it fails, the `{name:path}` is made longer, up to after
    /// the next separator. So the work is at most one pass over the parameters for each separator, whatever the text.
    pub fn matches<'a>(&self, text: &'a str) -> Option<Vec<&'a str>> {
        let mut rest = text.strip_prefix(&*self.prefix)?;
        let mut found: Vec<&str> = Vec::with_capacity(self.parameters.len());
        // The last `{name:path}` with a segment after it, which can be made longer: its index, and the text from its begin on.
        let mut open: Option<(usize, &str)> = None;
        while let Some(parameter) = self.parameters.get(found.len()) {
            let index = found.len();
            let last = index + 1 == self.parameters.len();
            if parameter.kind == Kind::Rest {
                open = None;
            }
            if let Some(end) = parameter.end(rest, 0, last, self.separator) {
                if parameter.kind == Kind::Rest && !last && self.parameters[index + 1].kind == Kind::Segment {
                    open = Some((index, rest));
                }
                found.push(&rest[..end]);
                rest = &rest[end + parameter.tail.len()..];
                continue;
            }
            let (index, begun) = open?;
            let parameter = &self.parameters[index];
            let after = found[index].len() + parameter.tail.len();
            let passed = after + begun[after..].find(self.separator)? + self.separator.len_utf8();
            // The literal text after the parameter may itself contain that separator.
            let end = parameter.end(begun, passed - parameter.tail.len(), false, self.separator)?;
            found.truncate(index);
            found.push(&begun[..end]);
            rest = &begun[end + parameter.tail.len()..];
        }
        rest.is_empty().then_some(found)
    }
}

impl Parameter {
    /// Where the parameter ends in a text that begins with it: at the first occurrence of its literal text from the byte
    /// `least` on. The last parameter ends where its literal text ends the whole.
    fn end(&self, text: &str, least: usize, last: bool, separator: char) -> Option<usize> {
        let (mut least, most) = match self.kind {
            Kind::Segment => (text.chars().next()?.len_utf8(), text.find(separator).unwrap_or(text.len())),
            Kind::Rest => (least, text.len()),
        };
        if last {
            let end = text.strip_suffix(&*self.tail)?.len();
            return (least <= end && end <= most).then_some(end);
        }
        while !text.is_char_boundary(least) {
            least += 1;
        }
        let mut until = (most + self.tail.len()).min(text.len());
        while !text.is_char_boundary(until) {
            until -= 1;
        }
        text.get(least..until)?.find(&*self.tail).map(|index| least + index)
    }
}

impl Kind {
    fn new(text: &str) -> Result<Self, PatternError> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The meaning of a pattern, at any cost: the shortest parameters that fit, the first ones first.
    fn model<'a>(parameters: &[Parameter], separator: char, text: &'a str) -> Option<Vec<&'a str>> {
        let Some((first, others)) = parameters.split_first() else {
            return text.is_empty().then(Vec::new);
        };
        let (least, most) = match first.kind {
            Kind::Segment => (1, text.find(separator).unwrap_or(text.len())),
            Kind::Rest => (0, text.len()),
        };
        (least..=most).filter(|&end| text.is_char_boundary(end)).find_map(|end| {
            let rest = text[end..].strip_prefix(&*first.tail)?;
            let found = model(others, separator, rest)?;
            Some([&[&text[..end]], &found[..]].concat())
        })
    }

    /// Few different letters, so that literals occur often.
    fn letters(most: usize) -> impl Strategy<Value = String> {
        proptest::string::string_regex(&format!("[-:aé]{{0,{most}}}")).expect("an expression")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn matching_means_what_the_model_says(
            prefix in letters(2),
            parameters in prop::collection::vec((any::<bool>(), letters(3)), 1..6),
            made in prop::collection::vec(letters(4), 6),
            any in letters(14),
        ) {
            let (mut pattern, mut text) = (prefix.clone(), prefix);
            for (index, (path, tail)) in parameters.iter().enumerate() {
                let kind = if *path { ":path" } else { "" };
                let tail = if tail.is_empty() && index + 1 < parameters.len() { "-" } else { tail };
                pattern += &format!("{{p{index}{kind}}}{tail}");
                text += &made[index];
                text += tail;
            }
            let pattern = Pattern::new(&pattern, ':').expect("a legal pattern");
            for text in [text, any] {
                let meant = text.strip_prefix(&*pattern.prefix).and_then(|rest| model(&pattern.parameters, ':', rest));
                prop_assert_eq!(pattern.matches(&text), meant, "{}", text);
            }
        }
    }

    #[test]
    fn a_name_that_almost_matches_in_very_many_ways_is_soon_refused() {
        let parameters: Vec<_> = (0..40).map(|index| format!("{{p{index}}}")).collect();
        assert_eq!(matched(&parameters.join("-"), &format!("{}:", "-".repeat(250))), None);
        assert_eq!(matched(&format!("{{q:path}}-{}.", parameters.join("-")), &"-".repeat(16_000)), None);
        assert_eq!(matched("{a:path}:{b:path}:{c:path}:{d:path}x", &":".repeat(16_000)), None);
    }

    #[test]
    fn a_segment_behind_a_path_parameter_is_looked_for_in_later_segments_too() {
        assert_eq!(matched("{a:path}-{b}", "x-y:z-w"), Some(vec!["x-y:z", "w"]));
        assert_eq!(matched("{a:path}-:{b}", "x-:y-:z"), Some(vec!["x-:y", "z"]));
        assert_eq!(matched("{a:path}-{b}", "x-y:z"), None);
    }

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
}
