//! Taking credentials out of a request, before others see it.

use super::form::form_decode;
use super::request::{Request, Span};

impl Request {
    /// Takes a parameter out of the query, however often it is there. The other parameters stay as they were sent.
    pub fn hide_parameter(&mut self, name: &str) {
        let Some(span) = self.query else { return };
        let is_other = |part: &&str| {
            let (other, _) = part.split_once('=').unwrap_or((part, ""));
            form_decode(other).as_deref() != Some(name)
        };
        let kept = self.text(span).split('&').filter(is_other).collect::<Vec<_>>().join("&");
        self.query = Some(self.replace(span, &kept));
    }

    /// Leaves a part of a parameter: what `shorten` returns.
    pub fn shorten_parameter(&mut self, name: &str, shorten: impl Fn(&str) -> &str) {
        let Some(span) = self.query else { return };
        let part = |part: &str| match part.split_once('=') {
            Some((other, value)) if other == name => format!("{name}={}", shorten(value)),
            _ => part.to_owned(),
        };
        let kept = self.text(span).split('&').map(part).collect::<Vec<_>>().join("&");
        self.query = Some(self.replace(span, &kept));
    }

    /// The same for the values of a header.
    pub fn shorten_header(&mut self, name: &str, shorten: impl Fn(&str) -> &str) {
        for index in 0..self.fields.len() {
            let field = self.fields[index];
            if self.text(field.name).eq_ignore_ascii_case(name) {
                let rest = shorten(self.text(field.value)).to_owned();
                self.fields[index].value = self.replace(field.value, &rest);
            }
        }
    }

    /// Writes a shorter text over a part of the head. All other parts stay where they are.
    fn replace(&mut self, span: Span, text: &str) -> Span {
        let range = span.start as usize..span.end as usize;
        let blank = " ".repeat(range.len().saturating_sub(text.len()));
        let mut head = std::mem::take(&mut self.head).into_string();
        head.replace_range(range, &[text, &blank].concat());
        self.head = head.into();
        Span { start: span.start, end: span.start + text.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::protocol::http::{HeadLimits, HeadReader, form_pairs};

    fn last(value: &str) -> &str {
        value.rsplit('~').next().unwrap_or_default()
    }

    #[test]
    fn what_is_hidden_is_nowhere_in_the_request_and_the_rest_is_as_it_was() {
        for (query, left) in [
            ("ticket=S3CRET", ""),
            ("a=1&ticket=S3CRET&b=%26é", "a=1&b=%26é"),
            ("ticket=S3CRET&&x", "&x"),
            ("%74icket=S3CRET&tickets=1&ticket", "tickets=1"),
            ("after=S3CRET~x&after=~S3CRET~y&b=~", "after=x&after=y&b=~"),
        ] {
            let query_sent = query.replace('é', "%C3%A9");
            let head = format!(
                "GET /s?{query_sent} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: é S3CRET~pös\r\nX: \"é\"\r\nlast-event-id: 7\r\n\r\n"
            );
            let read = HeadReader::default().read(head.as_bytes(), &HeadLimits::default());
            let (mut request, _) = read.expect("legal").expect("whole");
            request.hide_parameter("ticket");
            request.shorten_parameter("after", last);
            request.shorten_header("last-event-id", last);
            assert!(!format!("{request:?}").contains("S3CRET"), "{request:?}");
            assert_eq!(request.query(), Some(&*left.replace('é', "%C3%A9")));
            assert_eq!(request.path(), "/s");
            let headers: Vec<_> = request.all_headers().collect();
            assert_eq!(
                headers,
                [("Host", "a"), ("Last-Event-ID", "pös"), ("X", "\"é\""), ("last-event-id", "7")]
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_the_rest_stays_readable(
            parts in proptest::collection::vec("(ticket|%74icket|after|a)?(=[a-z~é%&=]{0,9})?", 0..6),
            id in "[a-zé~. ]{0,12}",
        ) {
            let query = parts.join("&").replace('é', "%C3%A9").replace("%&", "%25&");
            let head = format!("GET /s?{query} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\nX: end\r\n\r\n");
            let read = HeadReader::default().read(head.as_bytes(), &HeadLimits::default());
            let (mut request, size) = read.expect("legal").expect("whole");
            request.hide_parameter("ticket");
            request.shorten_parameter("after", last);
            request.shorten_header("last-event-id", last);
            prop_assert!(form_pairs(request.query().unwrap_or_default()).all(|(name, _)| name != "ticket"));
            prop_assert_eq!(request.header("last-event-id"), Some(last(id.trim_matches(' '))));
            prop_assert_eq!(request.header("x"), Some("end"));
            prop_assert!(request.size() <= size + "/s".len());
        }
    }
}
