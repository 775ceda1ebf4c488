//! Who a client is that comes through proxies.

use std::net::IpAddr;

use umbel::config::ProxyHeader;
use umbel::protocol::forwarded::{Forwarded, Proxies};
use umbel::protocol::http::{HeadLimits, HeadReader, Request};

fn request(lines: &[&str]) -> Request {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
    let limits = HeadLimits { head_bytes: 1 << 16, headers: 64, target_bytes: 1 << 15 };
    HeadReader::default().read(head.as_bytes(), &limits).expect("legal").expect("whole").0
}

fn proxies(header: ProxyHeader) -> Proxies {
    Proxies::new(&["10.0.0.0/8".into(), "2001:db8::/32".into()], header)
}

fn client(text: &str) -> Forwarded {
    Forwarded::Client(text.parse().expect("an address"))
}

#[test]
fn the_last_address_that_is_no_proxy_is_that_of_the_client() {
    let proxies = proxies(ProxyHeader::XForwardedFor);
    for (lines, expected) in [
        (&["X-Forwarded-For: 203.0.113.7"][..], client("203.0.113.7")),
        (&["x-forwarded-for: 192.0.2.1, 203.0.113.7"], client("203.0.113.7")),
        (&["X-Forwarded-For: 192.0.2.1, 203.0.113.7,10.1.2.3 , 10.9.9.9"], client("203.0.113.7")),
        (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 203.0.113.7, 10.0.0.1"], client("203.0.113.7")),
        (&["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.0.0.1"], client("203.0.113.7")),
        // All are proxies, so it is the first.
        (&["X-Forwarded-For: 10.0.0.2, 10.0.0.1"], client("10.0.0.2")),
        // What the client has written itself is not looked at.
        (&["X-Forwarded-For: \"<script>, , 203.0.113.7"], Forwarded::Malformed),
        (&["X-Forwarded-For: <script>, , 203.0.113.7"], client("203.0.113.7")),
        (&["X-Forwarded-For: 203.0.113.7:4711"], client("203.0.113.7")),
        (&["X-Forwarded-For: ::ffff:203.0.113.7"], client("203.0.113.7")),
        (&["X-Forwarded-For: ::ffff:10.0.0.1"], client("10.0.0.1")),
        (&["X-Forwarded-For: 2a00::1"], client("2a00::1")),
        (&["X-Forwarded-For: [2a00::1]:443, 2001:db8::9"], client("2a00::1")),
        (&["X-Forwarded-For: [2a00::1]"], client("2a00::1")),
        (&["Forwarded: for=203.0.113.7"], Forwarded::Nothing),
        (&[], Forwarded::Nothing),
    ] {
        assert_eq!(proxies.client(&request(lines)), expected, "{lines:?}");
    }
}

#[test]
fn what_can_not_be_read_names_nobody() {
    let proxies = proxies(ProxyHeader::XForwardedFor);
    for value in [
        "",
        " ",
        ",",
        "unknown",
        "203.0.113.7,",
        "203.0.113.7, 10.0.0.1,",
        "203.0.113",
        "203.0.113.7:",
        "203.0.113.7:x",
        "[2a00::1",
        "[2a00::1]x",
        "fe80::1%eth0",
        "203.0.113.7 10.0.0.1",
        "localhost",
        "0xcb.0.0.1",
        "203.0.113.7;",
        "[203.0.113.7]",
    ] {
        let line = format!("X-Forwarded-For: {value}");
        assert_eq!(proxies.client(&request(&[&line])), Forwarded::Malformed, "{value:?}");
    }
}

#[test]
fn the_standard_header_is_read_as_it_is_written() {
    let proxies = proxies(ProxyHeader::Forwarded);
    for (value, expected) in [
        ("for=203.0.113.7", client("203.0.113.7")),
        ("For=\"203.0.113.7:80\";proto=https;by=10.0.0.1", client("203.0.113.7")),
        ("proto=http; FOR=\"[2a00::1]:4711\"", client("2a00::1")),
        ("for=192.0.2.1, for=203.0.113.7;by=\"a,b;c\", for=10.0.0.1", client("203.0.113.7")),
        ("for=203.0.113.7;ext=\"\\\", for=192.0.2.1\"", client("203.0.113.7")),
        ("for=unknown", Forwarded::Malformed),
        ("for=_hidden", Forwarded::Malformed),
        ("for=unknown, for=203.0.113.7", client("203.0.113.7")),
        ("proto=https", Forwarded::Malformed),
        ("for=\"203.0.113.7", Forwarded::Malformed),
        ("for=", Forwarded::Malformed),
    ] {
        let line = format!("Forwarded: {value}");
        assert_eq!(proxies.client(&request(&[&line, "X-Forwarded-For: 192.0.2.9"])), expected, "{value}");
    }
}

#[test]
fn only_those_that_are_named_are_believed() {
    let none = Proxies::default();
    let some = proxies(ProxyHeader::XForwardedFor);
    let unix = Proxies::new(&["unix".into()], ProxyHeader::XForwardedFor);
    let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
    for (peer, expected) in [
        (None, [false, false, true]),
        (address("10.1.1.1"), [false, true, false]),
        (address("::ffff:10.1.1.1"), [false, true, false]),
        (address("127.0.0.1"), [false, false, false]),
        (address("2001:db8::7"), [false, true, false]),
    ] {
        assert_eq!([&none, &some, &unix].map(|proxies| proxies.trust(peer)), expected, "{peer:?}");
    }
    assert_eq!([&none, &some, &unix].map(Proxies::are_some), [false, true, true]);
}
