//! Messages of clients, right and wrong ones, and every message of the server.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};
use umbel::change::{Expected, Op};
use umbel::error_code::ErrorCode;
use umbel::moment::Moment;
use umbel::position::{Epoch, GapReason, Position, Start};
use umbel::protocol::message::{
    BATCH_PREFIX, ClientMessage, Id, Kind, MAX_CHANNELS, PresenceChange, Publish, ServerMessage,
    SessionToken, Timestamp, batch_suffix, parse,
};
use umbel::publication::{Content, KEY_BYTES, Publication, prefix};

fn refused(text: &str) -> (&'static str, Option<String>) {
    let error = parse(text).expect_err(text);
    (error.code().name(), error.id().map(|id| id.as_json().to_owned()))
}

fn kind(text: &str) -> Kind<'_> {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).kind
}

#[test]
fn every_type_of_the_core_is_read() {
    let message = parse(r#"{"type":"subscribe_updates","id":7,"channel":"a\u0062"}"#).unwrap();
    assert_eq!(message.id.map(Id::as_json), Some("7"));
    let Kind::Subscribe { channels, start: Start::Newcomer, restart: false } = message.kind else { panic!() };
    assert_eq!(channels[..], ["ab"]);
    let Kind::Subscribe { channels, start: Start::After(from), restart: true } = kind(
        r#"{"type":"subscribe_updates","channels":["a"],"epoch":"00000000000000ab","offset":9007199254740991,"restart":true}"#,
    ) else {
        panic!()
    };
    assert_eq!((channels.len(), from), (1, Position { epoch: Epoch::new(0xab), offset: (1 << 53) - 1 }));
    let text = r#"{"type":"subscribe_updates","channels":["a","b"],"restart":false}"#;
    assert!(matches!(kind(text), Kind::Subscribe { start: Start::Newcomer, restart: false, .. }));
    // No log of ours had such an epoch: it is gone, and that is no error.
    let text = r#"{"type":"subscribe_updates","channel":"a","epoch":"another server's","offset":1}"#;
    assert!(matches!(kind(text), Kind::Subscribe { start: Start::Foreign, .. }));
    assert_eq!(
        kind(r#" {"type":"publish","channel":"a","data":{"x": [1]},"key":"k","other":null}"#),
        Kind::Publish(Publish {
            channel: "a".into(),
            op: Op::Publish,
            data: r#"{"x": [1]}"#,
            key: Some("k".into()),
            event: None,
            expected: Expected::Any,
            resolve: true,
        })
    );
    assert!(matches!(kind(r#"{"type":"unsubscribe_updates","channel":"a"}"#), Kind::Unsubscribe { .. }));
    assert_eq!(kind(r#"{"type":"heartbeat"}"#), Kind::Heartbeat);
    let change = PresenceChange {
        is_active: Some(true),
        typing: None,
        current_task: Some("\"t\"".into()),
        data: Some("null".into()),
    };
    let text = r#"{"type":"presence_update","channel":"a","isActive":null,"currentTask":"t","data":null}"#;
    assert_eq!(kind(text), Kind::Presence { channel: "a".into(), change });
    assert_eq!(kind(r#"{"type":"rename"}"#), Kind::Application { message_type: "rename".into() });
}

#[test]
fn text_without_escapes_is_borrowed() {
    let Kind::Publish(Publish { channel: Cow::Borrowed("a"), data, .. }) =
        kind(r#"{"type":"publish","channel":"a","data":"\n"}"#)
    else {
        panic!()
    };
    assert_eq!(data, r#""\n""#);
}

#[test]
fn ids_are_strings_or_integers_and_come_back_as_they_were() {
    for id in ["0", "-5", "18446744073709551615", r#""a""#, r#""\u00e9""#] {
        let text = format!(r#"{{"id":{id},"type":"heartbeat"}}"#);
        assert_eq!(parse(&text).unwrap().id.map(Id::as_json), Some(id));
    }
    let long = format!("\"{}\"", "x".repeat(129));
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    for id in ["1.5", "1e2", "null", "true", "{}", "[1]", "18446744073709551616", &long, &deep, r#""\ud800""#]
    {
        assert_eq!(refused(&format!(r#"{{"id":{id},"type":"heartbeat"}}"#)), ("bad_message", None), "{id}");
    }
}

#[test]
fn what_is_wrong_is_named_with_the_id_where_that_is_right() {
    for (text, part) in [
        (r#"{"id":7}"#, "\"type\" is missing"),
        (r#"{"id":7,"type":5}"#, "\"type\" must be a string"),
        (r#"{"id":7,"type":""}"#, "\"type\" must be 1 to 128"),
        (r#"{"id":7,"type":"publish","data":1}"#, "\"channel\" is missing"),
        (r#"{"id":7,"type":"publish","channel":"a"}"#, "\"data\" is missing"),
        (r#"{"id":7,"type":"publish","channel":["a"],"data":1}"#, "\"channel\" must be a string"),
        (r#"{"id":7,"type":"publish","channel":"a","data":1,"key":1}"#, "\"key\" must be a string"),
        (r#"{"id":7,"type":"subscribe_updates"}"#, "\"channel\" is missing"),
        (r#"{"id":7,"type":"subscribe_updates","channels":[]}"#, "\"channels\" must be"),
        (r#"{"id":7,"type":"subscribe_updates","channels":"a"}"#, "\"channels\" must be"),
        (r#"{"id":7,"type":"subscribe_updates","channels":["a",1]}"#, "\"channels\" must be"),
        (r#"{"id":7,"type":"subscribe_updates","channel":"a","channels":["b"]}"#, "not both"),
        (r#"{"id":7,"type":"subscribe_updates","channel":"a","epoch":"e"}"#, "must be given together"),
        (r#"{"id":7,"type":"subscribe_updates","channel":"a","offset":1}"#, "must be given together"),
        (r#"{"id":7,"type":"subscribe_updates","channel":"a","epoch":1,"offset":1}"#, "\"epoch\" must be"),
        (r#"{"id":7,"type":"subscribe_updates","channel":"a","restart":1}"#, "\"restart\" must be"),
        (r#"{"id":7,"type":"subscribe_updates","channel":"a","restart":null}"#, "\"restart\" must be"),
        (
            r#"{"id":7,"type":"subscribe_updates","channels":["a","b"],"epoch":"e","offset":1}"#,
            "for one channel",
        ),
        (
            r#"{"id":7,"type":"subscribe_updates","channel":"a","epoch":"e","offset":9007199254740992}"#,
            "\"offset\" must be",
        ),
        (
            r#"{"id":7,"type":"subscribe_updates","channel":"a","epoch":"e","offset":-1}"#,
            "\"offset\" must be",
        ),
        (
            r#"{"id":7,"type":"subscribe_updates","channel":"a","epoch":"e","offset":1.0}"#,
            "\"offset\" must be",
        ),
        (r#"{"type":"heartbeat","x":1e400,"id":7}"#, "out of range"),
        (r#"{"type":"heartbeat","type":"heartbeat","id":7}"#, "occurs twice"),
        (r#"{"type":"x","data":{"a":1,"\u0061":2},"id":7}"#, "duplicate key"),
        (r#"{"type":"x","data":"\ud800","id":7}"#, "escape"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(refused(text), ("bad_message", Some("7".into())), "{text}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn texts_that_are_not_one_object_are_refused_without_repeating_them() {
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    for text in
        ["", "5", "[]", "null", &long, "{", "{} {}", "{\"type\":NaN}", "\u{feff}{}", "{'a':1}", "{\"a\"}"]
    {
        let error = parse(text).expect_err("not an object");
        assert_eq!(error.code(), ErrorCode::BadMessage);
        assert!(error.to_string().len() < 200);
    }
}

#[test]
fn a_key_is_as_long_as_a_channel_name_at_most() {
    let publish = |key: &str| format!(r#"{{"type":"publish","channel":"a","data":1,"key":"{key}"}}"#);
    assert!(matches!(kind(&publish(&"k".repeat(255))), Kind::Publish(_)));
    let long = publish(&"k".repeat(256));
    assert_eq!(refused(&long).0, "bad_message");
    let text = parse(&long).expect_err("a key that is too long").to_string();
    assert!(text.contains(&KEY_BYTES.to_string()), "{text}");
}

#[test]
fn hostile_json_is_refused() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let number = "9".repeat(1 << 20);
    for data in [&deep[..], &number, "1e400", "NaN", "-Infinity", "\"\\udfff\"", "\"\u{1}\""] {
        assert_eq!(refused(&format!(r#"{{"type":"x","data":{data}}}"#)).0, "bad_message");
    }
    let fits = "[".repeat(63) + &"]".repeat(63);
    assert!(parse(&format!(r#"{{"type":"x","data":{fits}}}"#)).is_ok());
    assert!(parse(&format!(r#"{{"type":"x","data":[{fits}]}}"#)).is_err());
    assert!(parse(r#"{"type":"x","__proto__":{"constructor":1}}"#).is_ok());
    let keys: String = (0..20_000).map(|n| format!(",\"k{n}\":0")).collect();
    assert!(parse(&format!(r#"{{"type":"x"{keys}}}"#)).is_ok());
    assert!(parse(&format!(r#"{{"type":"x"{keys},"k3":1}}"#)).is_err());
}

#[test]
fn too_many_channels_are_counted_before_they_are_gathered() {
    let subscribe = |count: usize| {
        format!(r#"{{"type":"subscribe_updates","id":"i","channels":{}}}"#, json!(vec!["c"; count]))
    };
    assert!(parse(&subscribe(MAX_CHANNELS)).is_ok());
    assert_eq!(refused(&subscribe(MAX_CHANNELS + 1)), ("too_many_items", Some("\"i\"".into())));
    assert_eq!(refused(&subscribe(100_000)).0, "too_many_items");
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

/// One message of each type but batches, with each field or only with those that it always has.
fn messages(id: Option<Id<'_>>, channel: Option<&'static str>) -> Vec<Value> {
    let timestamp = Timestamp::from_unix_millis(1_795_418_145_042);
    let epoch = Epoch::new(0xe);
    [
        ServerMessage::ConnectionEstablished {
            subject: Some("ann"),
            session: channel.map(|_| SessionToken { token: "t", ttl: 120.0 }),
            resumed: channel.map(|_| false),
            reason: channel.map(|_| "unknown"),
            client_id: "c\"1",
            heartbeat: 25,
            tick: 16,
            reconnect_window: 5000,
            max_unanswered: 64,
            timestamp,
        },
        ServerMessage::SubscriptionEstablished {
            channel: "a",
            epoch,
            offset: 9,
            top: 12,
            existing: None,
            recovered: channel.map(|_| false),
            reason: channel.map(|_| "trimmed"),
            state: channel.map(|_| true),
            id,
        },
        ServerMessage::SubscriptionEnded { channel: "a", reason: "unsubscribed", id },
        ServerMessage::Published {
            channel: "a",
            epoch,
            key: channel.map(|_| "k"),
            offset: 3,
            resolved: channel.map(|_| true),
            id,
        },
        ServerMessage::HeartbeatAck { timestamp, id },
        ServerMessage::Gap {
            channel: "a",
            epoch,
            from: 1,
            to: 5,
            top: channel.map(|_| 9),
            reason: "overrun",
        },
        ServerMessage::Reconnect { within: 5000 },
        ServerMessage::Error { code: "bad_message", message: "no", channel, details: None, id, timestamp },
    ]
    .map(|message| written(|out| message.write(out)))
    .to_vec()
}

#[test]
fn every_server_message_is_as_the_protocol_says() {
    let time = "2026-11-23T07:15:45.042Z";
    let text = r#"{"type":"heartbeat","id":"a\n"}"#;
    let ClientMessage { id, .. } = parse(text).unwrap();
    let epoch = "000000000000000e";
    assert_eq!(
        messages(id, Some("a")),
        [
            json!({"type": "connection_established", "clientId": "c\"1", "subject": "ann",
                "session": {"token": "t", "ttl": 120.0}, "resumed": false, "reason": "unknown",
                "heartbeat": 25, "tick": 16, "reconnectWindow": 5000, "maxUnanswered": 64, "timestamp": time}),
            json!({"type": "subscription_established", "channel": "a", "epoch": epoch, "offset": 9, "top": 12,
                "recovered": false, "reason": "trimmed", "state": true, "id": "a\n"}),
            json!({"type": "subscription_ended", "channel": "a", "reason": "unsubscribed", "id": "a\n"}),
            json!({"type": "published", "channel": "a", "epoch": epoch, "key": "k", "offset": 3, "resolved": true, "id": "a\n"}),
            json!({"type": "heartbeat_ack", "timestamp": time, "id": "a\n"}),
            json!({"type": "gap", "channel": "a", "epoch": epoch, "from": 1, "to": 5, "top": 9, "reason": "overrun"}),
            json!({"type": "reconnect", "within": 5000}),
            json!({"type": "error", "code": "bad_message", "message": "no", "channel": "a", "id": "a\n",
                "timestamp": time}),
        ]
    );
}

#[test]
fn a_batch_is_made_of_updates() {
    let now = Timestamp::from_unix_millis(0);
    let batch = written(|out| {
        out.extend_from_slice(BATCH_PREFIX);
        Publication::new(&prefix("x"), 5, &Content::new(b"{\"a\":1}", None), Moment::default())
            .write(4, None, out);
        out.push(b',');
        Publication::new(&prefix("y"), 9, &Content::new(b"[]", None), Moment::default()).write(6, None, out);
        batch_suffix(2, now, out);
    });
    assert_eq!(
        batch,
        json!({"type": "batched_updates", "count": 2, "timestamp": "1970-01-01T00:00:00.000Z", "updates": [
            {"channel": "x", "offset": 5, "data": {"a": 1}}, {"channel": "y", "from": 6, "offset": 9, "data": []}]})
    );
}

#[test]
fn the_page_of_the_protocol_has_every_reason_of_a_gap() {
    let page = include_str!("../../docs/protocol.md");
    let (_, table) = page.split_once("| `reason` | `epoch` |").expect("a table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names: Vec<_> = rows.map(|row| row.split('`').nth(1).expect("a reason")).collect();
    assert_eq!(names, GapReason::ALL.map(GapReason::name));
}

#[test]
fn the_schema_names_every_message_and_its_required_fields() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/protocol.schema.json")).unwrap();
    let required = |name: &str| -> Vec<String> {
        let mut fields: Vec<String> =
            serde_json::from_value(schema["$defs"][name]["required"].clone()).unwrap_or_default();
        fields.sort();
        fields
    };
    let batch = written(|out| {
        out.extend_from_slice(BATCH_PREFIX);
        batch_suffix(0, Timestamp::from_unix_millis(0), out);
    });
    for message in messages(None, None).into_iter().chain([batch]) {
        let name = message["type"].as_str().unwrap();
        let mut fields: Vec<String> = message.as_object().unwrap().keys().cloned().collect();
        fields.sort();
        assert_eq!(required(name), fields, "{name}");
        assert_eq!(schema["$defs"][name]["properties"]["type"]["const"], name);
    }
    for name in ["subscribe_updates", "unsubscribe_updates", "publish", "heartbeat", "application_message"] {
        assert!(required(name).contains(&"type".to_owned()), "{name}");
    }
    assert_eq!(required("authenticate"), ["type"]);
    assert_eq!(required("resume"), ["attempt", "positions", "session", "type"]);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(".{0,5}", inner, 0..12)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_that_is_published_is_read_as_it_stands(data in json_value(), channel in ".{0,20}", pretty in any::<bool>()) {
        let value = json!({"type": "publish", "channel": channel, "data": data});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let Kind::Publish(Publish { channel: read, data: raw, key: None, .. }) = kind(&text) else { panic!() };
        prop_assert_eq!(read, channel);
        prop_assert_eq!(serde_json::from_str::<Value>(raw).unwrap(), data);
    }

    #[test]
    fn any_text_is_a_message_or_an_error(text in "[{}\\[\\]\",:a-e0-9\\\\ut. -]{0,60}") {
        let _ = parse(&text);
        let _ = parse(&format!("{{\"type\":\"x\",{text}}}"));
    }
}
