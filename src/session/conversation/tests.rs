//! A session with a carrier that notes what happens.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::position::Epoch;
use crate::protocol::message::Timestamp;
use crate::rules::{Mode, Overrun};
use crate::session::{MAX_PENDING, REMEMBERED_PUBLISHES};

/// Does what it is told, and notes it.
#[derive(Default)]
struct Notes {
    now: Moment,
    closed: Option<CloseReason>,
    replies: Vec<Value>,
    done: Vec<String>,
    subscriptions: BTreeSet<String>,
    published: u64,
    /// The broker confirms later.
    confirms_later: bool,
}

impl Carrier for Notes {
    fn now(&self) -> Moment {
        self.now
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix_millis(0)
    }

    fn is_live(&self) -> bool {
        self.closed.is_none()
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::new();
        write(&mut text);
        if self.closed.is_none() {
            self.replies.push(serde_json::from_slice(&text).expect("a reply is JSON"));
        }
    }

    fn catch_up(&mut self) {
        self.done.push("catch up".into());
    }

    fn subscribe(&mut self, channel: &ChannelName, from: Option<Position>) -> Subscribed {
        if self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return Subscribed::TooMany { most: MOST_SUBSCRIPTIONS };
        }
        self.subscriptions.insert(channel.to_string());
        self.done.push(format!("subscribe {channel}"));
        let start = Position { epoch: EPOCH, offset: self.published };
        Subscribed::From { position: from.unwrap_or(start), recovered: from.is_some() }
    }

    fn subscribe_private(&mut self, channel: &ChannelName) -> Position {
        self.done.push(format!("subscribe {channel}"));
        Position { epoch: EPOCH, offset: 0 }
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.done.push(format!("unsubscribe {channel}"));
        self.subscriptions.remove(channel)
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        data: &[u8],
        _: Option<&str>,
        number: u64,
    ) -> Option<Result<u64, ErrorCode>> {
        self.done.push(format!("publish {channel} {}", String::from_utf8_lossy(data)));
        if self.confirms_later {
            self.done.push(format!("number {number}"));
            return None;
        }
        self.published += 1;
        Some(Ok(self.published))
    }

    fn ask(&mut self, question: Question) {
        self.done.push(match question {
            Question::Message { message_type, id, .. } => format!("message {message_type} {id:?}"),
            Question::Subscribe { number, channel, .. } => format!("ask {number} subscribe {channel}"),
            Question::Publish { number, channel, .. } => format!("ask {number} publish {channel}"),
        });
    }

    fn close(&mut self, reason: CloseReason) {
        assert_eq!(self.closed, None, "the end comes once");
        self.closed = Some(reason);
    }
}

/// A session that is spoken with.
struct Talk {
    session: Session,
    notes: Notes,
    rules: Rules,
}

impl Talk {
    fn new() -> Self {
        let rule = |pattern: &str, subscribe, publish| Rule {
            pattern: pattern.into(),
            subscribe,
            publish,
            history: 10,
            history_bytes: 1000,
            history_seconds: Duration::from_secs(60),
            mode: Mode::All,
            overrun: Overrun::Gap,
            compress: true,
        };
        let rules = Rules::new(&[
            rule("ask:{x}", Access::Ask, Access::Ask),
            rule("guarded:{x}", Access::Ask, Access::Open),
            rule("closed:{x}", Access::No, Access::No),
            rule("open:{x}", Access::Open, Access::Open),
        ]);
        Self {
            session: Session::default(),
            notes: Notes::default(),
            rules: rules.expect("the rules are legal"),
        }
    }

    fn says(&mut self, message: &Value) {
        self.session.receive(&message.to_string(), &self.rules, &mut self.notes);
    }

    fn subscribes(&mut self, channel: &str) {
        self.says(&json!({"type": "subscribe_updates", "channel": channel}));
    }

    fn unsubscribes(&mut self, channel: &str) {
        self.says(&json!({"type": "unsubscribe_updates", "channel": channel}));
    }

    fn publishes(&mut self, channel: &str, id: impl Into<Value>) {
        self.says(&json!({"type": "publish", "channel": channel, "data": 1, "id": id.into()}));
    }

    fn decides(&mut self, number: u64, decision: Decision) {
        self.session.decide(number, decision, &self.rules, &mut self.notes);
    }

    fn confirms(&mut self, number: u64, outcome: Result<u64, ErrorCode>) {
        self.session.published(number, outcome, &mut self.notes);
    }

