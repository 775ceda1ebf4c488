use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::position::{Epoch, Position, Start};
use crate::session::conversation::tests::{EPOCH, Talk, denied, newcomer};
use crate::session::resumable::Subscription;
use crate::session::{Claim, Decision, Newcomer, Proof, Secret, Session, Terms, Verdict, Wanted};

const SECRET: Secret = Secret::new([7; 16]);
const TODAY: u64 = 1_800_000_000_000;
const LIFETIME: Duration = Duration::from_secs(3600);

fn terms() -> Terms {
    let none = Duration::ZERO;
    let session_ttl = Duration::from_secs(120);
    Terms {
        session_ttl,
        tell_senders: false,
        reconnect_window: none,
        heartbeat: none,
        tick: none,
        under_way: 0,
    }
}

/// A session of Ann, who was let in with token 1.
fn begun() -> Talk {
    let mut talk = Talk::new();
    talk.session = Session::resumable(Some(SECRET), Some(1));
    talk.session.greet(&newcomer("ann"), None, &terms(), &talk.rules, &mut talk.notes);
    talk
}

fn claim(attempt: u64) -> Claim<'static> {
    Claim { secret: SECRET, attempt, proof: Proof::Credential(None) }
}

fn identity(subject: &str, credential: Option<u64>, expires: Option<u64>) -> Proof<'static> {
    let identity = Box::leak(Box::new(Arc::new(Identity::of_application(subject, expires, None))));
    Proof::Identity { identity, credential }
}

fn judge(talk: &mut Talk, claim: &Claim<'_>) -> Verdict {
    talk.session.judge(claim, LIFETIME, talk.notes.now, TODAY)
}

/// Comes back on another connection, and says what the client is told.
fn come_back(talk: &mut Talk, wanted: &[(&str, Option<Start>)]) -> Vec<Value> {
    talk.notes = Default::default();
    let wanted = wanted.iter().map(|(channel, start)| ((*channel).into(), *start)).collect();
    talk.session.come_back("c7", &terms(), wanted, true, &talk.rules, &mut talk.notes);
    std::mem::take(&mut talk.notes.replies)
}

fn types(replies: &[Value]) -> Vec<(&str, Option<&str>)> {
    replies.iter().map(|it| (it["type"].as_str().expect("a type"), it["channel"].as_str())).collect()
}

#[test]
fn a_token_survives_its_text_and_is_never_shown() {
    let mut talk = begun();
    let token = talk.notes.replies[0]["session"]["token"].as_str().expect("a token").to_owned();
    let (id, secret) = token.split_once('.').expect("two parts");
    assert_eq!(id, "c7");
    let secret = Secret::from_hex(secret).expect("legal");
    assert_eq!(judge(&mut talk, &Claim { secret, ..claim(1) }), Verdict::Accepted);
    assert_eq!(format!("{:?}", talk.session).matches("Secret").count(), 1);
    assert!(!format!("{:?}", talk.session).contains('7'));
    for text in ["", "7", &"0".repeat(31), &"0".repeat(33), &format!("+{}", "0".repeat(31)), &"é".repeat(16)]
    {
        assert!(Secret::from_hex(text).is_none(), "{text}");
    }
}

#[test]
fn only_later_attempts_of_who_knows_the_secret_are_accepted() {
    let mut talk = begun();
    let other = Claim { secret: Secret::new([8; 16]), ..claim(9) };
    assert_eq!(judge(&mut talk, &other), Verdict::Unknown);
    for (attempt, expected) in [
        (2, Verdict::Accepted),
        (2, Verdict::Outdated { accepted: 2 }),
        (1, Verdict::Outdated { accepted: 2 }),
        ((1 << 53) - 1, Verdict::Accepted),
        (3, Verdict::Outdated { accepted: (1 << 53) - 1 }),
    ] {
        assert_eq!(judge(&mut talk, &claim(attempt)), expected, "{attempt}");
    }
}

#[test]
fn another_token_is_asked_about_and_renews_the_session_of_the_same_subject() {
    let mut talk = begun();
    let with = |proof| Claim { proof, ..claim(1) };
    assert_eq!(judge(&mut talk, &with(Proof::Credential(Some(2)))), Verdict::Unproven);
    assert_eq!(judge(&mut talk, &with(identity("bob", Some(2), None))), Verdict::OtherSubject);
    assert_eq!(judge(&mut talk, &with(Proof::Credential(Some(2)))), Verdict::Unproven);
    assert_eq!(judge(&mut talk, &with(identity("ann", Some(2), None))), Verdict::Accepted);
    let next = |proof| Claim { proof, ..claim(2) };
    assert_eq!(judge(&mut talk, &next(Proof::Credential(Some(1)))), Verdict::Unproven);
    assert_eq!(judge(&mut talk, &next(Proof::Credential(Some(2)))), Verdict::Accepted);
}

