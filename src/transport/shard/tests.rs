use serde_json::json;

use super::*;
use crate::channel::ChannelName;
use crate::close::CloseCode;
use crate::hub::{Delivery, Outbound, Outgoing, ReaderKey};
use crate::position::{GapReason, Start, Subscribed};
use crate::protocol::wire::Wire;
use crate::publication::Content;
use crate::transport::drive::poll_once;
use crate::transport::latecomers::Latecomers;
use crate::transport::sessions::finish;
use crate::transport::sockets::Sockets;
use crate::transport::tests::{
    Nobody, accept, accept_at, arrived, connect, message, with_application, with_settings, with_shard,
};

#[test]
fn a_heartbeat_that_is_longer_than_a_turn_of_the_wheel_is_kept() {
    with_shard(|cell| {
        let (_, client) = connect(cell);
        let mut shard = cell.borrow_mut();
        let began = shard.now();
        let mut heard = Vec::new();
        for quarter in 1..=520 {
            shard.sockets.now = began + Duration::from_millis(250) * quarter;
            look_at_deadlines(&mut shard);
            let bytes = arrived(&client);
            if !bytes.is_empty() {
                heard.push((quarter, bytes[0]));
            }
        }
        // A ping after the interval and a close frame after another one, each at the first look after it.
        assert_eq!(heard, [(241, 0x89), (482, 0x88)]);
    });
}

#[test]
fn a_client_that_only_sends_is_pinged_for_the_proxy_between() {
    with_shard(|cell| {
        let (key, client) = connect(cell);
        let mut shard = cell.borrow_mut();
        let began = shard.now();
        let mut heard = Vec::new();
        for quarter in 1..=520 {
            shard.sockets.now = began + Duration::from_millis(250) * quarter;
            shard.receive(key, &mut b"\x8a\x80\0\0\0\0".to_owned());
            look_at_deadlines(&mut shard);
            heard.extend(arrived(&client).first().map(|&byte| (quarter, byte)));
        }
        assert_eq!(heard, [(241, 0x89), (482, 0x89)]);
    });
}

#[test]
fn while_the_application_has_no_room_nobody_is_silent() {
    with_application(Nobody { has_room: false }, &json!({}), |cell| {
        let (key, _client) = connect(cell);
        let mut shard = cell.borrow_mut();
        let began = shard.now();
        for quarter in 1..=1200 {
            shard.sockets.now = began + Duration::from_millis(250) * quarter;
            look_at_deadlines(&mut shard);
        }
        assert!(shard.live(key).is_some());
    });
}

#[test]
fn the_deadline_is_for_one_message_and_not_for_all_that_came_without_a_pause() {
    with_shard(|cell| {
        let [(busy, _first), (stuck, _second)] = [(); 2].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        let began = shard.now();
        let (begun, ping) = (*b"\x01\x80\0\0\0\0", *b"\x89\x80\0\0\0\0");
        for &key in &[busy, stuck] {
            shard.receive(key, &mut begun.clone());
        }
        for quarter in 1..=120 {
            shard.sockets.now = began + Duration::from_millis(250) * quarter;
            if quarter % 4 == 0 {
                shard.receive(busy, &mut [*b"\x80\x80\0\0\0\0", begun].concat());
                shard.receive(stuck, &mut ping.clone());
            }
            look_at_deadlines(&mut shard);
            assert!(shard.live(busy).is_some(), "each of its messages took a second");
            assert_eq!(shard.live(stuck).is_some(), quarter <= 40, "quarter {quarter}");
        }
    });
}

#[test]
fn a_reader_whose_serving_panics_is_closed_and_the_others_are_served() {
    struct Faulty<'a>(&'a mut Sockets, ReaderKey);
    impl Outbound for Faulty<'_> {
        fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
            assert_ne!(reader, self.1, "the bug of this test");
            self.0.deliver(reader, bytes)
        }

        fn lost(&mut self, _: &ChannelName, _: GapReason) {}
        fn finished(&mut self, _: ReaderKey, _: &ChannelName) {}
        fn overrun(&mut self, _: ReaderKey) {}
    }
    with_shard(|cell| {
        let clients = [(); 3].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        let channel = ChannelName::new("a").expect("legal");
        for &(key, _) in &clients {
            assert!(matches!(
                shard.hub.subscribe(key, &channel, Start::Newcomer, 1, Moment::default()),
                Subscribed::From { .. }
            ));
        }
        shard.shared.broker.append(channel.as_name(), Content::new(b"1", None), shard.now());
        shard.hub.moved(0);
        let broken = clients[1].0;
        let (now, time) = (shard.now(), shard.timestamp());
        let Connections { hub, sockets, .. } = &mut *shard;
        let mut faulty = Faulty(sockets, broken);
        let written = catch_unwind(AssertUnwindSafe(|| hub.flush(now, time, &mut faulty)));
        Peer::end_unserved(&mut shard, written);
        flush(&mut shard);
        assert_eq!(shard.counters.panics.load(), 1);
        let heard = clients.map(|(_, client)| arrived(&client));
        assert_eq!(heard[1][2..4], 1011_u16.to_be_bytes());
        for heard in [&heard[0], &heard[2]] {
            assert!(String::from_utf8_lossy(heard).contains("batched_updates"), "{heard:?}");
        }
    });
}

