//! A session with a carrier that notes what happens.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::carrier::FoundEntry;
use super::*;
use crate::position::{Epoch, Position, Start, Subscribed, Unrecovered};
use crate::protocol::message::{PresenceChange, Timestamp};
use crate::publication::Content;
use crate::rules::Access;
use crate::rules::{Mode, Overrun, Presence, Replay, Rule};
use crate::session::{
    ANSWER_BYTES, Answer, MAX_PENDING, Newcomer, REMEMBERED_IDS, Terms, UNANSWERED, Unpublished, Unseen,
};

/// Does what it is told, and notes it.
#[derive(Default)]
pub(in crate::session) struct Notes {
    pub now: Moment,
    pub closed: Option<CloseReason>,
    pub replies: Vec<Value>,
    pub done: Vec<String>,
    pub subscriptions: BTreeSet<String>,
    /// By channel, who the client is there.
    pub members: BTreeMap<String, String>,
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

    fn subscribe(&mut self, channel: &ChannelName, start: Start) -> Subscribed {
        let position = Position { epoch: EPOCH, offset: self.published };
        if self.subscriptions.contains(channel.as_str()) {
            self.done.push(format!("keep {channel}"));
            return Subscribed::Existing { position, top: self.published, is_state: false };
        }
        if self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return Subscribed::TooMany { most: MOST_SUBSCRIPTIONS };
        }
        self.subscriptions.insert(channel.to_string());
        self.done.push(format!("subscribe {channel}"));
        self.begun(start)
    }

    fn restart(&mut self, channel: &str, start: Start) -> Option<Subscribed> {
        self.subscriptions.contains(channel).then(|| {
            self.done.push(format!("restart {channel}"));
            self.begun(start)
        })
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.done.push(format!("unsubscribe {channel}"));
        self.members.remove(channel);
        self.subscriptions.remove(channel)
    }

    fn reads(&self, channel: &str) -> bool {
        self.subscriptions.contains(channel)
    }

    fn join(&mut self, channel: &ChannelName, subject: &str) {
        self.members.insert(channel.to_string(), subject.into());
    }

    fn left(&mut self, channel: &str) {
        self.members.remove(channel);
    }

    fn present(&mut self, channel: &ChannelName, change: &PresenceChange) -> Result<(), Unseen> {
        self.done.push(format!("present {channel} {:?}", change.typing));
        match channel.as_str() {
            "hall:hidden" => Err(Unseen::Hidden),
            name if !self.members.contains_key(name) => Err(Unseen::NotSubscribed),
            _ => Ok(()),
        }
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        content: Content<'_>,
        number: u64,
    ) -> Option<Result<Position, Unpublished>> {
        let sender = content.sender.map_or(String::new(), |sender| format!(" {sender}"));
        self.done.push(format!("publish {channel} {}{sender}", String::from_utf8_lossy(content.data)));
        if self.confirms_later {
            self.done.push(format!("number {number}"));
            return None;
        }
        self.published += 1;
        Some(Ok(Position { epoch: EPOCH, offset: self.published }))
    }

    fn entry(&mut self, _: &ChannelName, _: &str, _: Option<Position>) -> FoundEntry {
        FoundEntry { epoch: Some(EPOCH), ..FoundEntry::default() }
    }

    fn ask(&mut self, question: Question) {
        self.done.push(match question {
            Question::Message { message_type, id, .. } => format!("message {message_type} {id:?}"),
            Question::Subscribe { number, channel, .. } => format!("ask {number} subscribe {channel}"),
            Question::Publish { number, channel, .. } => format!("ask {number} publish {channel}"),
            Question::Presence { .. } => unreachable!("the transport asks that"),
            Question::Resolve(it) => format!("ask {} resolve {}", it.number, it.channel),
        });
    }

    fn close(&mut self, reason: CloseReason) {
        assert_eq!(self.closed, None, "the end comes once");
        self.closed = Some(reason);
    }
}