#[test]
fn nobody_comes_back_before_the_client_was_let_in_or_when_the_session_is_too_old() {
    let mut talk = Talk::new();
    talk.session = Session::resumable(Some(SECRET), None);
    assert_eq!(judge(&mut talk, &claim(1)), Verdict::Unknown);
    assert_eq!(talk.session.owner(), None);
    talk.session.greet(&newcomer(""), None, &terms(), &talk.rules, &mut talk.notes);
    assert_eq!(talk.session.owner().as_deref(), Some("address 192.0.2.1"));
    talk.notes.now = Moment::default() + LIFETIME - Duration::from_secs(1);
    assert_eq!(judge(&mut talk, &claim(1)), Verdict::Accepted);
    talk.notes.now = Moment::default() + LIFETIME;
    assert_eq!(judge(&mut talk, &claim(2)), Verdict::Unknown);
}

#[test]
fn what_the_session_has_is_restored_without_a_question_and_all_else_is_asked_for() {
    let mut talk = begun();
    for (number, channel) in (1..).zip(["ask:a", "ask:b", "ask:c"]) {
        talk.subscribes(channel);
        talk.decides(number, Decision::Allow);
    }
    talk.unsubscribes("ask:c");
    let channel = ChannelName::new("open:seat").expect("legal");
    let seat = Position { epoch: EPOCH, offset: 0 };
    talk.session.subscribe_for_application(&channel, seat, None, &talk.rules, &mut talk.notes);
    let replies = come_back(&mut talk, &[("ask:a", None), ("ask:c", None), ("@c7", None), ("@c8", None)]);
    assert_eq!(
        types(&replies),
        [
            ("connection_established", None),
            ("subscription_established", Some("ask:a")),
            ("subscription_established", Some("open:seat")),
            ("subscription_ended", Some("@c8")),
        ]
    );
    assert_eq!(replies[0]["resumed"], true);
    assert_eq!(talk.done(), ["subscribe ask:a", "subscribe open:seat", "ask 4 subscribe ask:c"]);
    // What was not named is not there any more.
    let replies = come_back(&mut talk, &[("ask:b", None)]);
    assert_eq!(types(&replies)[1..], [("subscription_established", Some("open:seat"))]);
    assert_eq!(talk.done(), ["subscribe open:seat", "ask 5 subscribe ask:b"]);
}

#[test]
fn a_question_that_is_open_is_answered_for_what_the_client_wants_now() {
    let mut talk = begun();
    talk.says(&json!({"type": "subscribe_updates", "channel": "ask:a", "id": 1}));
    talk.says(&json!({"type": "subscribe_updates", "channel": "ask:b", "id": 2}));
    talk.unsubscribes("ask:a");
    talk.publishes("ask:b", "later");
    let asked = Position { epoch: EPOCH, offset: 5 };
    let replies = come_back(&mut talk, &[("ask:a", Some(Start::After(asked)))]);
    assert_eq!(types(&replies), [("connection_established", None)]);
    assert_eq!(talk.done(), ["ask 3 publish ask:b"], "what waited for the other question goes on");
    talk.decides(2, Decision::Allow);
    assert!(talk.done().is_empty(), "nobody wants that channel any more");
    talk.decides(1, Decision::Allow);
    let replies = std::mem::take(&mut talk.notes.replies);
    assert_eq!(types(&replies), [("subscription_established", Some("ask:a"))]);
    assert_eq!(replies[0].get("id"), None);
    assert!(replies[0].get("recovered").is_some());
    assert_eq!(talk.done(), ["subscribe ask:a"]);
}

#[test]
fn what_waited_for_a_question_that_is_dropped_is_asked_about_once() {
    let mut talk = begun();
    talk.subscribes("ask:a");
    talk.unsubscribes("ask:a");
    talk.publishes("ask:a", "later");
    talk.done();
    come_back(&mut talk, &[]);
    assert_eq!(talk.done(), ["ask 2 publish ask:a"]);
    talk.decides(2, Decision::Allow);
    assert_eq!(talk.done().len(), 1, "it is published once");
    let errors = talk.session.errors;
    for channel in ["none:a", "none:b"] {
        come_back(&mut talk, &[(channel, None), ("none:c", None)]);
    }
    let mut expected = errors;
    (0..2).for_each(|_| expected.count(talk.notes.now));
    assert_eq!(
        talk.session.errors.quiet_until(),
        expected.quiet_until(),
        "one error for each time that it comes back"
    );
}

