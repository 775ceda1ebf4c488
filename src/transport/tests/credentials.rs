//! Credentials that clients show on open connections.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::json;

use super::{Cell, REQUEST, accept, arrived, with};
use crate::jwt::Verifier;
use crate::transport::events::{Event, Inbox};
use crate::transport::websocket::WORK_AT_A_TURN;

const SECRET: &[u8] = b"a secret of 32 bytes or more, please";

/// A blocked Python: what it is told waits.
#[derive(Default)]
struct Blocked(Mutex<Vec<Event>>);

impl Inbox for Blocked {
    fn push(&self, event: Event) {
        self.0.lock().expect("no panic").push(event);
    }

    fn has_room(&self) -> bool {
        true
    }
}

fn with_tokens(algorithm: &str, key: &[u8], test: impl FnOnce(&Cell)) {
    let options = json!({
        "algorithms": [algorithm], "audience": [], "issuer": [], "leeway": 10, "max_lifetime": 86400, "cookie": null
    });
    let options = serde_json::from_value(options).expect("options");
    let verifier = Verifier::new(options, &[(None, key.to_vec())], None).expect("a verifier");
    with(Arc::<Blocked>::default(), Some(Arc::new(verifier)), &json!({"notify_connect": true}), test);
}

/// A token of ann that is good for an hour. Those of different numbers differ.
fn token(cell: &Cell, number: u32) -> String {
    let expires = cell.borrow().shared.clock.unix_millis() / 1000 + 3600;
    let parts = [json!({"alg": "HS256"}), json!({"sub": "ann", "exp": expires, "n": number})];
    let signed = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_client_that_renews_on_and_on_is_not_heard_until_python_has_heard_of_it() {
    with_tokens("HS256", SECRET, |cell| {
        let (key, client) = accept(cell);
        let bearer = format!("Authorization: Bearer {}\r\n\r\n", token(cell, 0));
        let request = String::from_utf8_lossy(REQUEST).replace("\r\n\r\n", &format!("\r\n{bearer}"));
        cell.borrow_mut().receive(key, &mut request.into_bytes());
        assert!(String::from_utf8_lossy(&arrived(&client)).contains("connection_established"));
        let texts =
            [1, 2].map(|number| json!({"type": "authenticate", "token": token(cell, number)}).to_string());
        let most = cell.borrow().shared.config.under_way();
        let mut renewed = 0;
        for text in texts.iter().cycle().take(2 * most) {
            let now = cell.borrow().now();
            if !cell.borrow_mut().live(key).expect("it is open").listens(now) {
                break;
            }
            let length = (text.len() as u16).to_be_bytes();
            let frame = [&[0x81, 0x80 | 126], &length[..], &[0; 4], text.as_bytes()].concat();
            cell.borrow_mut().receive(key, &mut { frame });
            assert!(String::from_utf8_lossy(&arrived(&client)).contains(r#""authenticated""#));
            renewed += 1;
        }
        assert_eq!(renewed, most);
    });
}

#[test]
fn a_token_that_is_dear_to_verify_ends_the_turn_of_its_client() {
    let p384 = include_bytes!("../../../tests/keys/p384-public.pem");
    for (algorithm, key, ends) in [("HS256", SECRET, false), ("ES384", p384, true)] {
        with_tokens(algorithm, key, |cell| {
            let (key, client) = accept(cell);
            let request = String::from_utf8_lossy(REQUEST)
                .replace("Upgrade: w", "Authorization: Bearer a.b.c\r\nUpgrade: w");
            cell.borrow_mut().receive(key, &mut request.into_bytes());
            assert!(String::from_utf8_lossy(&arrived(&client)).contains("malformed"));
            assert_eq!(cell.borrow().work >= WORK_AT_A_TURN, ends, "{algorithm}");
        });
    }
}
