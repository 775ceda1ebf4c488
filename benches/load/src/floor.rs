//! The floor program: what any server on one thread must at least do. It accepts connections, and then a pass is one
//! non-blocking `send` of the same ready-made frame to each of them, and nothing else. The frame is one that Umbel would
//! send, byte for byte but for the offset and the time, which are written into it once per pass.

use std::io::Write;
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
            self.sockets.push(socket);
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
        frame::write_server_header(&mut self.frame, message.len());
        self.frame.extend_from_slice(message.as_bytes());
    }
}

fn say(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    // Nobody left to read the answer: stdin ends too, and with it the program.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