    /// What was done since this was last asked.
    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes.done)
    }

    /// What the client was told since this was last asked, with the `id`s.
    fn told(&mut self) -> Vec<String> {
        let short = |reply: &Value| {
            let what = reply.get("code").or_else(|| reply.get("offset")).unwrap_or(&reply["type"]);
            format!("{} {}", what.to_string().trim_matches('"'), reply.get("id").unwrap_or(&Value::Null))
        };
        std::mem::take(&mut self.notes.replies).iter().map(short).collect()
    }
}

fn denied(code: ErrorCode) -> Decision {
    Decision::Deny { code, message: "for a reason".into() }
}

const EPOCH: Epoch = Epoch::new(7);
const MOST_SUBSCRIPTIONS: usize = 3;

#[test]
fn requests_about_a_channel_keep_their_order_and_other_channels_do_not_wait() {
    let mut talk = Talk::new();
    talk.subscribes("ask:a");
    talk.publishes("ask:a", 1);
    talk.unsubscribes("ask:a");
    talk.publishes("open:b", 2);
    assert_eq!(talk.done(), ["ask 1 subscribe ask:a", "catch up", "publish open:b 1"]);
    talk.decides(1, Decision::Allow);
    assert_eq!(talk.done()[..2], ["subscribe ask:a", "ask 3 publish ask:a"]);
    talk.decides(3, Decision::Allow);
    assert_eq!(talk.done(), ["publish ask:a 1", "catch up", "unsubscribe ask:a"]);
    assert_eq!(talk.told(), ["1 2", "1 null", "2 1", "subscription_ended null"]);
}

#[test]
fn a_request_that_is_denied_lets_the_next_go_on() {
    let mut talk = Talk::new();
    talk.subscribes("ask:a");
    talk.subscribes("ask:a");
    talk.decides(1, denied(ErrorCode::Timeout));
    talk.decides(2, Decision::Allow);
    assert_eq!(talk.done(), ["ask 1 subscribe ask:a", "ask 2 subscribe ask:a", "subscribe ask:a"]);
    assert_eq!(talk.told(), ["timeout null", "0 null"]);
}

#[test]
fn questions_are_decided_in_any_order() {
    let mut talk = Talk::new();
    talk.subscribes("ask:a");
    talk.subscribes("ask:b");
    talk.done();
    talk.decides(2, denied(ErrorCode::NotAllowed));
    talk.decides(1, Decision::Allow);
    assert_eq!(talk.done(), ["subscribe ask:a"]);
    assert_eq!(talk.told(), ["not_allowed null", "0 null"]);
}

#[test]
fn what_a_client_publishes_before_it_unsubscribes_still_reaches_it() {
    let mut talk = Talk::new();
    talk.subscribes("guarded:a");
    talk.publishes("guarded:a", 1);
    talk.unsubscribes("guarded:a");
    talk.done();
    talk.decides(1, Decision::Allow);
    let expected = ["subscribe guarded:a", "publish guarded:a 1", "catch up", "unsubscribe guarded:a"];
    assert_eq!(talk.done(), expected);
}

#[test]
fn decisions_that_nobody_waits_for_are_ignored() {
    let mut talk = Talk::new();
    talk.decides(1, Decision::Allow);
    talk.confirms(0, Ok(1));
    talk.subscribes("ask:a");
    talk.done();
    talk.decides(9, Decision::Allow);
    talk.confirms(1, Ok(1));
    assert!(talk.done().is_empty() && talk.told().is_empty());
    for _ in 0..2 {
        talk.decides(1, Decision::Allow);
    }
    assert_eq!(talk.done(), ["subscribe ask:a"]);
    assert_eq!(talk.told(), ["0 null"]);
}