impl Notes {
    /// In a log that has its publications from the third one on.
    fn begun(&self, start: Start) -> Subscribed {
        let (offset, recovered) = match start {
            Start::Newcomer => (self.published, None),
            Start::Foreign => (self.published, Some(Err(Unrecovered::Epoch))),
            Start::Unknown => (self.published, Some(Err(Unrecovered::Unknown))),
            Start::After(Position { offset: ..2, .. }) => (2, Some(Err(Unrecovered::Trimmed))),
            Start::After(position) => (position.offset, Some(Ok(()))),
            Start::Promised(position) => (position.offset, None),
        };
        Subscribed::From {
            position: Position { epoch: EPOCH, offset },
            top: self.published,
            recovered,
            is_state: false,
        }
    }
}

pub(in crate::session) fn newcomer(subject: &str) -> Newcomer<'static> {
    let identity = Box::leak(Box::new(Arc::new(Identity::of_application(subject, None, None))));
    Newcomer { client_id: "c7", identity, address: "192.0.2.1" }
}

/// A session that is spoken with.
pub(in crate::session) struct Talk {
    pub session: Session,
    pub notes: Notes,
    pub rules: Rules,
}

impl Talk {
    pub fn new() -> Self {
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
            sender: false,
            replay: Replay::Head,
            recheck: false,
            claims: false,
            versions: false,
            resolves: false,
            max_keys: 100,
            state_bytes: 1 << 20,
            presence: Presence::No,
            presence_asks: false,
            presence_told: false,
        };
        let rules = Rules::new(&[
            rule("ask:{x}", Access::Ask, Access::Ask),
            rule("guarded:{x}", Access::Ask, Access::Open),
            rule("closed:{x}", Access::No, Access::No),
            rule("open:{x}", Access::Open, Access::Open),
            Rule { recheck: true, ..rule("again:{x}", Access::Ask, Access::Open) },
            rule("run:{x}", Access::Ask, Access::No),
            Rule { presence: Presence::List, recheck: true, ..rule("hall:{x}", Access::Ask, Access::No) },
            Rule { presence: Presence::List, ..rule("yard:{x}", Access::Open, Access::No) },
        ]);
        Self {
            session: Session::default(),
            notes: Notes::default(),
            rules: rules.expect("the rules are legal"),
        }
    }

    fn is_greeted(&mut self, under_way: usize) {
        self.is_greeted_as(None, under_way);
    }

    /// With a subject, updates tell it.
    fn is_greeted_as(&mut self, subject: Option<&str>, under_way: usize) {
        let [session_ttl, reconnect_window, heartbeat, tick] = [Duration::ZERO; 4];
        let tell_senders = subject.is_some();
        let terms = Terms { session_ttl, tell_senders, reconnect_window, heartbeat, tick, under_way };
        let subject = subject.unwrap_or_default();
        self.session.greet(&newcomer(subject), None, &terms, &self.rules, &mut self.notes);
    }

    pub fn says(&mut self, message: &Value) {
        self.session.receive(&message.to_string(), &self.rules, &mut self.notes);
    }

    fn listens(&self) -> bool {
        self.session.listens(self.notes.now)
    }

    pub fn subscribes(&mut self, channel: &str) {
        self.says(&json!({"type": "subscribe_updates", "channel": channel}));
    }

    pub fn unsubscribes(&mut self, channel: &str) {
        self.says(&json!({"type": "unsubscribe_updates", "channel": channel}));
    }

    pub fn publishes(&mut self, channel: &str, id: impl Into<Value>) {
        self.says(&json!({"type": "publish", "channel": channel, "data": 1, "id": id.into()}));
    }

    pub fn decides(&mut self, number: u64, decision: Decision) {
        self.session.decide(number, decision, &self.rules, &mut self.notes);
    }

    fn confirms(&mut self, number: u64, outcome: Result<u64, ErrorCode>) {
        let outcome = outcome.map(|offset| Position { epoch: EPOCH, offset });
        self.session.published(number, outcome.map_err(Into::into), &mut self.notes);
    }

    /// What was done since this was last asked.
    pub fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes.done)
    }

    /// What the client was told since this was last asked, with the `id`s.
    pub fn told(&mut self) -> Vec<String> {
        let short = |reply: &Value| {
            let what = reply.get("code").or_else(|| reply.get("offset")).unwrap_or(&reply["type"]);
            format!("{} {}", what.to_string().trim_matches('"'), reply.get("id").unwrap_or(&Value::Null))
        };
        std::mem::take(&mut self.notes.replies).iter().map(short).collect()
    }
}

