//! What a running server says is on one line, however it was given.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::json;

use umbel::session::Answer;
use umbel::transport::commands::ClientCommand;

use crate::server_running::{Running, rule};

#[test]
fn what_a_client_publishes_on_several_lines_arrives_on_one() {
    let channels = json!({"channels": [rule("{x}", "open", "open")]});
    let running = Running::start_with(&channels, HashMap::new(), |_| false);
    let mut reader = running.subscribe("a");
    let (_, mut client) = running.connect();
    let data = json!({"a": [1, "\n"], "b": {}});
    let message = json!({"type": "publish", "channel": "a", "data": data});
    let pretty = serde_json::to_string_pretty(&message).expect("JSON").replace('\n', "\r\n");
    client.say_text(&pretty);
    let (heard, text) = reader.hear_text("batched_updates");
    assert_eq!(heard["updates"][0]["data"], data);
    assert!(!text.contains(['\r', '\n']), "{text}");
}

#[test]
fn what_the_application_answers_on_several_lines_arrives_on_one() {
    let running = Running::start(|_| false);
    let (id, mut client) = running.connect();
    let answer = Answer::Result { message_type: "mine".into(), data: Bytes::from_static(b"[\r\n]") };
    running.server.tell(id, ClientCommand::Answer(answer, Some("7".into())));
    let (heard, text) = client.hear_text("mine_result");
    assert_eq!(heard["id"], 7);
    assert_eq!(heard["data"], json!([]));
    assert!(!text.contains(['\r', '\n']), "{text}");
}
