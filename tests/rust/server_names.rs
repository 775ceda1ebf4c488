//! What a running server keeps for itself: channels and paths.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use umbel::channel::NameError;
use umbel::config::Config;
use umbel::publication::Content;
use umbel::transport::Page;

use crate::server_running::{PATIENCE, Running, rule};
use crate::settings::settings;

/// The status of the answer to a request for a page, and to one for a WebSocket.
fn statuses(address: &str, path: &str) -> [String; 2] {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    ["", upgrade].map(|headers| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n").expect("a connection");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("a response");
        String::from_utf8_lossy(&status[9..]).into_owned()
    })
}

#[test]
fn paths_of_the_server_win_over_pages_and_patterns_of_the_application() {
    let headers = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
    let page = || Page { headers: headers.clone(), body: b"mine".to_vec(), gzip: None };
    let pages = ["/", "/metrics", "/umbel/mine", "/healthz"].map(|path| (path.to_owned(), page()));
    let changes = json!({"websocket_routes": ["/{any:path}"]});
    let running = Running::start_with(&changes, HashMap::from(pages), |_| false);
    for (path, expected) in [
        ("/", ["200", "101"]),
        ("/else", ["426", "101"]),
        ("/metrics", ["404", "404"]),
        ("/dashboard", ["404", "404"]),
        ("/api/v1/publish", ["404", "404"]),
        ("/umbel/mine", ["200", "404"]), // a file of the server
        ("/umbel/x", ["404", "404"]),
        ("/healthz", ["200", "404"]),
        ("/readyz", ["200", "404"]),
    ] {
        assert_eq!(statuses(&running.address, path), expected, "{path}");
    }
}

#[test]
fn the_protocol_is_not_served_at_a_path_of_the_server() {
    for path in ["/metrics", "/umbel/ws"] {
        let changes = json!({ "websocket_path": path });
        assert!(Config::from_json(&settings(&[&changes])).is_err(), "{path}");
    }
}

#[test]
fn channels_of_the_server_are_for_nobody_else() {
    let channels = json!({"channels": [rule("{any:path}", "open", "open")]});
    let running = Running::start_with(&channels, HashMap::new(), |_| false);
    assert_eq!(running.server.publish("$node", Content::new(b"1", None)).err(), Some(NameError::Reserved));
    let (id, mut client) = running.connect();
    assert_eq!(running.server.subscribe(id, "$node", None, None), Err(NameError::Reserved));
    for kind in ["subscribe_updates", "unsubscribe_updates", "publish"] {
        client.say(&json!({"type": kind, "channel": "$node", "data": 1}));
        assert_eq!(client.hear("error")["code"], "bad_channel");
    }
}
