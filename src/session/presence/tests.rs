use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::protocol::message::Id;
use crate::rights::Rights;
use crate::rules::{Rule, Rules};
use crate::session::conversation::tests::{Talk, denied};
use crate::session::{Claim, Decision, Newcomer, Proof, Secret, Session, Terms, Verdict};

/// What the client is told: type, channel, code or reason.
fn told(talk: &mut Talk) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let replies = std::mem::take(&mut talk.notes.replies);
    let row =
        |it: &Value| (text(&it["type"]), text(&it["channel"]), text(&it["code"]) + &text(&it["reason"]));
    replies.iter().map(row).collect()
}

fn rows(expected: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    expected.iter().map(|(kind, channel, why)| ((*kind).into(), (*channel).into(), (*why).into())).collect()
}

#[test]
fn who_is_in_a_channel_is_read_with_the_channel_and_no_longer() {
    let mut talk = Talk::new();
    talk.subscribes("$presence:yard:1");
    assert_eq!(told(&mut talk), rows(&[("error", "$presence:yard:1", "not_subscribed")]));
    talk.says(&json!({"type": "subscribe_updates", "channels": ["yard:1", "$presence:yard:1"]}));
    let established = "subscription_established";
    assert_eq!(told(&mut talk), rows(&[(established, "yard:1", ""), (established, "$presence:yard:1", "")]));
    assert!(talk.notes.members.contains_key("yard:1") && talk.notes.members.len() == 1);
    talk.unsubscribes("yard:1");
    let ended = "subscription_ended";
    let both = [(ended, "yard:1", "unsubscribed"), (ended, "$presence:yard:1", "unsubscribed")];
    assert_eq!(told(&mut talk), rows(&both));
    assert!(talk.notes.subscriptions.is_empty() && talk.notes.members.is_empty());
    for (channel, code) in [
        ("$presence:open:1", "unknown_channel"),
        ("$presence:none", "unknown_channel"),
        ("$node", "bad_channel"),
        ("$presence:", "bad_channel"),
        ("$presence:$presence:yard:1", "bad_channel"),
    ] {
        talk.subscribes(channel);
        assert_eq!(told(&mut talk), rows(&[("error", channel, code)]));
    }
    talk.says(&json!({"type": "publish", "channel": "$presence:yard:1", "data": 1}));
    assert_eq!(told(&mut talk), rows(&[("error", "$presence:yard:1", "bad_channel")]));
}

#[test]
fn what_is_about_the_members_waits_for_the_decision_about_the_channel() {
    for is_allowed in [true, false] {
        let mut talk = Talk::new();
        talk.says(&json!({"type": "subscribe_updates", "channels": ["hall:1", "$presence:hall:1"]}));
        talk.says(&json!({"type": "presence_update", "channel": "hall:1", "typing": true, "id": 1}));
        assert_eq!(told(&mut talk), vec![]);
        let decision = if is_allowed {
            Decision::Allow
        } else {
            Decision::Deny { code: ErrorCode::NotAllowed, message: String::new() }
        };
        talk.session.decide(1, decision, &talk.rules, &mut talk.notes);
        let expected = if is_allowed {
            [
                ("subscription_established", "hall:1", ""),
                ("subscription_established", "$presence:hall:1", ""),
                ("presence_updated", "hall:1", ""),
            ]
        } else {
            [
                ("error", "hall:1", "not_allowed"),
                ("error", "$presence:hall:1", "not_subscribed"),
                ("error", "hall:1", "not_subscribed"),
            ]
        };
        assert_eq!(told(&mut talk), rows(&expected));
        assert_eq!(talk.session.kept_bytes(), (0, 0));
    }
}

#[test]
fn a_change_is_answered_only_with_an_id_and_an_error_always() {
    let mut talk = Talk::new();
    talk.subscribes("yard:1");
    told(&mut talk);
    talk.says(&json!({"type": "presence_update", "channel": "yard:1", "typing": true}));
    assert_eq!(told(&mut talk), vec![]);
    talk.says(&json!({"type": "presence_update", "channel": "yard:1", "typing": true, "id": "a"}));
    talk.says(&json!({"type": "presence_update", "channel": "yard:1", "typing": true, "id": "a"}));
    assert_eq!(told(&mut talk), rows(&[("presence_updated", "yard:1", ""); 2]), "it may be done again");
    assert!(Id::from_json("\"a\"").is_some());
    talk.says(&json!({"type": "presence_update", "channel": "hall:hidden"}));
    talk.says(&json!({"type": "presence_update", "channel": "yard:2"}));
    let expected = [("error", "hall:hidden", "not_allowed"), ("error", "yard:2", "not_subscribed")];
    assert_eq!(told(&mut talk), rows(&expected));
    for wrong in [
        json!({"isActive": 1}),
        json!({"typing": "true"}),
        json!({"currentTask": {}}),
        json!({"currentTask": true}),
        json!({"currentTask": "x".repeat(254)}),
        json!({"data": "x".repeat(4095)}),
        json!({"data": "x".repeat(1 << 20)}),
        json!({"channel": null}),
    ] {
        let mut message = json!({"type": "presence_update", "channel": "yard:1"});
        message.as_object_mut().expect("an object").extend(wrong.as_object().expect("an object").clone());
        talk.says(&message);
        assert_eq!(told(&mut talk)[0].2, "bad_message", "{wrong}");
    }
}