pub(in crate::session) fn denied(code: ErrorCode) -> Decision {
    Decision::Deny { code, message: "for a reason".into() }
}

pub(in crate::session) const EPOCH: Epoch = Epoch::new(7);
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
    assert_eq!(talk.told(), ["1 1", r#"2 "1""#, "1 1", r#"2 "1""#, "id_reused 1"]);
    assert_eq!(talk.done(), ["publish open:a 1", "publish open:a 1"]);
}

#[test]
fn errors_are_answers_and_count_once() {
    let mut talk = Talk::new();
    for _ in 0..30 {
        for (id, channel) in ["@private", "strange", "closed:a"].iter().enumerate() {
            talk.publishes(channel, id);
        }
    }
    assert_eq!(talk.told()[87..], ["bad_channel 0", "unknown_channel 1", "not_allowed 2"]);
    talk.publishes("ask:a", 3);
    talk.decides(1, Decision::Reject { code: "conflict".into(), message: "no".into(), details: None });
    talk.publishes("ask:a", 3);
    assert_eq!(talk.told(), ["conflict 3", "conflict 3"]);
    assert!(talk.listens() && talk.done() == ["ask 1 publish ask:a"]);
}

#[test]
fn an_id_that_is_used_for_something_else_is_the_clients_fault() {
    let mut talk = Talk::new();
    for number in 0..30 {
        talk.says(&json!({"type": "publish", "channel": "open:a", "data": number, "id": 1}));
    }
    assert_eq!(talk.done(), ["publish open:a 0"]);
    assert_eq!(talk.told()[1..], vec!["id_reused 1"; 29]);
    assert!(!talk.listens() && talk.notes.closed.is_none());
}

#[test]
fn messages_of_the_application_are_asked_once_and_answered_once() {
    let mut talk = Talk::new();
    let result = |number: u32| {
        let data = number.to_string().into_bytes().into();
        Answer::Result { message_type: "chat".into(), data }
    };
    let said = json!({"type": "chat", "id": "x"});
    (0..2).for_each(|_| talk.says(&said));
    assert_eq!(talk.done(), [r#"message chat Some("\"x\"")"#]);
    assert!(talk.told().is_empty(), "its answer is to come");
    for number in 0..2 {
        talk.session.answer(&result(number), Id::from_json("\"x\""), &mut talk.notes);
    }
    talk.says(&said);
    assert!(talk.done().is_empty());
    let answers = std::mem::take(&mut talk.notes.replies);
    assert_eq!(answers.iter().map(|answer| &answer["data"]).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(answers[0], answers[1]);
    talk.session.answer(&result(2), None, &mut talk.notes);
    assert_eq!(talk.told(), ["chat_result null"], "without an id nothing is remembered");
}

#[test]
fn what_the_application_can_not_read_may_be_said_better_with_the_same_id() {
    let mut talk = Talk::new();
    let error =
        Answer::Error { code: "bad_message".into(), message: String::new(), details: None, is_fault: false };
    for data in [1, 2] {
        talk.says(&json!({"type": "chat", "id": 1, "data": data}));
        talk.session.answer(&error, Id::from_json("1"), &mut talk.notes);
    }
    assert_eq!(talk.done().len(), 2);
    assert_eq!(talk.told(), ["bad_message 1", "bad_message 1"]);
}

#[test]
fn an_answer_that_was_forgotten_is_lost_and_the_request_is_not_done_again() {
    let mut talk = Talk::new();
    let data = format!("{:?}", "x".repeat(ANSWER_BYTES)).into_bytes().into();
    let long = Answer::Result { message_type: "chat".into(), data };
    for _ in 0..2 {
        talk.says(&json!({"type": "chat", "id": 1}));
        talk.session.answer(&long, Id::from_json("1"), &mut talk.notes);
    }
    (2..4).for_each(|id| talk.publishes("open:a", id));
    assert!(talk.session.kept_bytes().1 > 0);
    talk.session.forget_answers();
    assert_eq!(talk.session.kept_bytes().1, 0);
    talk.publishes("open:a", 2);
    assert_eq!(talk.done().len(), 3);
    let told = talk.told();
    assert_eq!(told[1..], ["answer_lost 1", "1 2", "2 3", "answer_lost 2"]);
    assert!(talk.listens(), "that is nobody's fault");
}

#[test]
fn a_repeated_request_that_began_a_run_leads_to_its_channel_and_begins_no_other() {
    // The log still has what comes after the second publication, and not what comes after the first.
    for (offset, done, told) in [
        (2, vec!["subscribe run:a"], "2 1"),
        (1, vec!["subscribe run:a", "unsubscribe run:a"], "answer_lost 1"),
    ] {
        let mut talk = Talk::new();
        let channel = ChannelName::new("run:a").expect("legal");
        let start = Position { epoch: EPOCH, offset };
        let said = json!({"type": "ai_chat_request", "id": 1});
        talk.says(&said);
        assert!(talk.session.subscribe_for_application(
            &channel,
            start,
            Id::from_json("1"),
            &talk.rules,
            &mut talk.notes
        ));
        talk.says(&said);
        assert_eq!(talk.done()[2..], ["keep run:a"]);
        assert_eq!(talk.notes.replies[1]["existing"], true);
        talk.unsubscribes("run:a");
        talk.done();
        talk.told();
        talk.says(&said);
        assert!(talk.notes.replies[0].get("recovered").is_none(), "it asked for no position");
        assert_eq!(
            (talk.done(), talk.told()),
            (done.into_iter().map(str::to_owned).collect(), vec![told.to_owned()])
        );
    }
}

#[test]
fn a_run_that_could_not_begin_is_answered_with_its_error() {
    let mut talk = Talk::new();
    (0..MOST_SUBSCRIPTIONS).for_each(|number| talk.subscribes(&format!("open:{number}")));
    let channel = ChannelName::new("run:a").expect("legal");
    let (start, said) = (Position { epoch: EPOCH, offset: 0 }, json!({"type": "ai_chat_request", "id": 1}));
    talk.says(&said);
    assert!(!talk.session.subscribe_for_application(
        &channel,
        start,
        Id::from_json("1"),
        &talk.rules,
        &mut talk.notes
    ));
    talk.told();
    talk.unsubscribes("open:0");
    talk.says(&said);
    assert_eq!(talk.told(), ["subscription_ended null", "limit_exceeded 1"]);
}

#[test]
fn requests_that_may_be_repeated_are_not_remembered() {
    let mut talk = Talk::new();
    for _ in 0..2 {
        talk.says(&json!({"type": "subscribe_updates", "channel": "open:a", "id": 1}));
        talk.says(&json!({"type": "unsubscribe_updates", "channel": "open:a", "id": 1}));
        talk.says(&json!({"type": "heartbeat", "id": 1}));
    }
    talk.publishes("ask:a", 1);
    talk.says(&json!({"type": "unsubscribe_updates", "channel": "open:a", "id": 1}));
    talk.decides(1, Decision::Allow);
    let told = talk.told();
    assert_eq!(told.len(), 8);
    assert_eq!(told[6..], ["not_subscribed 1", "1 1"], "another answer with its id is not the answer");
    talk.publishes("ask:a", 1);
    assert_eq!(talk.told(), ["1 1"]);
}

#[test]
fn with_many_unanswered_requests_a_session_wants_to_hear_no_more() {
    for (under_way, most) in [(0, UNANSWERED), (32, UNANSWERED), (200, 200), (100_000, REMEMBERED_IDS)] {
        let mut talk = Talk::new();
        talk.is_greeted(under_way);
        assert_eq!(talk.notes.replies.pop().expect("the greeting")["maxUnanswered"], most);
        for number in 0..most {
            assert!(talk.listens());
            talk.says(&json!({"type": "chat", "id": number}));
        }
        assert!(!talk.listens());
        let error =
            Answer::Error { code: "timeout".into(), message: String::new(), details: None, is_fault: false };
        talk.session.answer(&error, Id::from_json("7"), &mut talk.notes);
        assert!(talk.listens());
    }
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
fn a_publish_that_is_repeated_while_the_application_decides_is_published_and_answered_once() {
    let mut talk = Talk::new();
    talk.subscribes("ask:a");
    (0..2).for_each(|_| talk.publishes("ask:a", 1));
    talk.decides(1, Decision::Allow);
    (0..2).for_each(|_| talk.publishes("ask:a", 1));
    talk.told();
    talk.decides(2, Decision::Allow);
    assert_eq!(talk.told(), ["1 1"]);
    assert_eq!(talk.done()[2..], ["ask 2 publish ask:a", "publish ask:a 1"]);
}

#[test]
fn a_publish_that_is_repeated_before_the_broker_confirms_it_is_answered_once_and_then_the_same() {
    for (outcome, told) in [
        (Ok(5), "5 1"),
        (Err(ErrorCode::NotPublished), "not_published 1"),
        (Err(ErrorCode::MaybePublished), "maybe_published 1"),
    ] {
        let mut talk = Talk::new();
        talk.notes.confirms_later = true;
        (0..2).for_each(|_| talk.publishes("open:a", 1));
        assert_eq!(talk.done(), ["publish open:a 1", "number 1"]);
        talk.confirms(1, outcome);
        talk.publishes("open:a", 1);
        assert_eq!(talk.told(), [told, told]);
        assert!(talk.done().is_empty());
    }
}

#[test]
fn other_requests_do_not_wait_for_the_broker() {
    let mut talk = Talk::new();
    talk.subscribes("open:a");
    talk.notes.confirms_later = true;
    talk.publishes("open:a", 1);
    talk.unsubscribes("open:a");
    talk.told();
    talk.confirms(1, Ok(8));
    assert_eq!(talk.told(), ["8 1"]);
    talk.confirms(1, Ok(9));
    assert!(talk.told().is_empty());
}

#[test]
fn with_many_open_requests_a_session_wants_to_hear_no_more() {
    let mut talk = Talk::new();
    talk.notes.confirms_later = true;
    for number in 1..MAX_PENDING {
        talk.subscribes(&format!("ask:{number}"));
    }
    assert!(talk.listens());
    talk.publishes("open:a", 1);
    assert!(!talk.listens());
    talk.confirms(MAX_PENDING as u64, Ok(1));
    assert!(talk.listens());
    talk.subscribes("ask:1");
    assert!(!talk.listens(), "a request that waits for another one counts");
    talk.decides(1, denied(ErrorCode::NotAllowed));
    assert!(talk.listens());
}

#[test]
fn one_message_is_one_error_and_the_rest_of_it_is_done() {
    let mut talk = Talk::new();
    let channels: Vec<_> = std::iter::repeat_n("closed:a", 30).chain(["open:a"]).collect();
    talk.says(&json!({"type": "subscribe_updates", "channels": channels}));
    assert_eq!((talk.told().len(), talk.listens()), (31, true));
    assert_eq!(talk.done(), ["subscribe open:a"]);
    let channels: Vec<_> = (0..60).map(|number| format!("ask:{number}")).collect();
    talk.says(&json!({"type": "subscribe_updates", "channels": channels}));
    (1..=60).for_each(|number| talk.decides(number, denied(ErrorCode::NotAllowed)));
    assert!(talk.listens(), "decided later, they are still one");
}

#[test]
fn who_makes_many_errors_is_heard_more_slowly() {
    let mut talk = Talk::new();
    (0..100).for_each(|_| talk.unsubscribes("open:a"));
    assert_eq!(talk.told(), vec!["not_subscribed null"; 100], "to leave again is no error");
    (0..20).for_each(|_| talk.subscribes("closed:a"));
    assert!(talk.listens());
    for _ in 0..5 {
        talk.subscribes("closed:a");
        assert!(!talk.listens());
        talk.notes.now = talk.notes.now + Duration::from_millis(500);
        assert!(talk.listens());
    }
    assert_eq!(talk.notes.closed, None);
}

#[test]
fn messages_that_can_not_be_read_end_the_conversation_and_nothing_follows() {
    let mut talk = Talk::new();
    (0..21).for_each(|_| talk.says(&json!([])));
    assert_eq!(talk.notes.closed, Some(CloseReason::TooManyErrors));
    assert_eq!(talk.told().len(), 21);
    talk.subscribes("open:a");
    assert!(talk.done().is_empty());
}

#[test]
fn the_position_that_the_application_gives_is_not_one_that_the_client_recovers() {
    let mut talk = Talk::new();
    let channel = ChannelName::new("any:a").expect("legal");
    let from = Position { epoch: EPOCH, offset: 0 };
    assert!(talk.session.subscribe_for_application(&channel, from, None, &talk.rules, &mut talk.notes));
    assert_eq!(talk.notes.replies[0].get("recovered"), None);
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
    for id in 0..30 {
        talk.done();
        talk.publishes("open:a", id);
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
        talk.session.subscribe_for_application(
            &channel,
            from,
            Id::from_json("5"),
            &talk.rules,
            &mut talk.notes,
        );
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
        (&json!("limit_exceeded"), &json!("at most 3 subscriptions (max_subscriptions)"))
    );
}

#[test]
fn names_that_are_no_channels_of_clients_are_refused_and_long_ones_are_not_repeated() {
    let mut talk = Talk::new();
    let long = "x".repeat(NAME_BYTES + 1);
    for (id, (channel, code)) in [
        ("@private", "bad_channel"),
        ("$server", "bad_channel"),
        ("", "bad_channel"),
        ("a\u{0}b", "bad_channel"),
        (&long, "bad_channel"),
        ("strange", "unknown_channel"),
        ("closed:a", "not_allowed"),
    ]
    .into_iter()
    .enumerate()
    {
        talk.subscribes(channel);
        talk.publishes(channel, id);
        for error in std::mem::take(&mut talk.notes.replies) {
            assert_eq!(error["code"], code, "{channel}");
            assert_eq!(error.get("channel").is_some(), channel != long, "{channel}");
        }
    }
    assert!(talk.done().is_empty());
}

#[test]
fn a_client_is_told_what_became_of_its_position_and_only_if_it_asked_for_one() {
    let mut talk = Talk::new();
    talk.notes.published = 9;
    for (index, asked) in [
        json!({"epoch": EPOCH.to_string(), "offset": 4}),
        json!({"epoch": EPOCH.to_string(), "offset": 1}),
        json!({"epoch": "elsewhere", "offset": 4}),
    ]
    .iter()
    .enumerate()
    {
        let mut message = json!({"type": "subscribe_updates", "channel": format!("open:{index}")});
        message.as_object_mut().expect("one").extend(asked.as_object().expect("one").clone());
        talk.says(&message);
    }
    talk.subscribes("open:0");
    talk.unsubscribes("open:0");
    talk.subscribes("open:0");
    let told = |reply: &Value| {
        let fields = ["offset", "top", "recovered", "reason", "existing"];
        fields.map(|field| reply.get(field).map(Value::to_string).unwrap_or_default()).join(" ")
    };
    talk.notes.replies.retain(|reply| reply["type"] == "subscription_established");
    let told: Vec<_> = talk.notes.replies.iter().map(told).collect();
    let expected = ["4 9 true  ", r#"2 9 false "trimmed" "#, r#"9 9 false "epoch" "#, "9 9   true", "9 9   "];
    assert_eq!(told, expected);
}

#[test]
fn a_subscription_begins_anew_without_a_question() {
    let mut talk = Talk::new();
    let restart =
        |channel: &str| json!({"type": "subscribe_updates", "channel": channel, "restart": true, "id": 1});
    talk.says(&restart("guarded:a"));
    talk.says(&restart("guarded:a"));
    assert_eq!(talk.done(), ["ask 1 subscribe guarded:a"], "a plain one, and one that waits for it");
    talk.decides(1, Decision::Allow);
    assert_eq!(talk.done(), ["subscribe guarded:a", "restart guarded:a"]);
    talk.says(&restart("closed:a"));
    assert_eq!(talk.told(), ["0 1", "0 1", "not_allowed 1"]);
    let channel = ChannelName::new("closed:a").expect("legal");
    let from = Position { epoch: EPOCH, offset: 0 };
    assert!(talk.session.subscribe_for_application(&channel, from, None, &talk.rules, &mut talk.notes));
    talk.says(&restart("closed:a"));
    assert_eq!(talk.done(), ["subscribe closed:a", "restart closed:a"]);
}

#[test]
fn a_subscription_that_the_application_makes_while_it_is_asked_begins_anew_too() {
    let mut talk = Talk::new();
    talk.says(&json!({"type": "subscribe_updates", "channel": "ask:a", "restart": true}));
    let channel = ChannelName::new("ask:a").expect("legal");
    let from = Position { epoch: EPOCH, offset: 0 };
    assert!(talk.session.subscribe_for_application(&channel, from, None, &talk.rules, &mut talk.notes));
    talk.decides(1, Decision::Allow);
    assert_eq!(talk.done(), ["ask 1 subscribe ask:a", "subscribe ask:a", "restart ask:a"]);
}

#[test]
fn the_application_ends_a_subscription_after_what_was_published() {
    let mut talk = Talk::new();
    talk.subscribes("open:a");
    talk.done();
    let channel = ChannelName::new("open:a").expect("legal");
    for _ in 0..2 {
        talk.session.unsubscribe_for_application(&channel, "moved", &talk.rules, &mut talk.notes);
    }
    assert_eq!(talk.done(), ["catch up", "unsubscribe open:a", "catch up", "unsubscribe open:a"]);
    assert_eq!(talk.told(), ["0 null", "subscription_ended null"]);
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
    let reconnect_window = Duration::from_millis(1500);
    let session_ttl = Duration::from_secs(120);
    let terms = Terms { session_ttl, tell_senders: false, reconnect_window, heartbeat, tick, under_way: 0 };
    talk.session.greet(&newcomer("ann"), None, &terms, &talk.rules, &mut talk.notes);
    let expected = json!({
        "type": "connection_established", "clientId": "c7", "subject": "ann", "heartbeat": 25, "tick": 16,
        "reconnectWindow": 1500, "maxUnanswered": 64, "timestamp": "1970-01-01T00:00:00.000Z",
    });
    assert_eq!(talk.notes.replies, [expected]);
}

#[test]
fn a_publication_names_the_client_where_updates_may_tell_it() {
    let mut talk = Talk::new();
    for (id, subject, expected) in [
        (1, None, "open:a 1"),
        (2, Some(""), r#"open:a 1 {"clientId":"c7","subject":null}"#),
        (3, Some("a\"da"), r#"open:a 1 {"clientId":"c7","subject":"a\"da"}"#),
    ] {
        talk.is_greeted_as(subject, 0);
        talk.publishes("open:a", id);
        assert_eq!(talk.done(), [format!("publish {expected}")]);
    }
}
