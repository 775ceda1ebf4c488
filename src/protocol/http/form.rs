//! Queries as forms and `URLSearchParams` write them.

/// The names and values of a query, as they were sent.
pub fn form_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Decodes a name or a value, once. `None` for a broken escape, and for bytes that are not UTF-8.
pub fn form_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The value of a hexadecimal digit.
pub(super) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_their_order_and_a_name_may_have_no_value() {
        let pairs: Vec<_> = form_pairs("a=1&&b&a==2&=").collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("a", "=2"), ("", "")]);
        assert_eq!(form_pairs("").count(), 0);
    }

    #[test]
    fn what_is_decoded_is_utf8_or_nothing() {
        assert_eq!(form_decode("a+b%2B%C3%a9%2F%26").as_deref(), Some("a b+é/&"));
        for wrong in ["%", "%4", "%zz", "%ff", "%c0%af"] {
            assert_eq!(form_decode(wrong), None, "{wrong}");
        }
    }
}
