use super::{REQUEST, accept, arrived, connect, message, with_shard};
use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::session::Carrier as _;
use crate::transport::connections::Connections;
use crate::transport::peer::Peer;

/// A text frame of the server.
fn reply(text: &str) -> Vec<u8> {
    [&[0x81, text.len() as u8], text.as_bytes()].concat()
}

fn say(peer: &mut Peer<'_>, text: &str) {
    peer.reply(|out| out.extend_from_slice(text.as_bytes()));
}

/// Something happens to a connection.
fn touch(shard: &mut Connections, key: ReaderKey) {
    Peer::act(shard, key, |_| {}).expect("no panic");
}

#[test]
fn replies_of_a_client_whose_handling_panics_reach_nobody() {
    with_shard(|cell| {
        let [(key, client), (other_key, other)] = [(); 2].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        let done = Peer::act(&mut shard, key, |peer| {
            say(peer, "half");
            panic!("the bug of this test");
        });
        assert_eq!(done, None::<()>);
        touch(&mut shard, other_key);
        assert_eq!(arrived(&other), b"");
        let heard = arrived(&client);
        assert_eq!((heard[0], &heard[2..4]), (0x88, &1011_u16.to_be_bytes()[..]), "a close frame alone");
    });
}

#[test]
fn replies_after_the_last_word_reach_nobody() {
    with_shard(|cell| {
        let [(key, client), (other_key, other)] = [(); 2].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        Peer::act(&mut shard, key, |peer| {
            say(peer, "before");
            peer.close(CloseReason::TooManyErrors);
            say(peer, "after");
            peer.close(CloseReason::TooManyErrors);
        });
        touch(&mut shard, other_key);
        assert_eq!(arrived(&other), b"");
        let heard = arrived(&client);
        let close = heard.strip_prefix(&*reply("before")).expect("the reply comes first");
        assert_eq!((close[0], usize::from(close[1])), (0x88, close.len() - 2));
    });
}

#[test]
fn replies_to_a_client_that_is_gone_do_not_reach_its_successor() {
    with_shard(|cell| {
        let (key, _client) = connect(cell);
        Peer::act(&mut cell.borrow_mut(), key, |peer| {
            say(peer, "to one that is gone");
            peer.finish(&CloseReason::Broken);
        });
        let (successor, client) = accept(cell);
        assert_eq!(successor, key, "the slot is used again");
        cell.borrow_mut().receive(successor, &mut REQUEST.to_vec());
        assert!(arrived(&client).starts_with(b"HTTP/1.1 101 "));
        touch(&mut cell.borrow_mut(), successor);
        assert_eq!(arrived(&client), b"");
    });
}

#[test]
fn each_client_gets_its_own_replies_when_one_is_acted_for_within_the_other() {
    with_shard(|cell| {
        let [(key, client), (other_key, other)] = [(); 2].map(|()| connect(cell));
        Peer::act(&mut cell.borrow_mut(), key, |peer| {
            say(peer, "first");
            Peer::act(peer.connections, other_key, |other| say(other, "of the other"));
            say(peer, "second");
        });
        assert_eq!(arrived(&client), [reply("first"), reply("second")].concat());
        assert_eq!(arrived(&other), reply("of the other"));
    });
}

#[test]
fn a_shard_does_not_keep_the_memory_that_one_long_message_needed() {
    with_shard(|cell| {
        let (key, _client) = connect(cell);
        let mut shard = cell.borrow_mut();
        let kept = |shard: &Connections| shard.buffers.replies.capacity() + shard.buffers.text.capacity();
        Peer::act(&mut shard, key, |peer| say(peer, "short")).expect("no panic");
        assert!((1..1024).contains(&kept(&shard)), "what is short is kept");
        Peer::act(&mut shard, key, |peer| say(peer, &"long".repeat(1 << 20))).expect("no panic");
        assert!(kept(&shard) <= 2 << 20);
    });
}

#[test]
fn each_client_gets_its_own_replies_when_their_reads_alternate() {
    with_shard(|cell| {
        let clients = [(); 2].map(|()| connect(cell));
        let mut shard = cell.borrow_mut();
        // Reads end within frames, so that each goes on where the other one was worked on.
        let texts =
            [7, 8].map(|number| message(&format!(r#"{{"type":"heartbeat","id":{number}}}"#)).repeat(20));
        for (one, other) in texts[0].chunks(11).zip(texts[1].chunks(11)) {
            shard.receive(clients[0].0, &mut one.to_vec());
            shard.receive(clients[1].0, &mut other.to_vec());
        }
        for ((_, client), id) in clients.iter().zip([7, 8]) {
            let heard = String::from_utf8_lossy(&arrived(client)).into_owned();
            assert_eq!(heard.matches("heartbeat_ack").count(), 20);
            assert_eq!(heard.matches(&format!("\"id\":{id}")).count(), 20);
        }
    });
}
