//! The floor program: what any server on one thread must at least do. It accepts connections, and then a pass is one
//! non-blocking `send` of the same ready-made frame to each of them, and nothing else. The frame is one that Umbel would
//! send, byte for byte but for the offset and the time, which are written into it once per pass.
//!
//! Before its first pass it answers the opening handshake and one `subscribe_updates` of each connection with ready-made
//! bytes. A client that has spoken acknowledges differently from one that never did (interactive mode of TCP's delayed
//! acknowledgements), and that changes what a `send` costs; so the sockets must have had the same conversation.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::args::Options;
use crate::connection::padded_data;
use crate::{clock, frame, socket};

#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Stopped,
    /// Pass after pass.
    Saturate,
    /// One pass per period, at moments fixed in advance.
    Every {
        period: u64,
        next: u64,
    },
}

struct Floor {
    listener: OwnedFd,
    sockets: Vec<OwnedFd>,
    /// The rest of a frame that a socket took only in part; by socket index, rarely used.
    rests: std::collections::HashMap<usize, Vec<u8>>,
    frame: Vec<u8>,
    data_bytes: usize,
    offset: u64,
    pace: Pace,
    passes: u64,
    sent: u64,
    skipped: u64,
    failed: u64,
}

/// Serves until `quit` or the end of stdin.
pub fn serve(options: &Options) -> Result<(), String> {
    let (listener, port) =
        socket::listen(options.host, options.port).map_err(|error| format!("listen: {error}"))?;
    say(&serde_json::json!({"event": "listening", "port": port, "pid": std::process::id()}));
    let mut floor = Floor {
        listener,
        sockets: Vec::new(),
        rests: std::collections::HashMap::new(),
        frame: Vec::new(),
        data_bytes: options.data_bytes,
        // Seven digits from the first to the last frame, so that all frames have one size.
        offset: 1_000_000,
        pace: Pace::Stopped,
        passes: 0,
        sent: 0,
        skipped: 0,
        failed: 0,
    };
    while floor.step()? {}
    Ok(())
}

impl Floor {
    fn step(&mut self) -> Result<bool, String> {
        let wait = match self.pace {
            // Short, because a connection is only accepted between two waits.
            Pace::Stopped => {
                self.accept_waiting();
                1_000_000
            }
            Pace::Saturate => 0,
            Pace::Every { next, .. } => next.saturating_sub(clock::now()),
        };
        if socket::wait_readable(0, wait) && !self.obey()? {
            return Ok(false);
        }
        match &mut self.pace {
            Pace::Stopped => {}
            Pace::Saturate => self.pass(),
            Pace::Every { period, next } => {
                if clock::now() >= *next {
                    *next += *period;
                    self.pass();
                }
            }
        }
        Ok(true)
    }

    fn accept_waiting(&mut self) {
        while let Ok(socket) = socket::accept(&self.listener) {
            if greet(socket.as_raw_fd()).is_ok() {
                self.sockets.push(socket);
            }
        }
    }

    fn obey(&mut self) -> Result<bool, String> {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(|error| format!("stdin: {error}"))?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("saturate"), None) => self.pace = Pace::Saturate,
            (Some("rate"), Some(rate)) => {
                let rate: f64 = rate.parse().map_err(|_| format!("rate {rate:?} is no number"))?;
                self.pace = if rate > 0.0 {
                    Pace::Every { period: (1e9 / rate) as u64, next: clock::now() }
                } else {
                    Pace::Stopped
                };
            }
            (Some("stats"), None) => {}
            (Some("quit") | None, _) => return Ok(false),
            (Some(word), _) => return Err(format!("unknown command {word:?}")),
        }
        self.answer();
        Ok(true)
    }

    fn answer(&self) {
        say(&serde_json::json!({
            "connections": self.sockets.len(),
            "passes": self.passes,
            "published": self.passes,
            "sent": self.sent,
            "skipped": self.skipped,
            "failed": self.failed,
            "frame_bytes": self.frame.len(),
            "cpu_seconds": clock::own_cpu() as f64 / 1e9,
        }));
    }

    fn pass(&mut self) {
        self.prepare();
        for index in 0..self.sockets.len() {
            let fd = self.sockets[index].as_raw_fd();
            if !self.rests.is_empty() && !self.finish_rest(index, fd) {
                continue;
            }
            match socket::send(fd, &self.frame) {
                Ok(sent) if sent == self.frame.len() => self.sent += 1,
                Ok(sent) => {
                    self.sent += 1;
                    self.rests.insert(index, self.frame[sent..].to_vec());
                }
                Err(error) if socket::would_block(&error) => self.skipped += 1,
                Err(_) => self.failed += 1,
            }
        }
        self.passes += 1;
    }

    /// Sends what is left of an earlier frame; true when the socket is ready for the next one.
    fn finish_rest(&mut self, index: usize, fd: i32) -> bool {
        let Some(mut rest) = self.rests.remove(&index) else { return true };
        if let Ok(sent) = socket::send(fd, &rest) {
            rest.drain(..sent);
        }
        if rest.is_empty() {
            return true;
        }
        self.rests.insert(index, rest);
        self.skipped += 1;
        false
    }

    fn prepare(&mut self) {
        self.offset += 1;
        let data = padded_data(clock::now(), self.data_bytes);
        let message = format!(
            r#"{{"type":"batched_updates","updates":[{{"channel":"bench","offset":{},"data":{data}}}],"count":1,"timestamp":"2026-01-01T00:00:00.000Z"}}"#,
            self.offset
        );
        self.frame.clear();
        write_text(&mut self.frame, &message);
    }
}

/// The conversation that every client has with Umbel before it gets its first batch; only then does it count as open.
fn greet(fd: i32) -> io::Result<()> {
    wait_for_more(fd)?;
    let mut answer = RESPONSE.to_vec();
    write_text(&mut answer, ESTABLISHED);
    socket::send(fd, &answer)?;
    wait_for_more(fd)?;
    answer.clear();
    write_text(&mut answer, SUBSCRIBED);
    socket::send(fd, &answer).map(drop)
}

/// Takes what the client says next: one small message, which arrives in one piece on loopback.
fn wait_for_more(fd: i32) -> io::Result<()> {
    if !socket::wait_readable(fd, PATIENCE) || socket::receive(fd, &mut [0; 4096])? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    frame::write_server_header(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// The accept value belongs to the load's fixed key.
const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: umbel.v1\r\n\r\n";
const ESTABLISHED: &str = r#"{"type":"connection_established","clientId":"0000000000000000","resumed":false,"heartbeat":25,"tick":16,"reconnectWindow":2000,"timestamp":"2026-01-01T00:00:00.000Z"}"#;
const SUBSCRIBED: &str = r#"{"type":"subscription_established","channel":"bench","epoch":"0000000000000000","offset":1000000,"top":1000000,"id":1}"#;

/// Nanoseconds for one message of a client that is connected already.
const PATIENCE: u64 = 5_000_000_000;

fn say(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    // Nobody left to read the answer: stdin ends too, and with it the program.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