#[test]
fn a_client_that_has_had_its_turn_waits_for_the_next_one_and_loses_nothing() {
    with_shard(|cell| {
        let (key, client) = connect(cell);
        let mut shard = cell.borrow_mut();
        let mut pings: Vec<u8> = (0..10_000_u32).flat_map(|number| ping(&number.to_be_bytes())).collect();
        let (mut turns, mut pongs) = (0, Vec::new());
        while !pings.is_empty() {
            shard.work = 0;
            let taken = shard.receive(key, &mut pings);
            assert!(shard.live(key).is_some(), "pings are no fault");
            pings.drain(..taken);
            turns += 1;
            let heard = arrived(&client);
            pongs
                .extend(heard.chunks(6).map(|pong| u32::from_be_bytes([pong[2], pong[3], pong[4], pong[5]])));
        }
        assert!(turns > 1);
        assert!(pongs.is_sorted() && pongs.last() == Some(&9999));
    });
}

/// A ping of a client that masks with zeros.
fn ping(payload: &[u8; 4]) -> Vec<u8> {
    [&[0x89, 0x84, 0, 0, 0, 0][..], payload].concat()
}

#[test]
fn catching_up_counts_as_work_of_the_client_that_asks_for_it() {
    with_shard(|cell| {
        let (key, client) = connect(cell);
        arrived(&client);
        let mut shard = cell.borrow_mut();
        let text = br#"{"type":"unsubscribe_updates","channel":"a"}"#;
        let message = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], &text[..]].concat();
        shard.hub.join(key, Wire::WebSocket { window: Some(12) });
        let channel = ChannelName::new("a").expect("legal");
        let start = shard.shared.broker.promise(&channel, Moment::default());
        for publications in [1, 50] {
            let data = format!("\"{}\"", "x".repeat(20_000));
            for _ in 0..publications {
                shard.shared.broker.append(
                    channel.as_name(),
                    Content::new(data.as_bytes(), None),
                    shard.now(),
                );
            }
            let subscribed = shard.hub.subscribe(key, &channel, Start::After(start), 1, Moment::default());
            assert!(matches!(subscribed, Subscribed::From { recovered: Some(Ok(())), .. }));
            shard.work = 0;
            let taken = shard.receive(key, &mut message.repeat(2));
            assert_eq!(taken / message.len(), if publications == 1 { 2 } else { 1 });
            assert!(shard.get(key).expect("it is open").outbox.is_none());
            assert!(String::from_utf8_lossy(&arrived(&client)).contains("subscription_ended"));
        }
    });
}

#[test]
fn nobody_leaves_a_private_channel() {
    with_shard(|cell| {
        let (key, client) = connect(cell);
        let mut shard = cell.borrow_mut();
        let channel = ChannelName::private("c");
        let _ = shard.hub.subscribe(key, &channel, Start::Newcomer, 1, Moment::default());
        let text = br#"{"type":"unsubscribe_updates","channel":"@c"}"#;
        shard.receive(key, &mut [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], &text[..]].concat());
        assert!(String::from_utf8_lossy(&arrived(&client)).contains("bad_channel"));
        assert_eq!(shard.counters.subscriptions.load(), 1);
    });
}

#[test]
fn however_many_are_too_far_behind_they_are_closed_one_after_the_other() {
    let rule = json!({
        "pattern": "{x}", "subscribe": "open", "publish": "open", "history": 2, "history_bytes": 1000,
        "history_seconds": 60, "mode": "all", "overrun": "close", "compress": true, "sender": false, "replay": "head", "recheck": false,
    });
    // Not enough for them to be closed within each other.
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let all = small.spawn(move || {
        with_settings(&json!({"channels": [rule], "burst_bytes": 1}), |cell| {
            let clients = [(); 250].map(|()| connect(cell));
            let mut shard = cell.borrow_mut();
            let channel = ChannelName::new("a").expect("legal");
            for &(key, _) in &clients {
                assert!(matches!(
                    shard.hub.subscribe(key, &channel, Start::Newcomer, 1, Moment::default()),
                    Subscribed::From { .. }
                ));
            }
            for _ in 0..5 {
                shard.shared.broker.append(channel.as_name(), Content::new(b"1", None), shard.now());
            }
            shard.hub.moved(0);
            flush(&mut shard);
            for (_, client) in &clients {
                assert_eq!(arrived(client)[2..4], 4413_u16.to_be_bytes());
            }
        });
    });
    all.expect("a thread").join().expect("no panic");
}

