//! How connections end, on sockets: bugs on a shard's thread included. A test's inbox stands for them: what the shard
//! tells it is where it panics.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use umbel::close::CloseCode;
use umbel::config::Config;
use umbel::server::Server;
use umbel::transport::events::{ClientId, Event, Inbox};

use crate::protocol_client::frame;

/// Seconds that anything may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(10);

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

struct Running {
    server: Server,
    address: String,
    events: Receiver<Event>,
}

impl Running {
    /// A server with one shard, so that all connections are neighbours.
    fn start(panics_at: fn(&Event) -> bool) -> Self {
        let rule = |pattern: &str, subscribe: &str, history: u64, overrun: &str| {
            json!({
                "pattern": pattern, "subscribe": subscribe, "publish": "no", "history": history,
                "history_bytes": 1 << 20, "history_seconds": 60, "mode": "all", "overrun": overrun, "compress": true,
            })
        };
        let config = json!({
            "host": "127.0.0.1", "port": 0, "unix_socket": null, "shards": 1, "reuse_port": false, "backlog": 100,
            "tick": 0.016, "heartbeat": 25, "websocket_path": "/ws", "websocket_routes": [], "authenticate": false,
            "notify_connect": true, "await_connect": false, "notify_disconnect": true, "origins": null, "deflate": false, "deflate_level": 1,
            "deflate_window": 12, "tls_cert": null, "tls_key": null, "max_connections": 100,
            "max_connections_per_address": 0, "max_message": 65536,
            "max_subscriptions": 100, "max_messages_per_second": 0, "max_held_bytes": 4 << 20, "max_log_bytes": 16 << 20, "handshake_timeout": 10, "message_timeout": 10,
            "write_timeout": 10, "close_timeout": 1, "send_buffer": null, "event_queue": 100,
            "channels": [
                rule("open:{x}", "open", 100, "gap"), rule("ask:{x}", "ask", 100, "gap"),
                rule("short:{x}", "open", 2, "close"),
            ],
        });
        let config = Config::from_json(config.to_string().as_bytes()).expect("a legal configuration");
        let (sender, events) = channel();
        let inbox = Arc::new(Faulty { events: Mutex::new(sender), panics_at });
        let server = Server::new(config, HashMap::new(), inbox).expect("a server");
        let address = server.start().expect("a port").remove(0).replace("http://", "");
        Self { server, address, events }
    }

    fn connect(&self) -> (ClientId, Client) {
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
    fn subscribe(&self, channel: &str) -> Client {
        let (_, mut client) = self.connect();
        client.say(&json!({"type": "subscribe_updates", "channel": channel}));
        client.hear("subscription_established");
        client
    }

    fn publish(&self, channel: &str, data: &str) {
        self.server.publish(channel, data.as_bytes(), None).expect("a legal name");
    }

    fn panics(&self) -> u64 {
        self.server.stats().0.panics
    }
}

struct Client(TcpStream);

impl Client {
    fn say(&mut self, message: &Value) {
        self.0.write_all(&frame(0x81, message.to_string().as_bytes())).expect("a connection");
    }

