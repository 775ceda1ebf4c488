use std::time::Duration;

use super::{accept, arrived, connect, with_shard};
use crate::transport::drain::Drain;
use crate::transport::peer::Peer;

/// A close frame of the server: 1012.
fn is_closed(heard: &[u8]) -> bool {
    heard.first() == Some(&0x88) && heard[2..4] == 1012_u16.to_be_bytes()
}

#[test]
fn everyone_is_told_at_once_and_closed_little_by_little_in_the_first_half_of_the_time() {
    with_shard(|cell| {
        let clients = [(); 10].map(|()| connect(cell));
        let (_, without_request) = accept(cell);
        let mut shard = cell.borrow_mut();
        let began = shard.now();
        let mut drain = Drain::begin(&mut shard, Duration::from_millis(440));
        for (_, client) in &clients {
            assert!(
                String::from_utf8_lossy(&arrived(client)).contains(r#""type":"reconnect","within":1000"#)
            );
        }
        assert_eq!(shard.keys().len(), 10, "a connection without a request is dropped");
        drop(without_request);
        let mut closed = Vec::new();
        for step in 0..30 {
            shard.sockets.now = began + Duration::from_millis(10) * step;
            assert!(!drain.advance(&mut shard));
            closed.push(clients.iter().filter(|(_, client)| is_closed(&arrived(client))).count());
        }
        // One in each second step of ten milliseconds.
        assert_eq!(closed.iter().take(20).step_by(2).sum::<usize>(), 10, "{closed:?}");
        assert_eq!(closed.iter().sum::<usize>(), 10, "{closed:?}");
    });
}

#[test]
fn a_client_that_does_not_read_has_the_rest_of_the_time_and_is_dropped_then() {
    with_shard(|cell| {
        let (key, client) = connect(cell);
        let mut shard = cell.borrow_mut();
        Peer::act(&mut shard, key, |peer| peer.send(&[0; 1 << 20]));
        let began = shard.now();
        let mut drain = Drain::begin(&mut shard, Duration::from_secs(1));
        for tenth in 0..10 {
            shard.sockets.now = began + Duration::from_millis(100) * tenth;
            assert!(!drain.advance(&mut shard));
            assert!(shard.is_live(key));
        }
        shard.sockets.now = began + Duration::from_secs(1);
        assert!(drain.due() <= shard.now());
        assert!(drain.advance(&mut shard));
        assert!(shard.is_empty());
        drop(client);
    });
}

#[test]
fn a_second_request_to_stop_closes_all_that_are_left() {
    with_shard(|cell| {
        let clients = [(); 10].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        let now = shard.now();
        let mut drain = Drain::begin(&mut shard, Duration::from_secs(60));
        clients.iter().for_each(|(_, client)| drop(arrived(client)));
        drain.hasten(now, Duration::from_secs(90));
        drain.advance(&mut shard);
        assert!(clients.iter().all(|(_, client)| is_closed(&arrived(client))));
        shard.sockets.now = now + Duration::from_secs(60);
        assert!(drain.advance(&mut shard), "it does not take longer than was said first");
    });
}

#[test]
fn a_drain_without_connections_ends_at_once() {
    with_shard(|cell| {
        let mut shard = cell.borrow_mut();
        assert!(Drain::begin(&mut shard, Duration::from_secs(60)).advance(&mut shard));
    });
}