#[test]
fn a_request_whose_handling_panics_is_answered() {
    with_shard(|cell| {
        let (key, client) = accept(cell);
        let mut shard = cell.borrow_mut();
        shard.panic(key);
        assert!(arrived(&client).starts_with(b"HTTP/1.1 500 "));
        assert!(shard.live(key).is_none());
    });
}

#[test]
fn what_is_held_for_a_message_is_given_back_however_its_connection_ends() {
    with_shard(|cell| {
        let clients = [(); 4].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        // A text of 125 bytes, and 2 of them.
        let begun = *b"\x81\xfd\0\0\0\0ab";
        for &(key, _) in &clients {
            shard.receive(key, &mut begun.clone());
        }
        let each = shard.shared.budget.unfinished.bytes() / clients.len();
        assert!(each > 0);
        finish(&mut shard, clients[0].0, &CloseReason::Broken);
        assert_eq!(shard.shared.budget.unfinished.bytes(), each * 3);
        shard.panic(clients[1].0);
        let reason = CloseReason::Application { code: CloseCode::NORMAL, text: String::new() };
        shard.close(clients[2].0, reason);
        assert_eq!(
            shard.shared.budget.unfinished.bytes(),
            each,
            "a connection that waits for a close frame holds nothing"
        );
        let rest = [&[b'x'; 123][..], b"\x88\x80\0\0\0\0"].concat();
        shard.receive(clients[3].0, &mut rest.clone());
        assert_eq!(shard.shared.budget.unfinished.bytes(), 0);
        assert!(shard.live(clients[3].0).is_none());
    });
}

#[test]
fn an_address_has_its_place_back_however_its_connection_ends() {
    with_settings(&json!({"max_connections_per_address": 1}), |cell| {
        let addresses = Arc::clone(&cell.borrow().shared.addresses);
        let count = || addresses.count(Some("192.0.2.1:5000".parse().expect("an address")));
        let endings: [fn(&mut Connections, ReaderKey); 3] = [
            |shard, key| finish(shard, key, &CloseReason::Broken),
            |shard, key| {
                shard.panic(key);
                finish(shard, key, &CloseReason::Broken);
            },
            |shard, _| {
                shard.sockets.now = shard.now() + TENTH * 20;
                assert!(Latecomers::default().make_room(shard));
            },
        ];
        for end in endings {
            let now = cell.borrow().now();
            let counted = count().expect("the place is free");
            let (key, _client) = accept_at(cell, counted, now);
            assert!(count().is_none());
            end(&mut cell.borrow_mut(), key);
            assert!(count().is_some());
        }
    });
}

const TENTH: Duration = Duration::from_millis(100);

#[test]
fn while_messages_of_a_client_have_to_wait_it_is_shown_that_the_server_is_there() {
    with_application(Nobody { has_room: false }, &json!({}), |cell| {
        let [(quiet, nothing), (key, client)] = [(); 2].map(|()| connect(cell));
        // What their tasks do: they work on one message, and keep another one.
        for key in [quiet, key] {
            cell.borrow_mut().receive(key, &mut message(r#"{"type":"heartbeat","id":1}"#));
            poll_once(cell, key);
        }
        assert_eq!([&nothing, &client].map(|it| acknowledged(&arrived(it))), [1, 1]);
        let mut shard = cell.borrow_mut();
        let (began, shared) = (shard.now(), Arc::clone(&shard.shared));
        let waits = message(r#"{"type":"heartbeat","id":2}"#);
        shard.get(key).expect("it is there").keep(&waits, &shared.budget, began);
        shard.schedule(key);
        let mut shown = Vec::new();
        for quarter in 1..=60 {
            shard.sockets.now = began + Duration::from_millis(250) * quarter;
            look_at_deadlines(&mut shard);
            let heard = arrived(&client);
            shown.extend((acknowledged(&heard) > 0).then_some(quarter));
            assert!(!String::from_utf8_lossy(&heard).contains("\"id\""), "it answers no message");
        }
        assert_eq!(acknowledged(&arrived(&nothing)), 0);
        let gaps: Vec<_> = [0].iter().chain(&shown).zip(&shown).map(|(one, next)| next - one).collect();
        assert!(gaps.len() >= 3 && gaps.iter().all(|gap| (12..=17).contains(gap)), "{shown:?}");
        assert!(shard.live(key).is_some());
    });
}

fn acknowledged(heard: &[u8]) -> usize {
    String::from_utf8_lossy(heard).matches("heartbeat_ack").count()
}
