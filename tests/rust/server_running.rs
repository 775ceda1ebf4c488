//! A running server with one shard, and a client of it on a socket, for tests of the whole core.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use umbel::config::Config;
use umbel::publication::Content;
use umbel::server::Server;
use umbel::transport::Page;
use umbel::transport::client_id::ClientId;
use umbel::transport::events::{Event, Inbox};

use crate::protocol_client::frame;
use crate::settings::settings as settings_of;

/// Seconds that anything may take, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Panics at events that a test names; passes the others on.
struct Faulty {
    events: Mutex<Sender<Event>>,
    panics_at: fn(&Event) -> bool,
}

impl Inbox for Faulty {
    fn push(&self, event: Event) {
        assert!(!(self.panics_at)(&event), "the bug of this test");
        // Who does not look at events has dropped the receiver.
        let _ = self.events.lock().expect("nobody panics with it").send(event);
    }

    fn has_room(&self) -> bool {
        true
    }
}

/// How channels of a pattern behave: who may subscribe and publish, "open", "ask" or "no".
pub fn rule(pattern: &str, subscribe: &str, publish: &str) -> Value {
    json!({
        "pattern": pattern, "subscribe": subscribe, "publish": publish, "history": 100, "history_bytes": 1 << 20,
        "history_seconds": 60, "mode": "all", "overrun": "gap", "compress": true, "sender": false, "replay": "head", "recheck": false,
    })
}

pub struct Running {
    pub server: Server,
    pub address: String,
    pub events: Receiver<Event>,
}

impl Running {
    /// A server with one shard, so that all connections are neighbours.
    pub fn start(panics_at: fn(&Event) -> bool) -> Self {
        Self::start_with(&json!({}), HashMap::new(), panics_at)
    }

    /// As [`start`](Self::start), with other settings and with pages.
    pub fn start_with(settings: &Value, pages: HashMap<String, Page>, panics_at: fn(&Event) -> bool) -> Self {
        let mut short = rule("short:{x}", "open", "no");
        (short["history"], short["overrun"]) = (json!(2), json!("close"));
        let own = json!({
            "port": 0, "shards": 1, "notify_connect": true, "deflate": false,
            "close_timeout": 1,
            "channels": [
                rule("open:{x}", "open", "no"), rule("ask:{x}", "ask", "no"), short,
            ],
        });
        let config = Config::from_json(&settings_of(&[&own, settings])).expect("a legal configuration");
        let (sender, events) = channel();
        let inbox = Arc::new(Faulty { events: Mutex::new(sender), panics_at });
        let server = Server::new(config, pages, inbox, None).expect("a server");
        let address = server.start().expect("a port").remove(0).replace("http://", "");
        Self { server, address, events }
    }

    pub fn connect(&self) -> (ClientId, Client) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let request = "GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a response");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let mut client = Client(stream);
        client.hear("connection_established");
        loop {
            if let Event::Open { client: id, .. } = self.events.recv_timeout(PATIENCE).expect("an event") {
                return (id, client);
            }
        }
    }

    /// A client that has a channel.
    pub fn subscribe(&self, channel: &str) -> Client {
        let (_, mut client) = self.connect();
        client.say(&json!({"type": "subscribe_updates", "channel": channel}));
        client.hear("subscription_established");
        client
    }

    pub fn publish(&self, channel: &str, data: &str) {
        self.server.publish(channel, Content::new(data.as_bytes(), None)).expect("a legal name");
    }

    pub fn panics(&self) -> u64 {
        self.server.stats().0.panics
    }
}

pub struct Client(TcpStream);

impl Client {
    pub fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    pub fn say_text(&mut self, text: &str) {
        self.0.write_all(&frame(0x81, text.as_bytes())).expect("a connection");
    }

    /// The next frame: its opcode and payload; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        let mut extended = [0; 8];
        let size = match head[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        self.0.read_exact(&mut extended[8 - size..]).ok()?;
        let length = if size == 0 { u64::from(head[1]) } else { u64::from_be_bytes(extended) };
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0] & 0xf, payload))
    }

    /// The next message of a type; others before it are passed over.
    pub fn hear(&mut self, kind: &str) -> Value {
        self.hear_text(kind).0
    }

    /// The next message of a type, and its text.
    pub fn hear_text(&mut self, kind: &str) -> (Value, String) {
        loop {
            let (opcode, payload) = self.frame().unwrap_or_else(|| panic!("the end instead of {kind}"));
            assert_eq!(opcode, 1, "{kind} expected, and not {payload:?}");
            let message: Value = serde_json::from_slice(&payload).expect("JSON");
            if message["type"] == kind {
                return (message, String::from_utf8(payload).expect("text"));
            }
        }
    }

    /// The code of the close frame, and what came behind it until the end of the stream.
    pub fn closed(&mut self) -> (u16, Vec<(u8, Vec<u8>)>) {
        loop {
            let (opcode, payload) = self.frame().expect("a close frame before the end");
            if opcode == 8 {
                // The answer; the server ends its side then.
                let _ = self.0.write_all(&frame(0x88, &payload));
                let behind = std::iter::from_fn(|| self.frame()).collect();
                return (u16::from_be_bytes([payload[0], payload[1]]), behind);
            }
        }
    }

    /// Whether the server still reads what this client says, and answers.
    pub fn assert_heard(&mut self) {
        self.say(&json!({"type": "heartbeat"}));
        self.hear("heartbeat_ack");
    }
}
