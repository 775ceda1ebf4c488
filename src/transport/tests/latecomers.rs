use std::time::Duration;

use serde_json::json;

use super::{accept_at, arrived, connect, with_settings, with_shard};
use crate::transport::addresses::Counted;
use crate::transport::latecomers::Latecomers;

#[test]
fn the_client_that_is_longest_without_a_request_makes_room_and_one_that_has_sent_it_stays() {
    with_settings(&json!({"authenticate": true}), |cell| {
        let (asked, asking) = connect(cell);
        assert!(arrived(&asking).is_empty());
        let began = cell.borrow().now();
        let silent = [3, 1, 2].map(|tenths| accept_at(cell, Counted::default(), began + TENTH * tenths).1);
        let mut shard = cell.borrow_mut();
        let mut latecomers = Latecomers::default();
        shard.sockets.now = began + TENTH * 10;
        assert!(!latecomers.make_room(&mut shard), "nobody is late");
        let late = began + TENTH * 20;
        for index in [1, 2, 0] {
            shard.sockets.now = late;
            assert!(latecomers.make_room(&mut shard));
            let heard = silent.each_ref().map(|client| !arrived(client).is_empty());
            assert_eq!(heard, [0, 1, 2].map(|other| other == index));
        }
        shard.sockets.now = late + TENTH * 10;
        assert!(!latecomers.make_room(&mut shard));
        assert!(shard.live(asked).is_some());
        assert!(arrived(&asking).is_empty());
    });
}

#[test]
fn connections_are_looked_at_four_times_a_second_at_most() {
    with_shard(|cell| {
        let began = cell.borrow().now();
        let mut latecomers = Latecomers::default();
        let mut make_room = |tenths| {
            let mut shard = cell.borrow_mut();
            shard.sockets.now = began + TENTH * tenths;
            latecomers.make_room(&mut shard)
        };
        assert!(!make_room(20), "nobody is there");
        let (_, client) = accept_at(cell, Counted::default(), began);
        assert!(!make_room(22));
        assert!(make_room(23));
        assert!(arrived(&client).starts_with(b"HTTP/1.1 503 "));
    });
}

const TENTH: Duration = Duration::from_millis(100);
