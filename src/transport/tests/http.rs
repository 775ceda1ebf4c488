use super::{REQUEST, accept, arrived, with_shard};
use crate::close::CloseReason;
use crate::transport::drive::receive;
use crate::transport::peer::Peer;

/// The response to a request, without what may follow it.
fn response(request: &str) -> String {
    let mut heard = String::new();
    with_shard(|cell| {
        let (key, client) = accept(cell);
        cell.borrow_mut().receive(key, &mut request.replace('\n', "\r\n").into_bytes());
        heard = String::from_utf8(arrived(&client)).expect("a response is text").replace("\r\n", "\n");
    });
    heard
}

fn text(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\nContent-Type: text/plain; charset=utf-8\n{headers}Content-Length: {length}\nConnection: close\n\n{body}"
    )
}

#[test]
fn probes_and_pages_are_answered() {
    assert_eq!(response("GET /healthz HTTP/1.1\nHost: a\n\n"), text("200 OK", "", "ok\n"));
    assert_eq!(response("GET /readyz HTTP/1.1\nHost: a\n\n"), text("200 OK", "", "ready\n"));
    let page = "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 3\nConnection: close\n\n";
    assert_eq!(response("GET /page HTTP/1.1\nHost: a\n\n"), format!("{page}<p>"));
    assert_eq!(response("HEAD /page HTTP/1.1\nHost: a\n\n"), page);
}

#[test]
fn a_file_of_the_server_is_packed_for_those_that_accept_it_and_left_out_for_those_that_have_it() {
    let head = |status: &str, encoding: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\nETag: \"7\"\nVary: Accept-Encoding\n{encoding}Content-Length: {length}\n\
             Connection: close\n\n"
        )
    };
    let get = |headers: &str| response(&format!("GET /umbel/file.js HTTP/1.1\nHost: a\n{headers}\n"));
    let gzip = "Content-Encoding: gzip\n";
    assert_eq!(get(""), head("200 OK", "", 5) + "plain");
    assert_eq!(get("Accept-Encoding: br, gzip\n"), head("200 OK", gzip, 6) + "packed");
    assert_eq!(get("Accept-Encoding: gzip;q=0\n"), head("200 OK", "", 5) + "plain");
    assert_eq!(get("If-None-Match: \"6\"\n"), head("200 OK", "", 5) + "plain");
    assert_eq!(get("If-None-Match: \"6\", \"7\"\n"), head("304 Not Modified", "", 5));
    assert_eq!(get("If-None-Match: \"7\"\nAccept-Encoding: gzip\n"), head("304 Not Modified", gzip, 6));
}

#[test]
fn refusals_say_why() {
    let nothing = text("404 Not Found", "", "nothing is served here\n");
    assert_eq!(response("GET /elsewhere HTTP/1.1\nHost: a\n\n"), nothing);
    assert_eq!(response("GET /metrics HTTP/1.1\nHost: a\n\n"), nothing);
    assert_eq!(response("GET /umbel/file HTTP/1.1\nHost: a\n\n"), nothing);
    let upgrade = "Upgrade: websocket\nSec-WebSocket-Version: 13\n";
    assert_eq!(
        response("GET /ws HTTP/1.1\nHost: a\n\n"),
        text("426 Upgrade Required", upgrade, "this path speaks WebSocket\n")
    );
    assert_eq!(
        response("DELETE /page HTTP/1.1\nHost: a\n\n"),
        text("405 Method Not Allowed", "Allow: GET, HEAD\n", "only GET and HEAD are answered here\n")
    );
    assert_eq!(
        response("POST /page HTTP/1.1\nHost: a\nContent-Length: 1\n\nx"),
        text("413 Content Too Large", "", "the body is too long\n")
    );
}

#[test]
fn a_server_that_stops_says_that_it_is_not_ready_and_opens_no_websocket() {
    with_shard(|cell| {
        let clients = ["GET /readyz", "GET /ws"].map(|line| (accept(cell), line));
        cell.borrow().shared.draining.store(true, std::sync::atomic::Ordering::Release);
        for ((key, client), line) in clients {
            let request =
                format!("{line} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
            cell.borrow_mut().receive(key, &mut request.into_bytes());
            assert!(arrived(&client).starts_with(b"HTTP/1.1 503 "), "{line}");
        }
    });
}

#[test]
fn a_client_that_ends_its_side_after_the_request_gets_the_response() {
    with_shard(|cell| {
        let (key, client) = accept(cell);
        Peer::act(&mut cell.borrow_mut(), key, |peer| {
            receive(peer, &mut REQUEST.to_vec());
            // What the task of the connection finds when it reads on.
            peer.finish(&CloseReason::Ended);
        });
        assert!(arrived(&client).starts_with(b"HTTP/1.1 101 "));
    });
}