#[test]
fn a_repeated_publish_gets_the_same_answer_and_is_not_published_again() {
    let mut talk = Talk::new();
    for id in [json!(1), json!("1"), json!(1), json!("1")] {
        talk.publishes("open:a", id);
    }
    talk.publishes("open:b", 1);
    assert_eq!(talk.told(), ["1 1", r#"2 "1""#, "1 1", r#"2 "1""#, "3 1"]);
    assert_eq!(talk.done(), ["publish open:a 1", "publish open:a 1", "publish open:b 1"]);
}

#[test]
fn publishes_without_an_id_are_all_published() {
    let mut talk = Talk::new();
    for _ in 0..2 {
        talk.says(&json!({"type": "publish", "channel": "open:a", "data": 1}));
    }
    assert_eq!(talk.told(), ["1 null", "2 null"]);
}

#[test]
fn a_publish_that_is_repeated_while_the_application_decides_is_published_once() {
    let mut talk = Talk::new();
    talk.publishes("ask:a", 1);
    talk.publishes("ask:a", 1);
    talk.decides(1, Decision::Allow);
    assert_eq!(talk.done(), ["ask 1 publish ask:a", "publish ask:a 1"]);
    assert_eq!(talk.told(), ["1 1", "1 1"]);
}

#[test]
fn a_publish_that_is_repeated_before_the_broker_confirms_it_gets_the_same_answer() {
    for (outcome, told) in [
        (Ok(5), "5 1"),
        (Err(ErrorCode::NotPublished), "not_published 1"),
        (Err(ErrorCode::MaybePublished), "maybe_published 1"),
    ] {
        let mut talk = Talk::new();
        talk.notes.confirms_later = true;
        talk.publishes("open:a", 1);
        talk.publishes("open:a", 1);
        assert_eq!(talk.done(), ["publish open:a 1", "number 0"]);
        assert!(talk.told().is_empty());
        talk.confirms(0, outcome);
        assert_eq!(talk.told(), [told, told]);
        talk.publishes("open:a", 1);
        let is_again = outcome.is_err();
        assert_eq!(
            talk.done().len(),
            if is_again { 2 } else { 0 },
            "a publish that failed may be tried again"
        );
        assert_eq!(talk.told().len(), if is_again { 0 } else { 1 });
    }
}

#[test]
fn a_publish_is_forgotten_after_many_others() {
    let mut talk = Talk::new();
    for id in 0..=REMEMBERED_PUBLISHES {
        talk.publishes("open:a", id);
    }
    talk.done();
    talk.publishes("open:a", 1);
    assert!(talk.done().is_empty());
    talk.publishes("open:a", 0);
    assert_eq!(talk.done(), ["publish open:a 1"]);
}

#[test]
fn other_requests_do_not_wait_for_the_broker() {
    let mut talk = Talk::new();
    talk.subscribes("open:a");
    talk.notes.confirms_later = true;
    talk.publishes("open:a", 1);
    talk.unsubscribes("open:a");
    talk.told();
    talk.confirms(0, Ok(8));
    assert_eq!(talk.told(), ["8 1"]);
    talk.confirms(0, Ok(9));
    assert!(talk.told().is_empty());
}

#[test]
fn with_many_open_requests_a_session_wants_to_hear_no_more() {
    let mut talk = Talk::new();
    talk.notes.confirms_later = true;
    for number in 1..MAX_PENDING {
        talk.subscribes(&format!("ask:{number}"));
    }
    assert!(talk.session.listens());
    talk.publishes("open:a", 1);
    assert!(!talk.session.listens());
    talk.confirms(MAX_PENDING as u64, Ok(1));
    assert!(talk.session.listens());
    talk.subscribes("ask:1");
    assert!(!talk.session.listens(), "a request that waits for another one counts");
    talk.decides(1, denied(ErrorCode::NotAllowed));
    assert!(talk.session.listens());
}

#[test]
fn too_many_errors_of_a_client_end_the_conversation_and_nothing_follows() {
    let mut talk = Talk::new();
    let channels: Vec<_> = std::iter::repeat_n("closed:a", 30).chain(["open:a"]).collect();
    talk.says(&json!({"type": "subscribe_updates", "channels": channels}));
    assert_eq!(talk.notes.closed, Some(CloseReason::TooManyErrors));
    assert_eq!(talk.told().len(), 21);
    assert!(talk.done().is_empty());
}

#[test]
fn the_errors_of_the_last_ten_seconds_count() {
    let mut talk = Talk::new();
    talk.notes.now = talk.notes.now + Duration::from_secs(100);
    for _ in 0..5 {
        (0..20).for_each(|_| talk.unsubscribes("open:a"));
        talk.notes.now = talk.notes.now + Duration::from_secs(11);
    }
    assert_eq!(talk.notes.closed, None);
}

#[test]
fn errors_that_are_not_the_clients_fault_do_not_count() {
    let mut talk = Talk::new();
    for number in 1..=30 {
        talk.subscribes("ask:a");
        let code = if number % 2 == 0 { ErrorCode::Internal } else { ErrorCode::Timeout };
        talk.decides(number, denied(code));
    }
    talk.notes.confirms_later = true;
    for _ in 0..30 {
        talk.done();
        talk.publishes("open:a", 1);
        let number = talk.done()[1].trim_start_matches("number ").parse().expect("a number");
        talk.confirms(number, Err(ErrorCode::NotPublished));
    }
    assert_eq!(talk.told().len(), 60);
    assert_eq!(talk.notes.closed, None);
}

#[test]
fn a_client_is_not_blamed_for_subscriptions_that_the_application_makes() {
    let mut talk = Talk::new();
    for number in 0..30 {
        let channel = ChannelName::new(&format!("any:{number}")).expect("legal");
        let from = Position { epoch: EPOCH, offset: 0 };
        talk.session.subscribe_for_application(&channel, from, Id::from_json("5"), &mut talk.notes);
    }
    let told = talk.told();
    assert_eq!(told.iter().filter(|told| *told == "limit_exceeded 5").count(), 30 - MOST_SUBSCRIPTIONS);
    assert_eq!(talk.notes.closed, None);
}

#[test]
fn a_client_may_have_no_more_subscriptions_than_allowed() {
    let mut talk = Talk::new();
    (0..=MOST_SUBSCRIPTIONS).for_each(|number| talk.subscribes(&format!("open:{number}")));
    let error = talk.notes.replies.pop().expect("an error");
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("limit_exceeded"), &json!("at most 3 subscriptions"))
    );
}