const TERMS: Terms = Terms {
    session_ttl: Duration::ZERO,
    tell_senders: false,
    reconnect_window: Duration::ZERO,
    heartbeat: Duration::ZERO,
    tick: Duration::ZERO,
    under_way: 0,
};

/// A client whose subscription to `hall:1` was allowed, with other channels. Its connection is lost.
fn lost(others: &[&str]) -> Talk {
    let mut talk = Talk::new();
    talk.session = Session::resumable(None, None);
    let channels = [&["hall:1"], others].concat();
    talk.says(&json!({"type": "subscribe_updates", "channels": channels}));
    talk.session.decide(1, Decision::Allow, &talk.rules, &mut talk.notes);
    talk.notes.subscriptions.clear();
    told(&mut talk);
    talk
}

fn come_back(talk: &mut Talk, channels: &[&str]) {
    let wanted: Vec<(Box<str>, _)> = channels.iter().map(|name| ((*name).into(), None)).collect();
    talk.session.come_back("c7", &TERMS, wanted.into(), true, &talk.rules, &mut talk.notes);
}

#[test]
fn what_is_refused_when_a_client_comes_back_is_no_member_any_more() {
    let mut talk = lost(&["$presence:hall:1", "yard:1"]);
    come_back(&mut talk, &["$presence:hall:1", "hall:1"]);
    assert_eq!(told(&mut talk), rows(&[("connection_established", "", "")]));
    assert_eq!(talk.notes.members.keys().collect::<Vec<_>>(), ["hall:1"], "yard:1 was not named");
    talk.session.decide(2, denied(ErrorCode::NotAllowed), &talk.rules, &mut talk.notes);
    let ended = "subscription_ended";
    let both = [(ended, "hall:1", "not_allowed"), (ended, "$presence:hall:1", "not_allowed")];
    assert_eq!(told(&mut talk), rows(&both));
    assert!(talk.notes.members.is_empty());
}

#[test]
fn a_client_that_comes_back_twice_and_then_without_the_channel_is_no_member_any_more() {
    let mut talk = lost(&[]);
    come_back(&mut talk, &["hall:1"]);
    assert!(talk.notes.members.contains_key("hall:1"), "the application is asked again");
    come_back(&mut talk, &[]);
    assert!(talk.notes.members.is_empty());
    talk.session.decide(2, Decision::Allow, &talk.rules, &mut talk.notes);
    assert!(talk.notes.members.is_empty() && talk.notes.subscriptions.is_empty());
}

#[test]
fn a_client_that_comes_back_to_too_many_channels_is_no_member_of_those_that_it_does_not_get() {
    let mut talk = lost(&[]);
    come_back(&mut talk, &["hall:1", "open:1", "open:2", "open:3"]);
    assert!(talk.notes.members.contains_key("hall:1"));
    talk.session.decide(2, Decision::Allow, &talk.rules, &mut talk.notes);
    assert!(told(&mut talk).contains(&rows(&[("error", "hall:1", "limit_exceeded")])[0]));
    assert!(!talk.notes.members.contains_key("hall:1"));
}

#[test]
fn a_client_that_comes_back_with_fewer_rights_is_no_member_of_what_these_gave_it() {
    let rule: Rule = serde_json::from_value(json!({
        "pattern": "desk:{x}", "subscribe": "no", "publish": "no", "mode": "all", "overrun": "gap", "replay": "head",
        "history": 10, "history_bytes": 1000, "history_seconds": 60.0, "compress": true, "sender": false,
        "recheck": false, "claims": true, "presence": "list",
    }))
    .expect("a rule");
    let with = |channels: Value| {
        let rights = Rights::new(Some(&channels), None).expect("legal");
        Arc::new(Identity::of_application("ann", None, Some(rights)))
    };
    let (both, one) = (with(json!(["desk:*"])), with(json!(["desk:2"])));
    let secret = Secret::new([7; 16]);
    let mut talk = Talk::new();
    talk.rules = Rules::new(&[rule]).expect("legal");
    talk.session = Session::resumable(Some(secret), None);
    let newcomer = Newcomer { client_id: "c7", identity: &both, address: "192.0.2.1" };
    talk.session.greet(&newcomer, None, &TERMS, &talk.rules, &mut talk.notes);
    talk.says(&json!({"type": "subscribe_updates", "channels": ["desk:1", "desk:2"]}));
    assert_eq!(talk.notes.members.len(), 2);
    talk.notes.subscriptions.clear();
    let claim = Claim { secret, attempt: 1, proof: Proof::Identity { identity: &one, credential: None } };
    let day = Duration::from_hours(24);
    assert_eq!(talk.session.judge(&claim, day, Moment::default(), 0), Verdict::Accepted);
    come_back(&mut talk, &["desk:1", "desk:2"]);
    assert_eq!(talk.notes.members.keys().collect::<Vec<_>>(), ["desk:2"]);
}
