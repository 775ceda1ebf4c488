//! The floor program: what any server on one thread must at least do. It accepts connections, and then a pass is one
//! non-blocking `send` of the same ready-made frame to each of them, and nothing else. The frame is one that Umbel would
//! send, byte for byte but for the offset and the time, which are written into it once per pass.
//!
//! Before its first pass it answers the opening handshake and one `subscribe_updates` of each connection with ready-made
//! bytes. A client that has spoken acknowledges differently from one that never did (interactive mode of TCP's delayed
//! acknowledgements), and that changes what a `send` costs; so the sockets must have had the same conversation.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{clock, padded_data};

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
    listener: TcpListener,
    sockets: Vec<TcpStream>,
    /// The rest of a frame that a socket took only in part; by socket index, rarely used.
    rests: HashMap<usize, Vec<u8>>,
    /// What each socket gets in a pass.
    frames: Vec<u8>,
    frames_per_send: u64,
    data_bytes: usize,
    offset: u64,
    pace: Pace,
    passes: u64,
    sent: u64,
    skipped: u64,
    failed: u64,
}

/// Serves until the end of stdin.
pub fn serve(data_bytes: usize, frames_per_send: u64) -> Result<(), String> {
    let (listener, port) = listen().map_err(|error| format!("listen: {error}"))?;
    say(&serde_json::json!({"event": "listening", "port": port, "pid": std::process::id()}));
    let mut floor = Floor {
        listener,
        sockets: Vec::new(),
        rests: HashMap::new(),
        frames: Vec::new(),
        frames_per_send,
        data_bytes,
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
        if wait_readable(io::stdin(), wait) && !self.obey()? {
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
        while let Ok((mut socket, _)) = self.listener.accept() {
            if greet(&mut socket).is_ok() {
                self.sockets.push(socket);
            }
        }
    }

    fn obey(&mut self) -> Result<bool, String> {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(|error| format!("stdin: {error}"))?;
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
            (None, _) => return Ok(false),
            (Some(word), _) => return Err(format!("unknown command {word:?}")),
        }
        self.answer();
        Ok(true)
    }

    fn answer(&self) {
        say(&serde_json::json!({
            "connections": self.sockets.len(),
            "passes": self.passes,
            "published": self.passes * self.frames_per_send,
            "sent": self.sent,
            "skipped": self.skipped,
            "failed": self.failed,
            "send_bytes": self.frames.len(),
            "cpu_seconds": clock::own_cpu() as f64 / 1e9,
        }));
    }

    fn pass(&mut self) {
        self.prepare();
        for index in 0..self.sockets.len() {
            if !self.rests.is_empty() && !self.finish_rest(index) {
                continue;
            }
            match self.sockets[index].write(&self.frames) {
                Ok(sent) if sent == self.frames.len() => self.sent += 1,
                Ok(sent) => {
                    self.sent += 1;
                    self.rests.insert(index, self.frames[sent..].to_vec());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.skipped += 1,
                Err(_) => self.failed += 1,
            }
        }
        self.passes += 1;
    }

    /// Sends what is left of an earlier frame; true when the socket is ready for the next one.
    fn finish_rest(&mut self, index: usize) -> bool {
        let Some(mut rest) = self.rests.remove(&index) else { return true };
        if let Ok(sent) = self.sockets[index].write(&rest) {
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
        self.frames.clear();
        let data = padded_data(clock::now(), self.data_bytes);
        for _ in 0..self.frames_per_send {
            self.offset += 1;
            let message = format!(
                r#"{{"type":"batched_updates","updates":[{{"channel":"bench","offset":{},"data":{data}}}],"count":1,"timestamp":"2026-01-01T00:00:00.000Z"}}"#,
                self.offset
            );
            write_text(&mut self.frames, &message);
        }
    }
}

/// Listens with room for a crowd that comes at once.
fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// The conversation that every client has with Umbel before it gets its first batch; only then does it count as open.
fn greet(socket: &mut TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    wait_for_more(socket)?;
    let mut answer = RESPONSE.to_vec();
    write_text(&mut answer, ESTABLISHED);
    socket.write_all(&answer)?;
    wait_for_more(socket)?;
    answer.clear();
    write_text(&mut answer, SUBSCRIBED);
    socket.write_all(&answer)
}

/// Takes what the client says next: one small message, which arrives in one piece on loopback.
fn wait_for_more(socket: &mut TcpStream) -> io::Result<()> {
    if !wait_readable(&*socket, PATIENCE) || socket.read(&mut [0; 4096])? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Waits until something can be read; false when the time, in nanoseconds, is over.
fn wait_readable(what: impl AsFd, nanoseconds: u64) -> bool {
    let mut entries = [PollFd::new(&what, PollFlags::IN)];
    let time = Timespec {
        tv_sec: (nanoseconds / 1_000_000_000).cast_signed(),
        tv_nsec: (nanoseconds % 1_000_000_000).cast_signed(),
    };
    poll(&mut entries, Some(&time)).is_ok_and(|count| count > 0)
}

/// Appends a frame with a text, RFC 6455 section 5.2.
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(0x81);
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(short), _) if short < 126 => out.push(short),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
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
    let mut out = io::stdout().lock();
    // Nobody left to read the answer: stdin ends too, and with it the program.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
