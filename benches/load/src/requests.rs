//! Requests: messages with an `id`, several in flight on every connection, and the check of every answer.
//!
//! Ids are unique over all connections. An answer that reaches another connection, comes twice, or carries the data of
//! another request is a fault.

use serde::Deserialize;

use crate::args::Options;
use crate::client::Client;
use crate::connection::{Phase, split_mix};
use crate::frame;

/// What one connection has asked.
#[derive(Default)]
pub struct Requests {
    waiting: Vec<Waiting>,
    /// Frames that the next send takes: the requests that follow the answers of one read.
    unsent: Vec<u8>,
}

struct Waiting {
    id: u64,
    /// Nanoseconds.
    asked: u64,
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
    pub fn new(options: &Options) -> Self {
        let request_type = options.message_type.clone();
        let answer_type = if options.echo { request_type.clone() } else { format!("{request_type}_result") };
        let overhead = format!(r#"{{"n":{},"text":""}}"#, number(1)).len();
        Self {
            request_type,
            answer_type,
            text: "x".repeat(options.data_bytes.saturating_sub(overhead)),
            step: u64::from(!options.echo),
            last_id: 0,
        }
    }

    /// Appends the next request as a frame and returns its id.
    fn write(&mut self, frames: &mut Vec<u8>) -> u64 {
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
    fn check(&self, text: &[u8]) -> Result<u64, String> {
        let unexpected =
            |what: &str| format!("{what}: {}", String::from_utf8_lossy(&text[..text.len().min(200)]));
        let answer: Answer = serde_json::from_slice(text).map_err(|_| unexpected("not an answer"))?;
        if answer.answer_type != self.answer_type {
            return Err(unexpected("an answer of another type"));
        }
        if answer.data.n != number(answer.id) + self.step || answer.data.text != self.text {
            return Err(unexpected("an answer with other data"));
        }
        Ok(answer.id)
    }
}

impl Client<'_> {
    /// Sends the first requests of every connection.
    pub(crate) fn start_requests(&mut self, now: u64) {
        self.asking = self.options.in_flight > 0;
        for index in 0..self.connections.len() {
            if self.connections[index].phase == Phase::Live {
                (0..self.options.in_flight).for_each(|_| self.ask(index, now));
                self.send_requests(index);
            }
        }
    }

    /// Takes one answer and asks again.
    pub(crate) fn answered(&mut self, index: usize, text: &[u8], now: u64) {
        let id = match self.question.check(text) {
            Ok(id) => id,
            Err(reason) => return self.report.fault(&reason),
        };
        let waiting = &mut self.connections[index].requests.waiting;
        let Some(at) = waiting.iter().position(|request| request.id == id) else {
            return self.report.fault("an answer to no request of this connection");
        };
        let request = waiting.swap_remove(at);
        self.report.counters.answers += 1;
        if self.report.recording {
            self.report.answer.record(now.saturating_sub(request.asked));
        }
        if self.asking {
            self.ask(index, now);
        }
    }

    /// Sends in one piece what the answers of one read have brought about.
    pub(crate) fn send_requests(&mut self, index: usize) {
        let mut unsent = std::mem::take(&mut self.connections[index].requests.unsent);
        if !unsent.is_empty() {
            self.send(index, &unsent);
            unsent.clear();
        }
        self.connections[index].requests.unsent = unsent;
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.connections.iter().map(|connection| connection.requests.waiting.len()).sum()
    }

    fn ask(&mut self, index: usize, now: u64) {
        let requests = &mut self.connections[index].requests;
        let id = self.question.write(&mut requests.unsent);
        requests.waiting.push(Waiting { id, asked: now });
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
        let options = Options { message_type: "ask".into(), echo, ..Options::default() };
        let mut question = Question::new(&options);
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