/// A session that has a channel about which the application wants to be asked again.
fn with_recheck() -> Talk {
    let mut talk = begun();
    talk.subscribes("again:a");
    talk.decides(1, Decision::Allow);
    talk
}

#[test]
fn a_channel_that_is_rechecked_comes_back_when_the_application_says_so_again() {
    let mut talk = with_recheck();
    let at = |offset| Some(Start::After(Position { epoch: EPOCH, offset }));
    let replies = come_back(&mut talk, &[("again:a", at(5)), ("open:a", None)]);
    let others = [("connection_established", None), ("subscription_established", Some("open:a"))];
    assert_eq!(types(&replies), others, "the others do not wait for it");
    assert_eq!(talk.done(), ["ask 2 subscribe again:a", "subscribe open:a"]);
    // The question is shared by those who come back meanwhile, and answered for where they stand.
    assert_eq!(types(&come_back(&mut talk, &[("again:a", at(6))])), others[..1]);
    talk.says(&json!({"type": "publish", "channel": "again:a", "data": 1}));
    assert!(talk.done().is_empty(), "what comes after it waits");
    talk.decides(2, Decision::Allow);
    assert_eq!(talk.done(), ["subscribe again:a", "publish again:a 1"]);
    let replies = std::mem::take(&mut talk.notes.replies);
    assert_eq!((&replies[0]["offset"], &replies[0]["recovered"]), (&json!(6), &json!(true)));
}

#[test]
fn a_recheck_that_fails_ends_the_subscription_and_one_that_nobody_wants_is_dropped() {
    let mut talk = with_recheck();
    come_back(&mut talk, &[("again:a", None)]);
    talk.says(&json!({"type": "publish", "channel": "again:a", "data": 1}));
    talk.decides(2, denied(ErrorCode::Internal));
    let ended = &talk.notes.replies[0];
    assert_eq!((&ended["type"], &ended["reason"]), (&json!("subscription_ended"), &json!("not_allowed")));
    assert_eq!(talk.done(), ["ask 2 subscribe again:a", "publish again:a 1"]);
    assert!(talk.session.subscriptions().next().is_none());

    let mut talk = with_recheck();
    come_back(&mut talk, &[("again:a", None)]);
    come_back(&mut talk, &[]);
    talk.decides(2, Decision::Allow);
    assert!(talk.done().is_empty() && talk.notes.replies.is_empty());
}

#[test]
fn what_the_application_says_about_a_channel_under_recheck_is_the_decision() {
    for (seats, told) in [(true, "subscription_established"), (false, "subscription_ended")] {
        let mut talk = with_recheck();
        let at = Start::After(Position { epoch: EPOCH, offset: 5 });
        come_back(&mut talk, &[("again:a", Some(at))]);
        talk.says(&json!({"type": "publish", "channel": "again:a", "data": 1}));
        let channel = ChannelName::new("again:a").expect("legal");
        let seat = Position { epoch: EPOCH, offset: 9 };
        let Talk { session, notes, rules } = &mut talk;
        if seats {
            assert!(session.subscribe_for_application(&channel, seat, None, rules, notes));
        } else {
            session.unsubscribe_for_application(&channel, "out", rules, notes);
        }
        assert_eq!(talk.notes.replies[0]["type"], told);
        if seats {
            assert_eq!(talk.notes.replies[0]["offset"], 5, "from where the client stands");
        }
        assert!(talk.done().contains(&"publish again:a 1".to_owned()), "what waited goes on");
        let before = talk.notes.replies.len();
        talk.decides(2, Decision::Allow);
        assert_eq!(talk.notes.replies.len(), before, "the question is over");
        assert_eq!(talk.session.subscriptions().count(), usize::from(seats));
    }
}

