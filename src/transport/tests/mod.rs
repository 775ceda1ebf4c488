//! A shard with real sockets, whose turns and whose time a test makes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::RandomState;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::close::CloseReason;
use crate::config::Config;
use crate::hub::ReaderKey;
use crate::jwt::Verifier;
use crate::moment::Moment;
use crate::presence::{Bounds, Registry};
use crate::protocol::handshake::Policy;
use crate::protocol::origins::Origins;
use crate::rules::Rules;
use crate::transport::Page;
use crate::transport::addresses::{Addresses, Counted};
use crate::transport::budget::Budget;
use crate::transport::clock::Clock;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::deadlines::Timeouts;
use crate::transport::drive::{Newcomer, accept as accept_stream, receive};
use crate::transport::events::{Event, Inbox};
use crate::transport::idempotency::Idempotency;
use crate::transport::io::{Socket, Stream};
use crate::transport::peer::Peer;
use crate::transport::policy::{proxies, terms};
use crate::transport::repeated::RepeatedKinds;
use crate::transport::shared::Shared;
use crate::transport::subjects::Subjects;

mod credentials;
mod drain;
mod http;
mod latecomers;
mod peer;
mod sessions;
#[path = "../../../tests/rust/settings.rs"]
mod settings;

/// An application that takes every event, or as good as none.
pub struct Nobody {
    pub has_room: bool,
}

impl Inbox for Nobody {
    fn push(&self, _: Event) {}

    fn has_room(&self) -> bool {
        self.has_room
    }
}

pub type Cell = Rc<RefCell<Connections>>;

impl Connections {
    /// What the task of a connection does with bytes that came. Returns how many it took.
    pub fn receive(&mut self, key: ReaderKey, bytes: &mut [u8]) -> usize {
        Peer::act(self, key, |peer| receive(peer, bytes)).expect("no panic")
    }

    pub fn close(&mut self, key: ReaderKey, reason: CloseReason) {
        Peer::act(self, key, |peer| peer.close(reason)).expect("no panic");
    }

    pub fn panic(&mut self, key: ReaderKey) {
        Peer::act(self, key, |_| panic!("the bug of this test"));
    }

    pub fn live(&mut self, key: ReaderKey) -> Option<&mut Connection> {
        self.get(key).filter(|connection| connection.is_live())
    }
}

/// Runs a test where connections can be accepted. Their tasks have no turn: the test does what they would.
pub fn with_shard(test: impl FnOnce(&Cell)) {
    with_settings(&json!({}), test);
}

pub fn with_settings(settings: &serde_json::Value, test: impl FnOnce(&Cell)) {
    with_application(Nobody { has_room: true }, settings, test);
}

pub fn with_application(inbox: Nobody, settings: &serde_json::Value, test: impl FnOnce(&Cell)) {
    with(Arc::new(inbox), None, settings, test);
}

fn with(
    inbox: Arc<dyn Inbox>,
    verifier: Option<Arc<Verifier>>,
    settings: &serde_json::Value,
    test: impl FnOnce(&Cell),
) {
    let own = json!({"heartbeat": 60, "message_timeout": 10, "max_messages_per_second": 0});
    let config =
        Config::from_json(&self::settings::settings(&[&own, settings])).expect("a legal configuration");
    let spoken = || ["umbel.v1.first", "umbel.v1"].map(str::to_owned).to_vec();
    let policy = || Policy { subprotocols: spoken(), deflate: None, origins: Origins::Any };
    let rules = Rules::new(&config.channels).expect("legal rules").with_burst(config.burst_bytes);
    let rules = Arc::new(rules);
    let (commands, clock) = (vec![Arc::default()], Clock::new());
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(Arc::clone(&rules), config.max_log_bytes));
    let shared = Arc::new(Shared {
        timeouts: Timeouts::from(&config),
        hasher: RandomState::new(),
        terms: terms(&config, &rules),
        presence: Registry::new(Arc::clone(&broker), Bounds::from(&config), || {}),
        broker,
        rules,
        routes: Vec::new(),
        pages: HashMap::from([
            ("/page".into(), page(&[("Content-Type", "text/html")], b"<p>", None)),
            ("/umbel/file.js".into(), page(&[("ETag", "\"7\"")], b"plain", Some(b"packed"))),
        ]),
        policy: policy(),
        route_policy: policy(),
        tls: None,
        verifier,
        tickets: Shared::new_tickets(&config, &clock).expect("random bytes"),
        clock,
        inbox,
        counters: vec![Arc::default()],
        loads: vec![AtomicUsize::new(0)],
        subjects: Subjects::new(config.max_connections_per_identity),
        addresses: Addresses::new(config.max_connections_per_address, proxies(&config)),
        excess: Arc::default(),
        draining: AtomicBool::new(false),
        ended: Notify::new(),
        debug: AtomicBool::new(false),
        serial: AtomicU32::default(),
        refusals: RepeatedKinds::default(),
        salt: 0,
        idempotency: Arc::new(Idempotency::new(config.max_held_bytes, &commands)),
        budget: Arc::new(Budget::new(config.max_held_bytes, &commands)),
        commands,
        clients: Mutex::default(),
        config,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new()
        .block_on(&runtime, async { test(&Rc::new(RefCell::new(Connections::new(0, shared)))) });
}

fn page(headers: &[(&str, &str)], body: &[u8], gzip: Option<&[u8]>) -> Page {
    Page {
        headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        body: body.into(),
        gzip: gzip.map(Into::into),
    }
}

/// A client that was accepted and has said nothing: its key and its end of the stream.
pub fn accept(cell: &Cell) -> (ReaderKey, UnixStream) {
    let now = cell.borrow().now();
    accept_at(cell, Counted::default(), now)
}

pub fn accept_at(cell: &Cell, counted: Counted, at: Moment) -> (ReaderKey, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    let before = cell.borrow().keys();
    accept_stream(
        cell,
        Stream::new(Socket::Unix(ours)).expect("a stream"),
        Newcomer { counted, excess: None, at },
    );
    let key = cell.borrow().keys().into_iter().find(|key| !before.contains(key)).expect("it was accepted");
    (key, theirs)
}

/// A client whose request was answered.
pub fn connect(cell: &Cell) -> (ReaderKey, UnixStream) {
    let (key, theirs) = accept(cell);
    cell.borrow_mut().receive(key, &mut REQUEST.to_vec());
    assert!(arrived(&theirs).starts_with(b"HTTP/1.1 101 "));
    (key, theirs)
}

/// A text frame of a client that masks with zeros.
pub fn message(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// What a client has been sent since it last looked.
pub fn arrived(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let count = stream.read(&mut bytes).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

pub const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
