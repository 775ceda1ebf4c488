//! Calls over HTTP: each connection posts a publication, and the next one when it is answered. Every answer is checked.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::args::Options;
use crate::clock;
use crate::histogram::Histogram;

/// One connection that is kept.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    asked: u64,
}

/// Makes calls on all connections in turn, and reports how many were answered in the window.
///
/// # Errors
/// When the server does not answer as it should.
pub fn run(options: &Options) -> Result<Value, String> {
    let request = request(options);
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Connection::open(options)?);
    }
    let mut answer = Histogram::new();
    let begin = clock::now() + clock::nanoseconds(options.warmup);
    let end = begin + clock::nanoseconds(options.seconds);
    for connection in &mut connections {
        connection.ask(&request)?;
    }
    let threads = || options.server_pid.map(clock::thread_cpu).unwrap_or_default();
    let (mut answers, mut begun, mut before, mut own) = (0, begin, threads(), 0);
    loop {
        for connection in &mut connections {
            let now = connection.hear()?;
            if now >= end {
                let spent = (now - begun) as f64 / 1e9;
                let busy = clock::own_cpu() - own;
                let used =
                    |name: &String, now: u64| now.saturating_sub(before.get(name).copied().unwrap_or(0));
                let costs: BTreeMap<_, _> = threads()
                    .into_iter()
                    .map(|(name, now)| (name.clone(), used(&name, now) as f64 / 1e9))
                    .collect();
                return Ok(json!({
                    "command": "call",
                    "valid": true,
                    "live": connections.len(),
                    "answers": answers,
                    "answers_per_second": f64::from(answers) / spent,
                    "answer_ms": answer.to_json(),
                    "server_threads_seconds": costs,
                    "load_cpu_percent": busy as f64 / spent / 1e7,
                }));
            }
            if now >= begin {
                if answers == 0 {
                    (begun, own) = (now, clock::own_cpu());
                    before = threads();
                }
                answers += 1;
                answer.record(now - connection.asked);
            }
            connection.ask(&request)?;
        }
    }
}

/// What each connection sends, again and again.
fn request(options: &Options) -> Vec<u8> {
    let overhead = r#"{"text":""}"#.len();
    let text = "x".repeat(options.data_bytes.saturating_sub(overhead));
    let body = format!(r#"{{"channel":"bench","data":{{"text":"{text}"}}}}"#);
    let mut head = format!("POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\n", options.path);
    for header in &options.headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()));
    [head.into_bytes(), body.into_bytes()].concat()
}

impl Connection {
    fn open(options: &Options) -> Result<Self, String> {
        let stream = TcpStream::connect((options.host, options.port)).map_err(|error| error.to_string())?;
        let patience = Some(Duration::from_secs(10));
        let ready = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(patience));
        ready.map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: Vec::new(), asked: 0 })
    }

    fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.asked = clock::now();
        self.stream.write_all(request).map_err(|error| error.to_string())
    }

    /// Waits for the answer. Returns when it was there.
    fn hear(&mut self) -> Result<u64, String> {
        let mut chunk = [0; 4096];
        self.buffer.clear();
        loop {
            let count = self.stream.read(&mut chunk).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the server has closed a connection".into());
            }
            self.buffer.extend_from_slice(&chunk[..count]);
            if is_whole(&self.buffer)? {
                return Ok(clock::now());
            }
        }
    }
}

/// Whether a response is there to its end.
///
/// # Errors
/// When it is not 200, or does not say `published`.
fn is_whole(response: &[u8]) -> Result<bool, String> {
    let text = || String::from_utf8_lossy(&response[..response.len().min(200)]).into_owned();
    let Some(head) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = response.split_at(head + 4);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("not a 200: {}", text()));
    }
    let lines = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).ok_or("no Content-Length")?;
    if body.len() < length {
        return Ok(false);
    }
    let said = String::from_utf8_lossy(body);
    let is_right = body.len() == length && said.contains("published") && said.contains("\"offset\"");
    if is_right { Ok(true) } else { Err(format!("not an answer: {}", text())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte_and_right_only_when_it_says_published() {
        let body = r#"{"type":"published","offset":1}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let whole = format!("{head}{body}");
        for cut in 0..whole.len() {
            assert_eq!(is_whole(&whole.as_bytes()[..cut]), Ok(false));
        }
        assert_eq!(is_whole(whole.as_bytes()), Ok(true));
        assert!(is_whole(whole.replace("200", "429").as_bytes()).is_err());
        assert!(is_whole(whole.replace("published", "forgotten").as_bytes()).is_err());
        assert!(is_whole(format!("{whole}x").as_bytes()).is_err());
    }
}
