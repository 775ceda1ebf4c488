//! The updates of a run of them, one by one, for streams in which each is an event.

/// One update among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Single<'a> {
    pub text: &'a [u8],
    pub offset: u64,
    /// The name that it was published with.
    pub event: Option<&'a [u8]>,
}

/// Where each update ends in a text of them.
#[derive(Debug)]
pub(super) struct Singles {
    ends: Box<[u32]>,
    /// Length of what all begin with, up to the name of the channel and its comma.
    prefix: usize,
}

impl Singles {
    /// Finds the updates of one channel in a text where they have commas between them.
    pub fn find(updates: &[u8], prefix: usize) -> Self {
        let (mut ends, mut depth, mut at) = (Vec::new(), 0_usize, 0);
        while let Some(&byte) = updates.get(at) {
            match byte {
                b'"' => at += string(&updates[at..]),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        ends.push(at as u32 + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Self { ends: ends.into(), prefix }
    }

    /// The updates of the text in which they were found.
    pub fn of<'a>(&self, updates: &'a [u8]) -> impl Iterator<Item = Single<'a>> {
        let mut start = 0;
        self.ends.iter().filter_map(move |&end| {
            let text = updates.get(start..end as usize)?;
            start = end as usize + 1;
            let mut rest = text.get(self.prefix..)?;
            for number in [&b"\"from\":"[..], b"\"top\":"] {
                if let Some(after) = rest.strip_prefix(number) {
                    rest = &after[memchr::memchr(b',', after)? + 1..];
                }
            }
            rest = rest.strip_prefix(b"\"offset\":")?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (offset, rest) = rest.split_at(digits);
            let offset = str::from_utf8(offset).ok()?.parse().ok()?;
            let event = rest.strip_prefix(b",\"event\":\"");
            let event = event.and_then(|name| Some(&name[..memchr::memchr(b'"', name)?]));
            Some(Single { text, offset, event })
        })
    }
}

/// How far the end of a string is from its beginning.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(next) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if text[at + next] == b'"' {
            return at + next;
        }
        at += next + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use crate::publication::{Content, EventName, Publication, prefix};

    #[test]
    fn updates_are_found_whatever_is_in_them() {
        let prefix = prefix("a\"}],{\"offset\":7,");
        let data = [r#"{"a":["}{\"",{}],"offset":3}"#, "[]", "1", r#""\\""#, r#"",\"event\":\"x\"""#];
        let events = [None, EventName::new("task_update"), None, EventName::new("x"), None];
        let (mut text, mut written) = (Vec::new(), Vec::new());
        for (offset, (data, event)) in (5_u64..).zip(data.into_iter().zip(events)) {
            let sender = Some(r#"{"subject":null}"#);
            let content = Content { sender, ..Content::new(data.as_bytes(), Some("k")) }.named(event);
            let publication = Publication::new(&prefix, offset, &content, Moment::default());
            let start = text.len();
            let top = (offset > 6).then_some(12);
            publication.write(if offset == 7 { 2 } else { offset - 1 }, top, &mut text);
            written.push(text[start..].to_vec());
            text.push(b',');
        }
        text.pop();
        let singles = Singles::find(&text, prefix.len());
        let found: Vec<_> = singles.of(&text).collect();
        assert_eq!(found.iter().map(|it| it.text.to_vec()).collect::<Vec<_>>(), written);
        assert_eq!(found.iter().map(|it| it.offset).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
        let names = [None, Some(&b"task_update"[..]), None, Some(&b"x"[..]), None];
        assert_eq!(found.iter().map(|it| it.event).collect::<Vec<_>>(), names);
    }
}
