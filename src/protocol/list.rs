//! Lists of messages: what clients post whose session is on a stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::call::Publications;
use super::frame::{Opcode, client_frame};

/// The envelope of a list of messages.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct List<'a> {
    /// Which attempt has begun the stream of the client. 0: the session began with it.
    pub attempt: u64,
    /// Grows by one with each list of this stream. 0: the client ends its session, and says nothing else.
    #[serde(default)]
    pub number: u64,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(default)]
    end: bool,
}

/// A list that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// See [`List::attempt`].
    pub attempt: u64,
    /// See [`List::number`].
    pub number: u64,
    /// Bytes of the messages that the first one keeps waiting.
    pub bytes_after_first: usize,
}

impl<'a> List<'a> {
    /// Reads the body of a request. Nothing is known of the messages but that they are JSON.
    ///
    /// # Errors
    /// Why the body is no list of messages.
    pub fn parse(body: &'a str) -> Result<Self, String> {
        if !body.trim_start().starts_with('{') {
            return Err("not a JSON object".to_owned()); // serde would take a list of the fields, too
        }
        let list: Self =
            serde_json::from_str(body).map_err(|error| format!("not a list of messages: {error}"))?;
        match list.messages {
            None if list.end && list.number == 0 => Ok(list),
            Some(messages) if !Publications::find(messages.get())?.is_list => {
                Err("\"messages\" must be a list".to_owned())
            }
            Some(_) if list.number > 0 && !list.end => Ok(list),
            _ => Err("it needs \"number\", which begins at 1, and \"messages\"; or \"end\" alone".to_owned()),
        }
    }

    /// What has to be known of it while it waits.
    pub fn outline(&self) -> Outline {
        let messages = self.messages.map_or("", |messages| messages.get());
        let found = Publications::find(messages).unwrap_or_else(|_| Publications::none());
        let bytes_after_first = found.items.iter().skip(1).map(|range| range.len()).sum();
        Outline { attempt: self.attempt, number: self.number, bytes_after_first }
    }

    /// The messages as a WebSocket would bring them: so all that holds for those holds for these.
    pub fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        for text in self.messages.iter().map(|messages| messages.get()) {
            for range in Publications::find(text).into_iter().flat_map(|found| found.items) {
                client_frame(Opcode::Text, text[range].as_bytes(), &mut frames);
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::deflate::Inflater;
    use crate::protocol::websocket::{Incoming, WebSocket};

    fn read(body: &str) -> Vec<String> {
        let mut frames = List::parse(body).expect("a list").frames();
        let (mut websocket, mut inflater) = (WebSocket::new(1000, None), Box::<Inflater>::default());
        let (mut found, mut start) = (Vec::new(), 0);
        while start < frames.len() {
            let (count, event) =
                websocket.receive(&mut frames[start..], &mut inflater).expect("legal frames");
            start += count;
            match event {
                Some(Incoming::Text(text)) => found.push(text.to_owned()),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    #[test]
    fn messages_are_what_a_websocket_would_bring() {
        let long = format!("{{\"type\":\"{}\"}}", "é".repeat(200));
        let body = format!(r#"{{"attempt":0,"number":1,"messages":[{{"a": 1}}, {long} ],"x":1}}"#);
        assert_eq!(read(&body), [r#"{"a": 1}"#, &long]);
        assert_eq!(
            List::parse(&body).expect("a list").outline(),
            Outline { attempt: 0, number: 1, bytes_after_first: long.len() }
        );
        for empty in [r#"{"attempt":3,"number":2,"messages":[]}"#, r#"{"attempt":0,"end":true}"#] {
            assert!(read(empty).is_empty());
        }
    }

    #[test]
    fn what_is_no_list_of_messages_is_said() {
        for (body, what) in [
            (r#"[0,1,[],false]"#, "object"),
            ("{}", "attempt"),
            (r#"{"attempt":0,"number":0,"messages":[]}"#, "number"),
            (r#"{"attempt":-1,"number":1,"messages":[]}"#, "invalid"),
            (r#"{"attempt":0,"number":1.5,"messages":[]}"#, "invalid"),
            (r#"{"attempt":0,"number":1,"messages":{}}"#, "list"),
            (r#"{"attempt":0,"number":1}"#, "messages"),
            (r#"{"attempt":0,"number":1,"messages":[],"end":true}"#, "end"),
            (r#"{"attempt":0,"end":false}"#, "number"),
            (r#"{"attempt":0,"attempt":0,"number":1,"messages":[]}"#, "attempt"),
        ] {
            let error = List::parse(body).expect_err("it is wrong");
            assert!(error.contains(what), "{body}: {error}");
        }
        let many = format!(r#"{{"attempt":0,"number":1,"messages":[{}]}}"#, vec!["1"; 1001].join(","));
        assert!(List::parse(&many).expect_err("too many").contains("1000"));
    }
}
