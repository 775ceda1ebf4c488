use std::future::Future as _;
use std::os::unix::net::UnixStream;
use std::task::{Context, Waker};

use serde_json::{Value, json};

use super::{Cell, accept, arrived, with_settings};
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::publication::Content;
use crate::transport::drive::poll_once;
use crate::transport::peer::Peer;

/// A client that speaks first.
struct First {
    key: ReaderKey,
    stream: UnixStream,
}

impl First {
    fn connect(cell: &Cell) -> Self {
        let (key, stream) = accept(cell);
        let first = Self { key, stream };
        let request = "GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: umbel.v1.first\r\n\r\n";
        cell.borrow_mut().receive(key, &mut request.as_bytes().to_vec());
        assert!(arrived(&first.stream).starts_with(b"HTTP/1.1 101 "));
        first
    }

    /// Says something, and returns what it is told.
    fn say(&self, cell: &Cell, message: &Value) -> Vec<Value> {
        let text = message.to_string();
        let long = (text.len() as u16).to_be_bytes();
        let header = if text.len() < 126 {
            vec![0x81, 0x80 | text.len() as u8]
        } else {
            vec![0x81, 0x80 | 126, long[0], long[1]]
        };
        // It masks with zeros.
        let mut frame = [&header[..], &[0; 4], text.as_bytes()].concat();
        cell.borrow_mut().receive(self.key, &mut frame);
        poll_once(cell, self.key);
        let heard = arrived(&self.stream);
        let mut bytes = &heard[..];
        let mut told = Vec::new();
        while let [0x81, length, rest @ ..] = bytes {
            let (length, rest) = match length {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                short => (usize::from(*short), rest),
            };
            told.push(serde_json::from_slice(&rest[..length]).expect("it is JSON"));
            bytes = &rest[length..];
        }
        told
    }
}

/// Whether the shard was woken since this was last asked.
fn woken(cell: &Cell) -> bool {
    let commands = std::sync::Arc::clone(&cell.borrow().commands);
    let mut waiting = std::pin::pin!(commands.wait_command());
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn the_shard_wakes_up_for_what_a_client_has_missed_that_comes_back() {
    let rule = json!({
        "pattern": "{x}", "subscribe": "open", "publish": "open", "history": 9, "history_bytes": 1000,
        "history_seconds": 60, "mode": "all", "overrun": "gap", "compress": true, "sender": false, "replay": "head",
        "recheck": false,
    });
    with_settings(&json!({"channels": [rule]}), |cell| {
        let before = First::connect(cell);
        let greeting = before.say(cell, &json!({"type": "authenticate"})).remove(0);
        let seat = before.say(cell, &json!({"type": "subscribe_updates", "channel": "a"})).remove(0);
        let cut = Peer::act(&mut cell.borrow_mut(), before.key, |peer| peer.finish(&CloseReason::Broken));
        assert!(cut.is_some());
        let shared = std::sync::Arc::clone(&cell.borrow().shared);
        let name = ChannelName::new("a").expect("legal");
        drop(shared.broker.append(name.as_name(), Content::new(b"1", None), shared.clock.now()));

        let back = First::connect(cell);
        woken(cell);
        let positions = json!({"a": {"epoch": seat["epoch"], "offset": seat["offset"]}});
        let session = &greeting["session"]["token"];
        let resume = json!({"type": "resume", "session": session, "attempt": 1, "positions": positions});
        let told = back.say(cell, &resume);
        assert_eq!((&told[0]["resumed"], &told[1]["recovered"]), (&json!(true), &json!(true)));
        assert!(woken(cell), "nothing else would wake it");
    });
}
