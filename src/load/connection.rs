//! One connection of the load, and how it is opened.

use crate::load::config::{Config, Kind};
use crate::load::frame;
use crate::load::random::split_mix;
use crate::load::requests::Requests;
use crate::load::session::Session;
use crate::load::socket::{self, Socket};
use crate::load::template::fill_number;
use crate::load::verify::{Place, Verifier};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Reader,
    /// Reads a channel of its own, and is never cut.
    Other,
    /// Subscribes, then never reads again.
    Slow,
    Publisher,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Closed,
    /// Cut, and comes back later.
    Waiting,
    Connecting,
    Upgrading,
    /// Waits for `connection_established`.
    Greeting,
    Subscribing {
        missing: usize,
    },
    Live,
    /// It has said good-bye.
    Closing,
}

pub struct Connection {
    pub socket: Option<Socket>,
    pub role: Role,
    /// It reads an event stream.
    pub is_stream: bool,
    pub phase: Phase,
    /// When the connect began, nanoseconds.
    pub started: u64,
    /// Offset of the last update of the only channel; unused with several.
    pub position: u64,
    pub follows_several: bool,
    /// The beginning of a frame whose end has not arrived.
    pub partial: Vec<u8>,
    /// A fragmented message so far, and whether it is compressed.
    pub fragments: Option<Box<(bool, Vec<u8>)>>,
    /// Present on sampled connections.
    pub verifier: Option<Box<Verifier>>,
    pub requests: Requests,
    pub session: Option<Box<Session>>,
    /// How many publications of each publisher have come, of a server that is not Umbel.
    pub seen: Vec<u64>,
}

impl Connection {
    pub fn new(role: Role, sampled: bool, config: &Config) -> Self {
        Self {
            socket: None,
            role,
            is_stream: config.streams && role != Role::Publisher,
            phase: Phase::Closed,
            started: 0,
            position: 0,
            follows_several: config.per_connection > 1 && role != Role::Other,
            partial: Vec::new(),
            fragments: None,
            verifier: sampled.then(Box::default),
            requests: Requests::default(),
            session: config.sessions.then(Box::default),
            seen: Vec::new(),
        }
    }

    /// What it subscribes to.
    pub fn channels(&self, config: &Config, index: usize) -> Vec<String> {
        if !config.subscribe || config.kind == Kind::Churn || config.marker.is_some() {
            return Vec::new();
        }
        match self.role {
            Role::Publisher => Vec::new(),
            Role::Other => vec!["others".into()],
            Role::Reader | Role::Slow => channels_of_reader(config, index),
        }
    }

    /// Whether it was cut, and has not caught up.
    pub fn comes_back(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_back())
    }

    /// Ends it with a reset, so that no port stays in `TIME_WAIT`. What was read of an unfinished frame is forgotten.
    pub fn reset(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket::reset_on_close(&socket);
        }
        self.partial.clear();
        self.fragments = None;
    }

    /// What it says first, if it says anything before it is asked.
    pub fn first_frame(&self, config: &Config, index: usize) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        if let Some(hello) = &config.hello {
            frame::write_masked(&mut frame, frame::TEXT, fill_number(hello, index).as_bytes());
            return Some(frame);
        }
        let session = self.session.as_ref()?;
        let places = match &self.verifier {
            Some(verifier) if self.follows_several => verifier.places(),
            _ => {
                let place = Place { epoch: session.epoch.clone(), offset: self.position, top: session.top };
                self.channels(config, index).into_iter().map(|channel| (channel, place.clone())).collect()
            }
        };
        let token = config.token.as_ref().map(|token| format!("{token}{index}"));
        frame::write_masked(
            &mut frame,
            frame::TEXT,
            session.first_message(token.as_deref(), places).as_bytes(),
        );
        Some(frame)
    }
}

/// Says to the server, and to whoever reads its log, what this is.
pub const AGENT: &str = concat!("umbel-load/", env!("CARGO_PKG_VERSION"));

/// The opening handshake; the key is fixed, and so is the answer to it.
pub fn upgrade_request(config: &Config) -> Vec<u8> {
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {AGENT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        config.path, config.host,
    );
    if config.marker.is_none() {
        let protocols = if config.sessions { "umbel.v1.first, umbel.v1" } else { "umbel.v1" };
        request.extend(["Sec-WebSocket-Protocol: ", protocols, "\r\n"]);
    }
    if config.deflate {
        request.push_str(
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
             client_no_context_takeover\r\n",
        );
    }
    for header in &config.headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// The same with a token.
pub fn with_token(request: &[u8], token: &str) -> Vec<u8> {
    let lines = request.strip_suffix(b"\r\n").unwrap_or(request);
    [lines, format!("Authorization: Bearer {token}\r\n\r\n").as_bytes()].concat()
}

/// Reads the answer to [`upgrade_request`]: `None` when it has not arrived in full, else its length and whether
/// permessage-deflate was agreed.
pub fn read_upgrade(bytes: &[u8], sessions: bool) -> Result<Option<(usize, bool)>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Err(format!("refused: {status}"));
    }
    if !head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
        return Err("wrong Sec-WebSocket-Accept".into());
    }
    if sessions && !head.contains("umbel.v1.first") {
        return Err("the server knows no sessions".into());
    }
    let deflate = head.to_ascii_lowercase().contains("permessage-deflate");
    Ok(Some((end + 4, deflate)))
}

/// The messages that subscribe to channels, as frames.
pub fn subscribe_frames(channels: &[String]) -> Vec<u8> {
    let mut frames = Vec::new();
    for (id, channel) in channels.iter().enumerate() {
        let message = format!(r#"{{"type":"subscribe_updates","channel":"{channel}","id":{}}}"#, id + 1);
        frame::write_masked(&mut frames, frame::TEXT, message.as_bytes());
    }
    frames
}

fn channels_of_reader(config: &Config, index: usize) -> Vec<String> {
    if config.channels == 1 {
        return vec![config.channel_name(0)];
    }
    let chosen: Vec<usize> = if config.random {
        draw(config.channels, config.per_connection, config.seed.wrapping_add(index as u64))
    } else {
        let first = index * config.per_connection;
        (0..config.per_connection).map(|step| (first + step) % config.channels).collect()
    };
    chosen.into_iter().map(|number| config.channel_name(number)).collect()
}

/// Draws `count` different numbers below `range`: the first of a shuffle.
fn draw(range: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut numbers: Vec<usize> = (0..range).collect();
    for place in 0..count {
        let other = place + (split_mix(&mut state) % (range - place) as u64) as usize;
        numbers.swap(place, other);
    }
    numbers.truncate(count);
    numbers
}

/// A payload of exactly `bytes` bytes (or the least possible) that begins with the time: `{"t":…,"pad":"xxx"}`.
pub fn padded_data(time: u64, bytes: usize) -> String {
    let mut data = format!(r#"{{"t":{time},"pad":""#);
    let fill = bytes.saturating_sub(data.len() + 2);
    data.extend(std::iter::repeat_n('x', fill));
    data.push_str("\"}");
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_channels_are_different_and_the_same_for_the_same_seed() {
        let drawn = draw(100, 10, 7);
        let unique: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!((unique.len(), &drawn), (10, &draw(100, 10, 7)));
    }

    #[test]
    fn data_has_the_size_asked_for() {
        assert_eq!(padded_data(123_456, 128).len(), 128);
        assert_eq!(padded_data(u64::MAX, 1024).len(), 1024);
    }
}