#[test]
fn a_client_that_was_seated_in_a_channel_that_is_rechecked_stays_seated_if_it_may() {
    let mut talk = begun();
    let channel = ChannelName::new("again:a").expect("legal");
    let seat = Position { epoch: EPOCH, offset: 7 };
    talk.session.subscribe_for_application(&channel, seat, None, &talk.rules, &mut talk.notes);
    for attempt in 0..2 {
        come_back(&mut talk, &[]);
        assert_eq!(talk.done(), if attempt == 0 { vec!["ask 1 subscribe again:a"] } else { vec![] });
    }
    talk.decides(1, Decision::Allow);
    assert_eq!(talk.notes.replies[0]["offset"], 7);
}

#[test]
fn a_run_that_was_forgotten_meanwhile_is_over() {
    let mut talk = begun();
    let channel = ChannelName::new("run:a").expect("legal");
    let had = |epoch| Subscription {
        channel: channel.clone(),
        start: Position { epoch, offset: 0 },
        by_server: true,
    };
    for (epoch, told) in [(EPOCH, "subscription_established"), (Epoch::new(1), "subscription_ended")] {
        talk.session.resumable_part().expect("it lasts").subscriptions = vec![had(epoch)];
        let replies = come_back(&mut talk, &[("run:a", None)]);
        assert_eq!(types(&replies)[1], (told, Some("run:a")));
        assert_eq!(talk.notes.subscriptions.len(), talk.session.subscriptions().count());
    }
}

#[test]
fn after_its_credentials_have_expired_a_client_has_to_be_asked_about() {
    let mut talk = Talk::new();
    talk.session = Session::resumable(Some(SECRET), Some(1));
    let identity_of_today = Arc::new(Identity::of_application("ann", Some(TODAY + 1), None));
    let newcomer = Newcomer { identity: &identity_of_today, ..newcomer("ann") };
    talk.session.greet(&newcomer, None, &terms(), &talk.rules, &mut talk.notes);
    let mut judge = |attempt, proof, today| {
        talk.session.judge(&Claim { proof, ..claim(attempt) }, LIFETIME, talk.notes.now, today)
    };
    assert_eq!(judge(1, Proof::Credential(Some(1)), TODAY), Verdict::Accepted);
    assert_eq!(judge(2, Proof::Credential(Some(1)), TODAY + 1), Verdict::Unproven);
    assert_eq!(judge(2, Proof::Credential(None), TODAY + 1), Verdict::Unproven);
    assert_eq!(judge(2, Proof::None, TODAY), Verdict::Unproven, "the application wants to be asked");
    assert_eq!(judge(2, identity("ann", Some(2), Some(TODAY + 9)), TODAY + 1), Verdict::Accepted);
    assert_eq!(judge(3, Proof::Credential(Some(2)), TODAY + 1), Verdict::Accepted);
    assert_eq!(judge(4, Proof::Credential(Some(2)), TODAY + 9), Verdict::Unproven);
    assert_eq!(judge(4, identity("ann", None, None), TODAY + 9), Verdict::Accepted);
    assert_eq!(judge(5, Proof::Credential(None), u64::MAX), Verdict::Accepted);
}

#[test]
fn who_was_seated_by_the_server_gets_nothing_from_before_that() {
    let mut talk = begun();
    let channel = ChannelName::new("open:seat").expect("legal");
    talk.session.subscribe_for_application(
        &channel,
        Position { epoch: EPOCH, offset: 7 },
        None,
        &talk.rules,
        &mut talk.notes,
    );
    for (asked, expected) in [(3, 7), (7, 7), (9, 9)] {
        let start = Start::After(Position { epoch: EPOCH, offset: asked });
        let replies = come_back(&mut talk, &[("open:seat", Some(start))]);
        assert_eq!(replies[1]["offset"], expected);
    }
}

#[test]
fn a_session_without_a_secret_ends_with_its_connection_and_restores_what_was_lost() {
    let mut talk = Talk::new();
    talk.session = Session::resumable(None, None);
    let wanted: Box<Wanted> = [("open:a".into(), None)].into();
    talk.session.greet(&newcomer(""), Some(("unknown", wanted)), &terms(), &talk.rules, &mut talk.notes);
    let greeting = &talk.notes.replies[0];
    assert_eq!((&greeting["resumed"], &greeting["reason"]), (&json!(false), &json!("unknown")));
    assert!(greeting.get("session").is_none());
    assert_eq!(types(&talk.notes.replies)[1..], [("subscription_established", Some("open:a"))]);
    assert_eq!(talk.session.owner(), None);
    assert_eq!(judge(&mut talk, &Claim { secret: Secret::new([0; 16]), ..claim(1) }), Verdict::Unknown);
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize),
    Restart(usize),
    Unsubscribe(usize),
    Publish(usize),
    Seat(usize),
    Unseat(usize),
    /// The application decides about the oldest question that is open.
    Decide(bool),
    ComeBack(Vec<(usize, Option<u64>)>),
}

