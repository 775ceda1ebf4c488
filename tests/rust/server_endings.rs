//! How connections end, on sockets: bugs on a shard's thread included. The inbox of a test plays the bug: it panics at an
//! event that the shard tells it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use umbel::close::CloseCode;
use umbel::session::{Answer, Question};
use umbel::transport::commands::ClientCommand;
use umbel::transport::events::Event;

use crate::server_running::{PATIENCE, Running};

#[test]
fn a_panic_at_a_message_ends_its_connection_alone() {
    let running =
        Running::start(|event| matches!(event, Event::Question { question: Question::Message { .. }, .. }));
    let mut other = running.subscribe("open:a");
    for round in 1..=3 {
        let mut broken = running.subscribe("open:a");
        broken.say(&json!({"type": "anything"}));
        assert_eq!(broken.closed(), (1011, Vec::new()));
        assert_eq!(running.panics(), round);
        other.assert_heard();
        running.publish("open:a", "1");
        assert_eq!(other.hear("batched_updates")["count"], 1);
    }
}

#[test]
fn a_panic_at_a_letter_ends_its_connection_and_the_letters_behind_it_are_opened() {
    let running = Running::start(|event| matches!(event, Event::Closed { code: 4999, .. }));
    let (other_id, mut other) = running.connect();
    let mut reader = running.subscribe("open:a");
    for round in 1..=3 {
        let (id, mut broken) = running.connect();
        assert!(
            running
                .server
                .tell(id, ClientCommand::Close(CloseCode::new(4999).expect("legal"), String::new()))
        );
        let answer = Answer::Result { message_type: "reply".into(), data: Bytes::from_static(b"1") };
        running.server.tell(other_id, ClientCommand::Answer(answer, None));
        running.publish("open:a", "1");
        broken.closed();
        other.hear("reply_result");
        assert_eq!(reader.hear("batched_updates")["count"], 1);
        assert_eq!(running.panics(), round);
        other.assert_heard();
    }
    running.server.stop(PATIENCE);
    assert!(running.server.join(PATIENCE), "the stop is a letter, too");
}

#[test]
fn a_server_that_panics_at_every_close_still_stops() {
    let running = Running::start(|event| matches!(event, Event::Closed { .. }));
    let clients: Vec<_> = (0..5).map(|_| running.connect()).collect();
    running.server.stop(Duration::from_secs(1));
    assert!(running.server.join(PATIENCE));
    assert_eq!(running.panics(), clients.len() as u64);
}

#[test]
fn nothing_follows_a_close_frame_and_no_event_follows_closed() {
    let running = Running::start(|_| false);
    let (id, mut client) = running.connect();
    // More nonsense than is tolerated, then what the application would be asked, and would answer.
    (0..25).for_each(|_| client.say(&json!([])));
    let channels: Vec<_> =
        (0..25).flat_map(|number| [format!("ask:{number}"), format!("open:{number}")]).collect();
    client.say(&json!({"type": "subscribe_updates", "channels": channels}));
    client.say(&json!({"type": "anything"}));
    assert_eq!(client.closed(), (1008, Vec::new()));
    drop(client);
    running.server.stop(PATIENCE);
    assert!(running.server.join(PATIENCE));
    let of_client = |event: &Event| match *event {
        Event::Closed { client, .. } | Event::Question { client, .. } => client == id,
        _ => false,
    };
    let events: Vec<_> = running.events.try_iter().filter(of_client).collect();
    assert!(matches!(events[..], [Event::Closed { code: 1008, .. }]), "{events:?}");
}

#[test]
fn who_is_closed_is_told_why_even_when_the_log_has_moved_past_it() {
    let running = Running::start(|_| false);
    let (id, mut client) = running.connect();
    client.say(&json!({"type": "subscribe_updates", "channel": "short:a"}));
    client.hear("subscription_established");
    running.publish("short:a", "1");
    client.hear("batched_updates");
    for number in 2..=9 {
        running.publish("short:a", &number.to_string());
    }
    running.server.tell(id, ClientCommand::Close(CloseCode::new(4500).expect("legal"), "as asked".into()));
    assert_eq!(client.closed(), (4500, Vec::new()));
}

#[test]
fn a_stop_in_the_middle_of_a_tick_delivers_what_was_published_before() {
    let running = Running::start(|_| false);
    let mut client = running.subscribe("open:a");
    client.say(&json!({"type": "subscribe_updates", "channel": "open:b"}));
    client.hear("subscription_established");
    running.publish("open:a", "1");
    client.hear("batched_updates");
    for channel in ["open:a", "open:b"] {
        running.publish(channel, "2");
    }
    running.server.stop(PATIENCE);
    assert_eq!(client.hear("batched_updates")["count"], 2);
    assert_eq!(client.closed(), (1012, Vec::new()));
    drop(client);
    assert!(running.server.join(PATIENCE));
}