    /// The next frame: its opcode and payload; `None` at the end of the stream.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
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
    fn hear(&mut self, kind: &str) -> Value {
        loop {
            let (opcode, payload) = self.frame().unwrap_or_else(|| panic!("the end instead of {kind}"));
            assert_eq!(opcode, 1, "{kind} expected, and not {payload:?}");
            let message: Value = serde_json::from_slice(&payload).expect("JSON");
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The code of the close frame, and what came behind it until the end of the stream.
    fn closed(&mut self) -> (u16, Vec<(u8, Vec<u8>)>) {
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
    fn assert_heard(&mut self) {
        self.say(&json!({"type": "heartbeat"}));
        self.hear("heartbeat_ack");
    }
}

#[test]
fn a_panic_at_a_message_ends_its_connection_alone() {
    let running = Running::start(|event| matches!(event, Event::Message { .. }));
    let mut other = running.subscribe("open:a");
    for round in 1..=3 {
        let mut broken = running.subscribe("open:a");
        broken.say(&json!({"type": "anything"}));
        assert_eq!(broken.closed(), (1011, Vec::new()));
        assert_eq!(running.panics(), round);
        other.assert_heard();
        running.publish("open:a", "1");
        assert_eq!(other.hear("batched_updates")["count"], 1);
    }
}

#[test]
fn a_panic_at_a_letter_ends_its_connection_and_the_letters_behind_it_are_opened() {
    let running = Running::start(|event| matches!(event, Event::Closed { code: 4999, .. }));
    let (other_id, mut other) = running.connect();
    let mut reader = running.subscribe("open:a");
    for round in 1..=3 {
        let (id, mut broken) = running.connect();
        assert!(running.server.close(id, CloseCode::new(4999).expect("legal"), String::new()));
        running.server.reply(other_id, br#"{"type":"reply"}"#.as_slice().into());
        running.publish("open:a", "1");
        broken.closed();
        other.hear("reply");
        assert_eq!(reader.hear("batched_updates")["count"], 1);
        assert_eq!(running.panics(), round);
        other.assert_heard();
    }
    running.server.stop(PATIENCE);
    assert!(running.server.join(PATIENCE), "the stop is a letter, too");
}

#[test]
fn a_server_that_panics_at_every_close_still_stops() {
    let running = Running::start(|event| matches!(event, Event::Closed { .. }));
    let clients: Vec<_> = (0..5).map(|_| running.connect()).collect();
    running.server.stop(Duration::from_secs(1));
    assert!(running.server.join(PATIENCE));
    assert_eq!(running.panics(), clients.len() as u64);
}

#[test]
fn nothing_follows_a_close_frame_and_no_event_follows_closed() {
    let running = Running::start(|_| false);
    let (id, mut client) = running.connect();
    // More errors than are tolerated, then what the application would be asked, and would answer.
    let wrong = (0..25).map(|number| format!("unknown:{number}"));
    let right = (0..25).flat_map(|number| [format!("ask:{number}"), format!("open:{number}")]);
    let channels: Vec<_> = wrong.chain(right).collect();
    client.say(&json!({"type": "subscribe_updates", "channels": channels}));
    client.say(&json!({"type": "anything"}));
    assert_eq!(client.closed(), (1008, Vec::new()));
    drop(client);
    running.server.stop(PATIENCE);
    assert!(running.server.join(PATIENCE));
    let of_client = |event: &Event| match *event {
        Event::Closed { client, .. } | Event::Subscribe { client, .. } | Event::Message { client, .. } => {
            client == id
        }
        _ => false,
    };
    let events: Vec<_> = running.events.try_iter().filter(of_client).collect();
    assert!(matches!(events[..], [Event::Closed { code: 1008, .. }]), "{events:?}");
}

#[test]
fn who_is_closed_is_told_why_even_when_the_log_has_moved_past_it() {
    let running = Running::start(|_| false);
    let (id, mut client) = running.connect();
    client.say(&json!({"type": "subscribe_updates", "channel": "short:a"}));
    client.hear("subscription_established");
    running.publish("short:a", "1");
    client.hear("batched_updates");
    for number in 2..=9 {
        running.publish("short:a", &number.to_string());
    }
    running.server.close(id, CloseCode::new(4500).expect("legal"), "as asked".into());
    assert_eq!(client.closed(), (4500, Vec::new()));
}

#[test]
fn a_stop_in_the_middle_of_a_tick_delivers_what_was_published_before() {
    let running = Running::start(|_| false);
    let mut client = running.subscribe("open:a");
    client.say(&json!({"type": "subscribe_updates", "channel": "open:b"}));
    client.hear("subscription_established");
    running.publish("open:a", "1");
    client.hear("batched_updates");
    for channel in ["open:a", "open:b"] {
        running.publish(channel, "2");
    }
    running.server.stop(PATIENCE);
    assert_eq!(client.hear("batched_updates")["count"], 2);
    assert_eq!(client.closed(), (1012, Vec::new()));
    drop(client);
    assert!(running.server.join(PATIENCE));
}