#[test]
fn names_that_are_no_channels_of_clients_are_refused_and_long_ones_are_not_repeated() {
    let mut talk = Talk::new();
    let long = "x".repeat(NAME_BYTES + 1);
    for (channel, code) in [
        ("@private", "bad_channel"),
        ("$server", "bad_channel"),
        ("", "bad_channel"),
        ("a\u{0}b", "bad_channel"),
        (&long, "bad_channel"),
        ("strange", "unknown_channel"),
        ("closed:a", "not_allowed"),
    ] {
        talk.subscribes(channel);
        talk.publishes(channel, 1);
        for error in std::mem::take(&mut talk.notes.replies) {
            assert_eq!(error["code"], code, "{channel}");
            assert_eq!(error.get("channel").is_some(), channel != long, "{channel}");
        }
    }
    assert!(talk.done().is_empty());
}

#[test]
fn a_position_of_another_kind_of_log_is_as_good_as_none() {
    let mut talk = Talk::new();
    for epoch in [EPOCH.to_string(), "elsewhere".into()] {
        let channel = format!("open:{epoch}");
        talk.says(&json!({"type": "subscribe_updates", "channel": channel, "epoch": epoch, "offset": 4}));
    }
    let recovered: Vec<_> =
        talk.notes.replies.iter().map(|reply| (&reply["recovered"], &reply["offset"])).collect();
    assert_eq!(recovered, [(&json!(true), &json!(4)), (&json!(false), &json!(0))]);
}

#[test]
fn the_application_ends_a_subscription_after_what_was_published() {
    let mut talk = Talk::new();
    talk.subscribes("open:a");
    talk.done();
    for _ in 0..2 {
        talk.session.unsubscribe_for_application("open:a", "moved", &mut talk.notes);
    }
    assert_eq!(talk.done(), ["catch up", "unsubscribe open:a", "catch up", "unsubscribe open:a"]);
    assert_eq!(talk.told(), ["0 null", "subscription_ended null"]);
}

#[test]
fn a_private_channel_is_read_from_its_beginning() {
    let mut talk = Talk::new();
    talk.session.open_private(&ChannelName::private("c"), &mut talk.notes);
    assert_eq!(talk.done(), ["subscribe @c"]);
    assert_eq!(talk.notes.replies[0]["recovered"], false);
    assert_eq!(talk.told(), ["0 null"]);
}

#[test]
fn messages_of_other_types_are_the_applications() {
    let mut talk = Talk::new();
    talk.says(&json!({"type": "chat", "id": "x"}));
    talk.says(&json!({"type": "heartbeat", "id": 3}));
    talk.session.receive("[]", &talk.rules, &mut talk.notes);
    assert_eq!(talk.done(), [r#"message chat Some("\"x\"")"#]);
    assert_eq!(talk.told(), ["heartbeat_ack 3", "bad_message null"]);
}

#[test]
fn a_greeting_names_the_session_and_its_times() {
    let mut talk = Talk::new();
    let (heartbeat, tick) = (Duration::from_millis(24_100), Duration::from_millis(16));
    talk.session.greet(&Greeting { client_id: "c7", heartbeat, tick }, &mut talk.notes);
    let expected = json!({
        "type": "connection_established", "clientId": "c7", "heartbeat": 25, "tick": 16,
        "reconnectWindow": RECONNECT_WINDOW, "timestamp": "1970-01-01T00:00:00.000Z",
    });
    assert_eq!(talk.notes.replies, [expected]);
}
