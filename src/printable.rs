//! Text of a peer, made fit for a line of the log.

use std::fmt;

/// Shows a text in quotes, on one line, without control characters, and cut when it is long.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MOST) {
            Some((end, _)) => write!(formatter, "{:?}...", &self.0[..end]),
            None => write!(formatter, "{:?}", self.0),
        }
    }
}

/// At most so many characters of a text, for people: with escapes in the place of what controls a line or its direction.
pub fn shown(text: &str, most: usize) -> String {
    let (mut shown, mut left) = (String::new(), most);
    for letter in text.chars() {
        let is_quote = matches!(letter, '"' | '\'');
        let size = if is_quote { 1 } else { letter.escape_debug().len() };
        if size > left {
            shown.push('…');
            break;
        }
        left -= size;
        if is_quote {
            shown.push(letter);
        } else {
            shown.extend(letter.escape_debug());
        }
    }
    shown
}

/// Characters.
const MOST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line_and_is_cut() {
        assert_eq!(Printable("a\r\n\u{1b}[31m\u{202e}b").to_string(), r#""a\r\n\u{1b}[31m\u{202e}b""#);
        assert_eq!(Printable(&"ü".repeat(200)).to_string(), format!("{:?}", "ü".repeat(200)));
        assert_eq!(Printable(&"ü".repeat(201)).to_string(), format!("{:?}...", "ü".repeat(200)));
    }

    #[test]
    fn a_name_keeps_its_letters_and_shows_what_would_turn_it_round() {
        assert_eq!(shown("room:ü '\"<img>", 128), "room:ü '\"<img>");
        assert_eq!(shown("a\u{202e}b\n\u{0}\\", 128), r"a\u{202e}b\n\0\\");
        assert_eq!(shown(&"ü".repeat(128), 128), "ü".repeat(128));
        assert_eq!(shown(&"\u{202e}".repeat(20_000), 128), r"\u{202e}".repeat(16) + "…");
        assert_eq!(shown("abc\u{202e}", 4), "abc…");
    }
}
