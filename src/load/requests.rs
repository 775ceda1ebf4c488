//! Requests: messages with an `id`, several in flight on every connection, and the check of every answer.
//!
//! Ids are unique over all connections. An answer that reaches another connection, comes twice, or carries the data of
//! another request is a fault.

use serde::Deserialize;

use crate::load::config::Config;
use crate::load::frame;
use crate::load::random::split_mix;

/// What one connection has asked.
#[derive(Default)]
pub struct Requests {
    pub waiting: Vec<Waiting>,
    /// Frames that the next send takes: the requests that follow the answers of one read.
    pub unsent: Vec<u8>,
}

pub struct Waiting {
    pub id: u64,
    /// Nanoseconds.
    pub asked: u64,
}

/// What a request says and what its answer must say.
pub struct Question {
    request_type: String,
    answer_type: String,
    /// Pads the data to the size that `--data-bytes` asks for.
    text: String,
    /// An echo answers with the request itself, a handler with `n` + 1.
    step: u64,
    last_id: u64,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "type")]
    answer_type: &'a str,
    id: u64,
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    n: u64,
    text: &'a str,
}

impl Question {
    pub fn new(config: &Config) -> Self {
        let request_type = config.message_type.clone();
        let answer_type = if config.echo { request_type.clone() } else { format!("{request_type}_result") };
        let overhead = format!(r#"{{"n":{},"text":""}}"#, number(1)).len();
        Self {
            request_type,
            answer_type,
            text: "x".repeat(config.data_bytes.saturating_sub(overhead)),
            step: u64::from(!config.echo),
            last_id: 0,
        }
    }

    /// Appends the next request as a frame and returns its id.
    pub fn write(&mut self, frames: &mut Vec<u8>) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let message = format!(
            r#"{{"type":"{}","id":{id},"data":{{"n":{},"text":"{}"}}}}"#,
            self.request_type,
            number(id),
            self.text
        );
        frame::write_masked(frames, frame::TEXT, message.as_bytes());
        id
    }

    /// Returns the id of a message that is the right answer to it.
    pub fn check(&self, text: &[u8]) -> Result<u64, String> {
        let unexpected =
            |what: &str| format!("{what}: {}", String::from_utf8_lossy(&text[..text.len().min(200)]));
        let answer: Answer = serde_json::from_slice(text).map_err(|_| unexpected("not an answer"))?;
        if answer.answer_type != self.answer_type {
            return Err(format!("an answer of another type: {}", answer.answer_type));
        }
        if answer.data.n != number(answer.id) + self.step || answer.data.text != self.text {
            return Err(unexpected("an answer with other data"));
        }
        Ok(answer.id)
    }
}

/// The number in a request's data: another one for every id, with the same count of digits.
fn number(id: u64) -> u64 {
    let mut state = id;
    1_000_000_000_000 + (split_mix(&mut state) >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(echo: bool) -> Question {
        let config = Config { message_type: "ask".into(), echo, ..Config::default() };
        let mut question = Question::new(&config);
        question.write(&mut Vec::new());
        question
    }

    fn answer(answer_type: &str, id: u64, n: u64) -> String {
        let text = "x".repeat(128 - r#"{"n":1000000000000,"text":""}"#.len());
        format!(r#"{{"type":"{answer_type}","id":{id},"data":{{"n":{n},"text":"{text}"}},"timestamp":"t"}}"#)
    }

    #[test]
    fn an_answer_is_right_only_with_the_type_and_the_data_of_its_id() {
        let (handler, echo) = (question(false), question(true));
        assert_eq!(handler.check(answer("ask_result", 1, number(1) + 1).as_bytes()), Ok(1));
        assert_eq!(echo.check(answer("ask", 1, number(1)).as_bytes()), Ok(1));
        for wrong in [
            answer("ask", 1, number(1) + 1),
            answer("ask_result", 1, number(1)),
            answer("ask_result", 2, number(1) + 1),
            answer("ask_result", 1, number(1) + 1).replace('x', "y"),
            r#"{"type":"error","code":"internal","id":1}"#.into(),
        ] {
            assert!(handler.check(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_request_has_data_of_the_size_asked_for() {
        let mut question = question(false);
        for _ in 0..100 {
            let mut frame = Vec::new();
            let id = question.write(&mut frame);
            let header = frame::parse(&frame).unwrap();
            let text = &frame[header.header_bytes + 4..];
            assert_eq!(text.len(), 128 + format!(r#"{{"type":"ask","id":{id},"data":}}"#).len());
        }
    }
}
