//! Request heads: right and wrong ones.

use proptest::prelude::*;
use umbel::protocol::http::{HeadLimits, HeadReader, HttpError, INNER_SLASH, Method, Request, response};

fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, HttpError> {
    HeadReader::default().read(bytes, &HeadLimits::default())
}

/// Reads in pieces that end at these places.
fn read_cut(bytes: &[u8], cuts: &[usize]) -> Result<Option<(Request, usize)>, HttpError> {
    let mut reader = HeadReader::default();
    for &cut in cuts.iter().chain([&bytes.len()]) {
        if let Some(found) = reader.read(&bytes[..cut], &HeadLimits::default())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[track_caller]
fn status(bytes: &[u8]) -> u16 {
    let whole = read(bytes);
    let every_byte: Vec<usize> = (0..bytes.len()).collect();
    match (whole, read_cut(bytes, &every_byte)) {
        (Err(whole), Err(cut)) => {
            assert_eq!(whole, cut);
            whole.status
        }
        (Ok(Some((request, used))), Ok(Some((same, same_used)))) => {
            assert_eq!((format!("{request:?}"), used), (format!("{same:?}"), same_used));
            200
        }
        (Ok(None), Ok(None)) => 0,
        other => panic!("cutting matters: {other:?}"),
    }
}

fn with(line: &str) -> Vec<u8> {
    format!("GET /ws HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").into_bytes()
}

#[test]
fn a_request_is_read_and_what_follows_is_left() {
    let head = b"GET /ws/%C3%A9%2e?a=1&b=%20+x&a=2 HTTP/1.1\r\nHost: Example.com:80\r\nx-A:\t one \r\nX-a: two\r\n\r\n";
    let bytes = [&head[..], b"\x81\x80\0\0\0\0"].concat();
    let (request, used) = read(&bytes).unwrap().unwrap();
    assert_eq!(used, head.len());
    assert_eq!((request.method(), request.path()), (Method::Get, "/ws/é."));
    assert_eq!(request.query(), Some("a=1&b=%20+x&a=2"));
    assert_eq!(request.host(), Some("Example.com:80"));
    assert_eq!(request.headers("X-A").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(request.header("x-a"), None, "doubled");
    assert_eq!(request.all_headers().next(), Some(("Host", "Example.com:80")));
    assert!(!request.has_body());
}

#[test]
fn the_outcome_does_not_depend_on_where_the_bytes_are_cut() {
    let bytes = b"GET /ws?x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\x81\x80\0\0\0\0";
    let expected = format!("{:?}", read(bytes));
    for first in 0..bytes.len() {
        for second in first..bytes.len() {
            assert_eq!(format!("{:?}", read_cut(bytes, &[first, second])), expected);
        }
    }
}

#[test]
fn a_head_in_single_bytes_is_linear_work() {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nx: ".to_vec();
    bytes.resize(16_000, b'a');
    let limits = HeadLimits::default();
    let mut reader = HeadReader::default();
    for end in 0..=bytes.len() {
        assert!(reader.read(&bytes[..end], &limits).unwrap().is_none());
        // The place it keeps is the number of bytes it has looked at; it never goes back.
        assert!(format!("{reader:?}").contains(&format!("scanned: {end}")));
    }
}

#[test]
fn lengths_are_limited_before_the_head_is_complete() {
    let get = |target: usize| [b"GET /".to_vec(), vec![b'a'; target]].concat();
    assert_eq!(status(&get(64 * 1024)), 414);
    assert_eq!(status(&[get(8 * 1024 + 1), b" HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()].concat()), 414);
    assert_eq!(status(&[get(8 * 1024 - 1), b" HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()].concat()), 200);
    assert_eq!(
        read(&[b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 100 * 1024]].concat()).unwrap_err().status,
        431
    );
    assert_eq!(
        read(&[b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(5000)].concat()).unwrap_err().status,
        431
    );
    assert_eq!(status(&with(&["x: y"; 63].join("\r\n"))), 200);
    assert_eq!(status(&with(&["x: y"; 64].join("\r\n"))), 431);
}

#[test]
fn what_is_not_http_is_refused_at_once() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\r\n",
        b" GET",
        b"GET\t/",
        b"{\"type\"",
        b"\x00",
        b"\xff",
        b"AAAAAAAAAAAAAAAAAAAAAAAA",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\rX",
        b"\n",
    ] {
        assert_eq!(status(bytes), 400, "{bytes:?}");
    }
    assert_eq!(status(b"GET / HTTP/1.1\r"), 0);
}

#[test]
fn versions_and_methods() {
    for (line, expected) in [
        ("GET / HTTP/1.1", 200),
        ("GET / HTTP/1.0", 200),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/1.2", 505),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET /\t HTTP/1.1", 400),
        ("CONNECT a:1 HTTP/1.1", 501),
        ("TRACE / HTTP/1.1", 501),
        ("get / HTTP/1.1", 501),
        ("G(T / HTTP/1.1", 400),
    ] {
        assert_eq!(status(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()), expected, "{line}");
    }
}

#[test]
fn lines_are_strict() {
    for (line, expected) in [
        ("a: b", 200),
        ("a:b", 200),
        ("a:", 200),
        ("a: b\tc", 200),
        ("cookie: é", 200),
        ("a : b", 400),
        (" a: b", 400),
        ("a: b\r\n c", 400),
        ("a: b\r\n\tc: d", 400),
        ("a: b\nc: d", 400),
        ("a: b\rc: d", 400),
        ("a: b\r\r", 400),
        ("a: b\0", 400),
        ("a: b\x1b[31m", 400),
        ("a: b\x7f", 400),
        ("a", 400),
        (": b", 400),
        ("é: b", 400),
        ("a(b): c", 400),
    ] {
        assert_eq!(status(&with(line)), expected, "{line:?}");
    }
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\na: \xff\r\n\r\n"), 400);
}

#[test]
fn bodies_have_one_plain_length_or_none() {
    for (lines, expected) in [
        ("Content-Length: 0", 200),
        ("Content-Length: 5", 200),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: -5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: 5 5", 400),
        ("Content-Length:", 400),
        ("Content-Length: 99999999999999999999", 400),
        ("Transfer-Encoding: chunked", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: identity", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ] {
        assert_eq!(status(&with(lines)), expected, "{lines}");
    }
    assert!(read(&with("Content-Length: 5")).unwrap().unwrap().0.has_body());
    assert!(!read(&with("Content-Length: 0")).unwrap().unwrap().0.has_body());
}

#[test]
fn host_stands_once_and_names_a_host() {
    let host = |value: &str| format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n").into_bytes();
    for good in ["a", "a.b-c_d", "127.0.0.1:8000", "[::1]", "[::1]:80", "localhost:1"] {
        assert_eq!(status(&host(good)), 200, "{good}");
    }
    for bad in [
        "", "a/b", "a?x", "a#", "a@b", "@", "a b", "a:b", "a:", "a:70000", "a:+1", ":80", "[", "[]", "[::1",
        "[a/]", "é", "a\\",
    ] {
        assert_eq!(status(&host(bad)), 400, "{bad}");
    }
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(status(b"GET / HTTP/1.0\r\n\r\n"), 200);
}

#[test]
fn paths_are_decoded_once_or_refused() {
    let path = |target: &str| {
        read(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .map(|found| found.unwrap().0.path().to_owned())
            .map_err(|error| error.status)
    };
    assert_eq!(path("/a%2Fb"), Ok("/a/b".into()));
    assert_eq!(path("/%2541"), Ok("/%41".into()), "once only");
    assert_eq!(path("/a..b/.c"), Ok("/a..b/.c".into()));
    for bad in [
        "/..",
        "/../etc",
        "/a/./b",
        "/%2e%2e/x",
        "/a%2f..%2fb",
        "/%00",
        "/%0a",
        "/%7f",
        "/%c0%af",
        "/%ff",
        "/%",
        "/%4",
        "/%zz",
        "/a\\b",
        "/%5c",
        "/a#b",
        "*",
        "a",
        "//%0d",
    ] {
        assert_eq!(path(bad), Err(400), "{bad}");
    }
}

#[test]
fn a_slash_that_was_sent_as_an_escape_stays_in_its_segment() {
    let segments = |target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        read(head.as_bytes()).unwrap().unwrap().0.segments().to_owned()
    };
    assert_eq!(segments("/a/b%20c"), "/a/b c");
    assert_eq!(segments("/a%2Fb%2f/c"), format!("/a{INNER_SLASH}b{INNER_SLASH}/c"));
    assert_eq!(segments("/a%252F"), "/a%2F", "once only");
    assert_eq!(status(b"GET /a%01 HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "nobody can send what stands for it");
}

#[test]
fn the_host_of_an_absolute_target_counts_and_not_the_header() {
    let request = |target: &str, host: &str| {
        read(format!("GET {target} HTTP/1.1\r\n{host}X: y\r\n\r\n").as_bytes())
            .map(|found| found.unwrap().0)
            .map_err(|error| error.status)
    };
    for (target, authority, path, query) in [
        ("http://a.example/x?y=/z", "a.example", "/x", Some("y=/z")),
        ("HTTPS://[::1]:8443/x", "[::1]:8443", "/x", None),
        ("http://a:80", "a:80", "/", None),
        ("http://a?q=1", "a", "/", Some("q=1")),
        ("http://a//b", "a", "//b", None),
    ] {
        let found = request(target, "hOsT: evil\r\n").expect("it is legal");
        assert_eq!((found.host(), found.path(), found.query()), (Some(authority), path, query));
        assert_eq!(found.header("host"), Some(authority));
        assert_eq!(found.all_headers().collect::<Vec<_>>(), [("hOsT", authority), ("X", "y")]);
    }
    for bad in ["http://", "http:///x", "http://u@a/", "http://a:x/", "ftp://a/", "http:/a", "://a/"] {
        assert_eq!(request(bad, "Host: a\r\n").err(), Some(400), "{bad}");
    }
    // RFC 9112 §3.2: all the same HTTP/1.1 has one legal header.
    for host in ["", "Host: a\r\nHost: a\r\n", "Host: a/b\r\n"] {
        assert_eq!(request("http://a/", host).err(), Some(400), "{host}");
    }
    let old = read(b"GET http://a/ HTTP/1.0\r\n\r\n").unwrap().unwrap().0;
    assert_eq!(old.host(), Some("a"));
    // A proxy sends what follows the authority in its own words; a path may look like one.
    assert_eq!(request("/http://b/", "Host: a\r\n").expect("a path").host(), Some("a"));
}

#[test]
fn header_values_cannot_break_a_response() {
    let bytes = response(200, &[("X-A", "b")], b"hi").unwrap();
    assert_eq!(bytes, b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    for (name, value) in [
        ("X", "a\r\nb: c"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "\0"),
        ("X\r\n", "a"),
        ("", "a"),
        ("a b", "c"),
    ] {
        assert!(response(200, &[(name, value)], b"").is_none(), "{name:?}: {value:?}");
    }
}

#[test]
fn refusals_say_why() {
    let text = String::from_utf8(HttpError::BAD_HOST.to_response()).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && text.contains("Connection: close\r\n"));
    assert!(text.ends_with("\r\n\r\nthere must be one Host header that names a host\n"));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_alike_however_they_are_cut(
        start in prop::sample::select(vec!["", "GET ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"]),
        middle in "[ -~\r\n\t\u{0}é]{0,60}",
        end in prop::sample::select(vec!["", "\r\n", "\r\n\r\n"]),
    ) {
        status(format!("{start}{middle}{end}").as_bytes());
    }
}
