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
}
