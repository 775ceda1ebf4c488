//! Calls over HTTP: each connection posts a publication, and the next one when it is answered. Every answer is checked.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Options, clock};

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
    let request = request(options)?;
    let (server, count): (i32, usize) = (options.number("server-pid")?, options.number("connections")?);
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(options.number("port")?)?);
    }
    let begin = clock::now() + clock::nanoseconds(options.number("warmup")?);
    let end = begin + clock::nanoseconds(options.number("seconds")?);
    for connection in &mut connections {
        connection.ask(&request)?;
    }
    let mut took = Vec::new();
    let (mut begun, mut before, mut own) = (begin, BTreeMap::new(), 0);
    loop {
        for connection in &mut connections {
            let now = connection.hear()?;
            if now >= end {
                let spent = (now - begun) as f64 / 1e9;
                let busy = clock::own_cpu() - own;
                let used =
                    |name: &String, now: u64| now.saturating_sub(before.get(name).copied().unwrap_or(0));
                let costs: BTreeMap<_, _> = clock::thread_cpu(server)
                    .into_iter()
                    .map(|(name, now)| (name.clone(), used(&name, now) as f64 / 1e9))
                    .collect();
                return Ok(json!({
                    "valid": true,
                    "answers": took.len(),
                    "answers_per_second": took.len() as f64 / spent,
                    "answer_ms": quantiles(took),
                    "server_threads_seconds": costs,
                    "load_cpu_percent": busy as f64 / spent / 1e7,
                }));
            }
            if now >= begin {
                if took.is_empty() {
                    (begun, own) = (now, clock::own_cpu());
                    before = clock::thread_cpu(server);
                }
                took.push(now - connection.asked);
            }
            connection.ask(&request)?;
        }
    }
}

/// Quantiles of times, in milliseconds.
fn quantiles(mut took: Vec<u64>) -> Value {
    took.sort_unstable();
    let at = |share: f64| {
        let rank = (took.len() as f64 * share).ceil() as usize;
        took.get(rank.saturating_sub(1)).map(|&time| time as f64 / 1e6)
    };
    json!({"p50": at(0.5), "p95": at(0.95), "p99": at(0.99)})
}

/// What each connection sends, again and again.
fn request(options: &Options) -> Result<Vec<u8>, String> {
    let overhead = r#"{"text":""}"#.len();
    let text = "x".repeat(options.number::<usize>("data-bytes")?.saturating_sub(overhead));
    let body = format!(r#"{{"channel":"bench","data":{{"text":"{text}"}}}}"#);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        options.text("path")?,
        body.len()
    );
    Ok([head.into_bytes(), body.into_bytes()].concat())
}

impl Connection {
    fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())?;
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