const CHANNELS: [&str; 7] = ["open:a", "open:b", "ask:a", "ask:b", "closed:a", "again:a", "again:b"];

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0..CHANNELS.len();
    prop_oneof![
        3 => channel().prop_map(Step::Subscribe),
        1 => channel().prop_map(Step::Restart),
        2 => channel().prop_map(Step::Unsubscribe),
        1 => channel().prop_map(Step::Publish),
        2 => channel().prop_map(Step::Seat),
        1 => channel().prop_map(Step::Unseat),
        3 => any::<bool>().prop_map(Step::Decide),
        2 => prop::collection::btree_map(channel(), prop::option::of(0..9_u64), 0..5)
            .prop_map(|wanted| Step::ComeBack(wanted.into_iter().collect())),
    ]
}

/// A session, what it has asked, and the channels of which a client that came back waits to hear.
struct History {
    talk: Talk,
    open: VecDeque<u64>,
    awaited: BTreeSet<String>,
}

impl History {
    fn take(&mut self, step: Step) {
        let talk = &mut self.talk;
        let name = |channel: usize| ChannelName::new(CHANNELS[channel]).expect("legal");
        match step {
            Step::Subscribe(channel) => talk.subscribes(CHANNELS[channel]),
            Step::Restart(channel) => talk.says(
                &json!({"type": "subscribe_updates", "channel": CHANNELS[channel], "restart": true, "id": 1}),
            ),
            Step::Unsubscribe(channel) => talk.unsubscribes(CHANNELS[channel]),
            Step::Publish(channel) => {
                talk.says(&json!({"type": "publish", "channel": CHANNELS[channel], "data": 1}))
            }
            Step::Seat(channel) => {
                let from = Position { epoch: EPOCH, offset: 4 };
                talk.session.subscribe_for_application(
                    &name(channel),
                    from,
                    None,
                    &talk.rules,
                    &mut talk.notes,
                );
            }
            Step::Unseat(channel) => {
                talk.session.unsubscribe_for_application(&name(channel), "out", &talk.rules, &mut talk.notes);
            }
            Step::Decide(allow) => {
                if let Some(number) = self.open.pop_front() {
                    talk.decides(number, if allow { Decision::Allow } else { denied(ErrorCode::NotAllowed) });
                }
            }
            Step::ComeBack(wanted) => {
                let start = |offset| Start::After(Position { epoch: EPOCH, offset });
                let wanted: Vec<_> = wanted
                    .into_iter()
                    .map(|(channel, asked)| (CHANNELS[channel], asked.map(start)))
                    .collect();
                let done = talk.done();
                self.note_questions(&done);
                self.awaited = wanted.iter().map(|(channel, _)| (*channel).to_owned()).collect();
                let replies = come_back(&mut self.talk, &wanted);
                assert_eq!(replies[0]["type"], "connection_established");
                self.hear(&replies);
            }
        }
        let (replies, done) = (std::mem::take(&mut self.talk.notes.replies), self.talk.done());
        self.hear(&replies);
        self.note_questions(&done);
    }

    fn hear(&mut self, replies: &[Value]) {
        for reply in replies {
            if let Some(channel) = reply["channel"].as_str() {
                self.awaited.remove(channel);
            }
        }
    }

    fn note_questions(&mut self, done: &[String]) {
        let number = |done: &String| done.strip_prefix("ask ")?.split(' ').next()?.parse::<u64>().ok();
        self.open.extend(done.iter().filter_map(number));
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_session_has_what_its_carrier_has(steps in prop::collection::vec(step(), 0..40)) {
        let mut history = History { talk: begun(), open: VecDeque::new(), awaited: BTreeSet::new() };
        for step in steps {
            history.take(step);
        }
        while !history.open.is_empty() {
            history.take(Step::Decide(true));
        }
        let carried: Vec<_> = history.talk.notes.subscriptions.iter().cloned().collect();
        let resumable = history.talk.session.resumable_part().expect("it lasts");
        let mut known: Vec<_> = resumable.subscriptions.iter().map(|it| it.channel.to_string()).collect();
        known.sort();
        prop_assert_eq!(known, carried);
        prop_assert!(history.awaited.is_empty(), "nobody told the client of {:?}", history.awaited);
    }
}
