//! Texts for servers that are not Umbel: what is sent to them, and where time and number stand in what they send.

use memchr::memmem::Finder;

use crate::load::message::digits;

/// Fills in a text. `{pad}` makes it as long as `bytes` says.
pub fn fill(template: &str, time: u64, seq: u64, n: usize, bytes: usize) -> String {
    let text = fill_number(template, n).replace(TIME, &time.to_string()).replace(SEQ, &seq.to_string());
    let pad = (bytes + PAD.len()).saturating_sub(text.len());
    text.replace(PAD, &"x".repeat(pad))
}

/// Fills in the number of a connection alone.
pub fn fill_number(template: &str, n: usize) -> String {
    template.replace("{n}", &n.to_string())
}

/// Finds publications in what a server sends: texts, each with a number behind it.
pub struct Marker {
    first: Finder<'static>,
    parts: Vec<(Vec<u8>, Part)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Time,
    Seq,
}

/// One publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// When it was due, nanoseconds.
    pub time: u64,
    pub seq: Option<u64>,
}

impl Marker {
    /// Reads one, as in `"t":{time},"seq":{seq}`.
    pub fn new(marker: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = marker;
        let next = |rest: &str| {
            let found = [(TIME, Part::Time), (SEQ, Part::Seq)];
            let found =
                found.into_iter().filter_map(|(name, part)| Some((rest.find(name)?, name.len(), part)));
            found.min_by_key(|(at, ..)| *at)
        };
        while let Some((at, length, part)) = next(rest) {
            parts.push((rest.as_bytes()[..at].to_vec(), part));
            rest = &rest[at + length..];
        }
        let has_time = parts.iter().any(|(_, part)| *part == Part::Time);
        match parts.first() {
            Some((before, _)) if has_time && !before.is_empty() => {
                Ok(Self { first: Finder::new(before).into_owned(), parts })
            }
            _ => Err(format!(
                r#"a marker begins with a text and has {{time}}, as in '"t":{{time}},"seq":{{seq}}'; not {marker:?}"#
            )),
        }
    }

    /// The publications in a message.
    pub fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Mark> + 'a {
        self.first.find_iter(text).filter_map(|at| self.read(&text[at..]))
    }

    fn read(&self, mut text: &[u8]) -> Option<Mark> {
        let mut mark = Mark::default();
        for (before, part) in &self.parts {
            text = text.strip_prefix(&before[..])?;
            let number = digits(text)?;
            match part {
                Part::Time => mark.time = number,
                Part::Seq => mark.seq = Some(number),
            }
            text = &text[text.iter().take_while(|byte| byte.is_ascii_digit()).count()..];
        }
        Some(mark)
    }
}

const TIME: &str = "{time}";
const SEQ: &str = "{seq}";
const PAD: &str = "{pad}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_filled_in_and_padded_to_its_length() {
        let text = fill(r#"{"t":{time},"s":{seq},"by":{n},"pad":"{pad}"}"#, 17, 4, 2, 64);
        assert!(text.starts_with(r#"{"t":17,"s":4,"by":2,"pad":"xxx"#), "{text}");
        assert_eq!(text.len(), 64);
        assert_eq!(fill("{time}", 17, 4, 2, 64), "17");
    }

    #[test]
    fn each_publication_of_a_message_is_found_with_its_time_and_number() {
        let marker = Marker::new(r#""t":{time},"s":{seq}"#).unwrap();
        let found: Vec<Mark> = marker.find(br#"[{"t":1,"s":7},{"t":x},{"t":22,"s":8},{"t":3}]"#).collect();
        assert_eq!(found, [Mark { time: 1, seq: Some(7) }, Mark { time: 22, seq: Some(8) }]);
        let other_way_round = Marker::new("s={seq} t={time}").unwrap();
        assert_eq!(other_way_round.find(b"s=5 t=6").next(), Some(Mark { time: 6, seq: Some(5) }));
        assert_eq!(Marker::new("t={time}").unwrap().find(b"t=6").next(), Some(Mark { time: 6, seq: None }));
    }

    #[test]
    fn a_marker_needs_a_time_with_a_text_before_it() {
        for wrong in ["", "t=", "{time}", "s={seq}"] {
            assert!(Marker::new(wrong).is_err(), "{wrong}");
        }
    }
}
