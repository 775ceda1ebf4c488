//! The WebSocket handshake: right and wrong requests.

use umbel::protocol::deflate::DeflatePolicy;
use umbel::protocol::handshake::{Policy, Upgrade, is_upgrade, upgrade};
use umbel::protocol::hosts::{Hosts, Reach};
use umbel::protocol::http::{HeadLimits, HeadReader, HttpError, Request};
use umbel::protocol::origins::Origins;

const GOOD: [&str; 5] = [
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

fn parse(line: &str, headers: &[&str]) -> Request {
    let text = format!("{line}\r\n{}\r\n\r\n", headers.join("\r\n"));
    HeadReader::default().read(text.as_bytes(), &HeadLimits::default()).unwrap().unwrap().0
}

/// A good request with the headers of the same name replaced by these lines.
fn request(lines: &[&str]) -> Request {
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let kept = GOOD.iter().filter(|good| !lines.iter().any(|line| name(line) == name(good)));
    let lines: Vec<&str> = kept.chain(lines).copied().filter(|line| !line.ends_with('!')).collect();
    parse("GET /ws HTTP/1.1", &lines)
}

fn status(lines: &[&str]) -> u16 {
    upgrade(&request(lines), &Policy::default()).map_or_else(|error| error.status, |_| 101)
}

fn status_for(host: &str, origin: Option<&str>, hosts: Hosts) -> u16 {
    let origin = origin.map(|origin| format!("Origin: {origin}"));
    let lines: Vec<_> = [Some(format!("Host: {host}")), origin].into_iter().flatten().collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let policy = Policy { origins: Origins::SameHost(hosts), ..Policy::default() };
    with_policy(&lines, &policy).map_or_else(|error| error.status, |_| 101)
}

fn with_policy(lines: &[&str], policy: &Policy) -> Result<Upgrade, HttpError> {
    upgrade(&request(lines), policy)
}

#[test]
fn the_example_of_the_rfc_is_answered() {
    let upgrade = with_policy(&[], &Policy::default()).unwrap();
    assert_eq!(
        String::from_utf8(upgrade.response).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn headers_are_token_lists_compared_without_case() {
    for lines in [
        &["Upgrade: WebSocket"][..],
        &["Upgrade: websocket, h2c"],
        &["Upgrade: h2c", "Upgrade: websocket"],
        &["Connection: keep-alive, Upgrade"],
        &["connection: keep-alive", "connection: UPGRADE"],
    ] {
        assert_eq!(status(lines), 101, "{lines:?}");
    }
}

#[test]
fn each_requirement_has_its_refusal() {
    // A line that ends in "!" takes its header out.
    for (lines, expected) in [
        (&["Upgrade: !"][..], 426),
        (&["Upgrade: h2c"], 426),
        (&["Upgrade: websockets"], 426),
        (&["Connection: !"], 400),
        (&["Connection: close"], 400),
        (&["Sec-WebSocket-Version: !"], 426),
        (&["Sec-WebSocket-Version: 12"], 426),
        (&["Sec-WebSocket-Version: 8, 13"], 426),
        (&["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], 400),
        (&["Sec-WebSocket-Key: !"], 400),
        (&["Sec-WebSocket-Key:"], 400),
        (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], 400),
        (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU="], 400),
        (&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], 400),
        (&["Sec-WebSocket-Key: not base64 at all!?"], 400),
        (
            &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            400,
        ),
        (&["Content-Length: 30"], 400),
    ] {
        assert_eq!(status(lines), expected, "{lines:?}");
    }
    let refused = |line: &str| upgrade(&parse(line, &GOOD), &Policy::default()).unwrap_err();
    assert_eq!(refused("POST /ws HTTP/1.1").status, 405);
    assert_eq!(refused("POST /ws HTTP/1.1").headers, [("Allow", "GET")]);
    assert_eq!(refused("GET /ws HTTP/1.0").status, 505);
    let wrong = String::from_utf8(
        with_policy(&["Sec-WebSocket-Version: 12"], &Policy::default()).unwrap_err().to_response(),
    );
    assert!(wrong.unwrap().contains("Sec-WebSocket-Version: 13\r\n"));
    assert!(is_upgrade(&request(&[])) && !is_upgrade(&request(&["Upgrade: h2c"])));
}

#[test]
fn the_same_host_may_connect_by_default() {
    for (host, origin, expected) in [
        ("a.example", "https://a.example", 101),
        ("a.example", "http://A.example", 101),
        ("a.example:443", "https://a.example", 101),
        ("a.example", "https://a.example:443", 101),
        ("localhost:8000", "http://localhost:8000", 101),
        ("a.example", "https://b.example", 403),
        ("a.example", "https://a.example.b.example", 403),
        ("a.example", "https://xa.example", 403),
        ("a.example", "https://a.example:444", 403),
        ("localhost:8000", "http://localhost:3000", 403),
        ("a.example", "null", 403),
        ("a.example", "a.example", 403),
        ("a.example", "file://a.example", 403),
        ("a.example", "", 403),
    ] {
        let hosts = Hosts::new(Reach::Loopback, &["a.example"]);
        assert_eq!(status_for(host, Some(origin), hosts), expected, "{host} {origin}");
    }
    assert_eq!(status(&["Origin: https://server.example.com", "Origin: https://server.example.com"]), 403);
}

#[test]
fn a_page_may_connect_only_by_a_name_that_is_known() {
    let default = Hosts::default;
    assert_eq!(status_for("evil.example:8000", Some("http://evil.example:8000"), default()), 403);
    assert_eq!(status_for("evil.example:8000", None, default()), 101);
    assert_eq!(status_for("localhost:8000", Some("http://localhost:8000"), default()), 101);
    assert_eq!(status_for("127.0.0.1:8000", Some("http://evil.example:8000"), default()), 403);
    let socket = Hosts::new(Reach::UnixSocket, &[""; 0]);
    assert_eq!(status_for("a.example", Some("https://a.example"), socket.clone()), 101);
    assert_eq!(status_for("a.example", Some("https://b.example"), socket), 403);
    let lines = ["Host: a.example", "Origin: https://a.example"];
    let refused = with_policy(&lines, &Policy::default()).unwrap_err();
    assert_eq!(refused.setting, Some("allowed_hosts"));
    let listed = Policy { origins: Origins::List(vec!["https://a.example".into()]), ..Policy::default() };
    assert!(with_policy(&lines, &listed).is_ok());
}

#[test]
fn a_list_of_origins_is_exact() {
    let policy = Policy { origins: Origins::List(vec!["https://app.example".into()]), ..Policy::default() };
    let allowed = |line: &str| with_policy(&[line], &policy).is_ok();
    assert!(allowed("Origin: https://app.example") && with_policy(&[], &policy).is_ok());
    for other in [
        "http://app.example",
        "https://app.example:8443",
        "https://xapp.example",
        "https://app.example/",
        "null",
        "é",
    ] {
        assert!(!allowed(&format!("Origin: {other}")), "{other}");
    }
    let any = Policy { origins: Origins::Any, ..Policy::default() };
    assert!(with_policy(&["Origin: null"], &any).is_ok());
    assert!(with_policy(&["Origin: null", "Origin: null"], &any).is_err());
}

#[test]
fn the_first_choice_of_the_server_is_spoken() {
    let policy = Policy { subprotocols: vec!["umbel.v2".into(), "umbel.v1".into()], ..Policy::default() };
    let chosen = |lines: &[&str]| {
        let upgrade = with_policy(lines, &policy).map_err(|error| error.status)?;
        let response = String::from_utf8(upgrade.response).expect("text");
        let named = response.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        Ok(named.map(str::to_owned))
    };
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: umbel.v1, umbel.v2"]), Ok(Some("umbel.v2".into())));
    assert_eq!(
        chosen(&["Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: umbel.v1"]),
        Ok(Some("umbel.v1".into()))
    );
    assert_eq!(chosen(&[]), Ok(None));
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: graphql-ws"]), Err(400));
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: umbel.v1,"]), Err(400));
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: a b"]), Err(400));
}

#[test]
fn compression_is_answered_when_the_policy_has_it() {
    let policy = Policy { deflate: Some(DeflatePolicy::default()), ..Policy::default() };
    let offer = ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"];
    let upgraded = with_policy(&offer, &policy).unwrap();
    assert!(upgraded.deflate.is_some());
    assert!(String::from_utf8(upgraded.response).unwrap().contains(
        "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
    ));
    assert_eq!(with_policy(&offer, &Policy::default()).unwrap().deflate, None);
    assert_eq!(with_policy(&["Sec-WebSocket-Extensions: a; b=\"c"], &policy).unwrap_err().status, 400);
}

#[test]
fn long_lists_cost_little() {
    let policy = Policy {
        deflate: Some(DeflatePolicy::default()),
        subprotocols: vec!["umbel.v1".into()],
        ..Policy::default()
    };
    let offers = "a;b,".repeat(2000);
    for line in [
        format!("Sec-WebSocket-Extensions: {offers}x"),
        format!("Sec-WebSocket-Protocol: {}umbel.v1", "x,".repeat(4000)),
    ] {
        assert!(with_policy(&[&line], &policy).is_ok());
    }
}
