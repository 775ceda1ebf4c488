//! Credentials that clients show on open connections.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::json;

use super::{Cell, REQUEST, accept, arrived, with};
use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::jwt::{Source, Verifier};
use crate::session::waits_to_renew;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::drive::poll_once;
use crate::transport::events::{Event, Inbox};
use crate::transport::sessions::finish;
use crate::transport::turn::{Turn, WORK_AT_A_TURN};
use crate::transport::turns::{KEYS_PATIENCE, MOST_FOR_KEYS};

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
    with_keys(algorithm, Source::Keys(&[(None, key.to_vec())]), test);
}

fn with_keys(algorithm: &str, source: Source<'_>, test: impl FnOnce(&Cell)) {
    let options = json!({
        "algorithms": [algorithm], "audience": [], "issuer": [], "leeway": 10, "max_lifetime": 10_000_000_000_u64, "cookie": null
    });
    let options = serde_json::from_value(options).expect("options");
    let verifier = Verifier::new(options, source).expect("a verifier");
    with(Arc::<Blocked>::default(), Some(Arc::new(verifier)), &json!({"notify_connect": true}), test);
}

/// A token of ann. Those of different numbers differ.
fn token(number: u32) -> String {
    let parts = [json!({"alg": "HS256"}), json!({"sub": "ann", "exp": 9_000_000_000_u64, "n": number})];
    let signed = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_client_that_renews_on_and_on_is_not_heard_until_python_has_heard_of_it() {
    with_tokens("HS256", SECRET, |cell| {
        let (key, client) = accept(cell);
        say(cell, key, request(&bearer(&token(0))));
        assert!(String::from_utf8_lossy(&arrived(&client)).contains("connection_established"));
        let messages = [1, 2].map(|number| authenticate(&token(number)));
        let most = cell.borrow().shared.config.under_way();
        let mut renewed = 0;
        for message in messages.iter().cycle().take(2 * most) {
            let now = cell.borrow().now();
            if !cell.borrow_mut().live(key).expect("it is open").listens(now) {
                break;
            }
            say(cell, key, message.clone());
            assert!(String::from_utf8_lossy(&arrived(&client)).contains(r#""authenticated""#));
            renewed += 1;
        }
        assert_eq!(renewed, most);
    });
}

const P384: &[u8] = include_bytes!("../../../tests/keys/p384-public.pem");

/// A token that looks right until its signature is verified.
fn forged(algorithm: &str, number: u32) -> String {
    let parts = [json!({"alg": algorithm}), json!({"sub": "ann", "exp": 9_000_000_000_u64, "n": number})];
    let signed = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode([7; 96]))
}

/// A request for a WebSocket, with these lines in its head.
fn request(lines: &str) -> Vec<u8> {
    String::from_utf8_lossy(REQUEST).replace("Upgrade: w", &format!("{lines}Upgrade: w")).into_bytes()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn authenticate(token: &str) -> Vec<u8> {
    let text = json!({"type": "authenticate", "token": token}).to_string();
    let length = (text.len() as u16).to_be_bytes();
    [&[0x81, 0x80 | 126], &length[..], &[0; 4], text.as_bytes()].concat()
}

fn begin_turn(cell: &Cell) {
    let Connections { turns, sockets, .. } = &mut *cell.borrow_mut();
    turns.begin(sockets);
}

fn say(cell: &Cell, key: ReaderKey, mut bytes: Vec<u8>) {
    cell.borrow_mut().receive(key, &mut bytes);
}

fn hear(client: &UnixStream) -> String {
    String::from_utf8_lossy(&arrived(client)).into_owned()
}

#[test]
fn a_token_that_is_dear_to_verify_ends_the_turn_of_its_client() {
    for (algorithm, key, ends) in [("HS256", SECRET, false), ("ES384", P384, true)] {
        with_tokens(algorithm, key, |cell| {
            for (token, reason, works) in
                [(String::from("a.b.c"), "malformed", false), (forged(algorithm, 0), "bad_signature", true)]
            {
                let (key, client) = accept(cell);
                say(cell, key, request(&bearer(&token)));
                assert!(hear(&client).contains(reason));
                assert_eq!(cell.borrow().work >= WORK_AT_A_TURN, ends && works, "{algorithm} {reason}");
            }
        });
    }
}

/// Lets a client show a token, in one of the ways in which it can.
type Show = fn(&Cell, ReaderKey, &UnixStream, &str);

const WAYS: [Show; 4] = [
    |cell, key, _, token| {
        say(cell, key, request(&bearer(token)));
    },
    |cell, key, _, token| {
        let head = format!("GET /api/v1/stream/a HTTP/1.1\r\nHost: a\r\n{}\r\n", bearer(token));
        say(cell, key, head.into_bytes());
    },
    |cell, key, client, token| {
        say(cell, key, request("Sec-WebSocket-Protocol: umbel.v1.first\r\n"));
        hear(client);
        say(cell, key, authenticate(token));
        poll_once(cell, key);
    },
    |cell, key, client, token| {
        // It is let in by a token that is known, and shows another one.
        say(cell, key, request(&bearer(&self::token(0))));
        assert!(hear(client).contains("connection_established"));
        say(cell, key, authenticate(token));
    },
];

/// `HS256` costs little, so that 32 have their turn together.
const AT_A_TURN: usize = 32;

#[test]
fn of_those_that_come_at_once_with_new_tokens_few_have_their_turn_between_two_looks_at_the_sockets() {
    for (way, show) in WAYS.into_iter().enumerate() {
        with_tokens("HS256", SECRET, |cell| {
            let known = token(0);
            cell.borrow()
                .shared
                .verifier
                .as_ref()
                .expect("it has one")
                .verify(&known, now(cell))
                .expect("good");
            let strangers: Vec<_> = (0..100).map(|_| accept(cell)).collect();
            for (number, (key, client)) in (1..).zip(&strangers) {
                show(cell, *key, client, &forged("HS256", number));
            }
            let mut refused = 0;
            let mut refused_now = || {
                let now =
                    strangers.iter().filter(|(_, client)| hear(client).contains("bad_signature")).count();
                refused += now;
                (now, refused)
            };
            assert_eq!(refused_now(), (AT_A_TURN, AT_A_TURN), "way {way}");
            // Who comes with a token that is known does not wait, nor does one whose token can't count.
            for (text, expected) in [(&known, "connection_established"), (&"a.b.c".to_owned(), "malformed")] {
                let (key, client) = accept(cell);
                say(cell, key, request(&bearer(text)));
                assert!(hear(&client).contains(expected), "way {way}");
            }
            // One that is gone leaves its turn to others.
            let (gone, _) = strangers[40];
            finish(&mut cell.borrow_mut(), gone, &CloseReason::Broken);
            let mut turns = 0;
            while !cell.borrow().turns.is_empty() {
                begin_turn(cell);
                for (key, _) in &strangers {
                    poll_once(cell, *key);
                }
                assert!(refused_now().0 <= AT_A_TURN, "way {way}");
                turns += 1;
            }
            assert_eq!((turns, refused_now().1), (3, 99), "way {way}");
        });
    }
}

#[test]
fn those_that_ask_for_much_do_not_keep_others_out() {
    with_tokens("HS256", SECRET, |cell| {
        let busy: Vec<_> = (0..50).map(|_| accept(cell)).collect();
        for (key, _) in &busy {
            cell.borrow_mut().wait_for_turn(*key);
        }
        let newcomers: Vec<_> = (0..2 * AT_A_TURN as u32).map(|number| (number, accept(cell))).collect();
        for (number, (key, client)) in &newcomers {
            WAYS[0](cell, *key, client, &token(1 + number));
        }
        begin_turn(cell);
        let mut let_in = 0;
        for (_, (key, client)) in &newcomers {
            poll_once(cell, *key);
            let_in += usize::from(hear(client).contains("connection_established"));
        }
        assert_eq!(let_in, 2 * AT_A_TURN);
        let given = |key: &ReaderKey| cell.borrow_mut().get(*key).is_some_and(|it| it.turn == Turn::Given);
        assert_eq!(busy.iter().filter(|(key, _)| given(key)).count(), 1);
    });
}

#[test]
fn a_turn_that_was_given_is_used_at_once_or_lost() {
    with_tokens("HS256", SECRET, |cell| {
        let clients: Vec<_> = (0..AT_A_TURN as u32 + 2).map(|_| accept(cell)).collect();
        for (number, (key, client)) in (1..).zip(&clients) {
            WAYS[0](cell, *key, client, &token(number));
        }
        let (key, client) = clients.last().expect("some");
        begin_turn(cell);
        poll_once(cell, *key);
        assert!(hear(client).contains("connection_established"));
        say(cell, *key, authenticate(&token(1000)));
        assert!(hear(client).contains(r#""authenticated""#), "there is time for it");
        for number in 0..AT_A_TURN as u32 {
            let (key, client) = accept(cell);
            WAYS[0](cell, key, &client, &token(2000 + number));
        }
        say(cell, *key, authenticate(&token(1001)));
        assert_eq!(hear(client), "");
    });
}

#[test]
fn a_session_does_not_keep_a_token_that_waited_when_its_connection_ended() {
    with_tokens("HS256", SECRET, |cell| {
        let (key, client) = accept(cell);
        say(cell, key, request("Sec-WebSocket-Protocol: umbel.v1.first\r\n"));
        say(cell, key, authenticate(&token(0)));
        poll_once(cell, key);
        assert!(hear(&client).contains("connection_established"));
        for number in 0..AT_A_TURN as u32 {
            let (key, client) = accept(cell);
            WAYS[0](cell, key, &client, &token(2000 + number));
        }
        say(cell, key, authenticate(&token(1)));
        assert!(
            cell.borrow_mut().get(key).and_then(Connection::session).is_some_and(|it| waits_to_renew(it))
        );
        let id = cell.borrow_mut().get(key).expect("it is open").id;
        finish(&mut cell.borrow_mut(), key, &CloseReason::Broken);
        let mut shard = cell.borrow_mut();
        let kept = shard.away.get(id).expect("it may come back");
        assert!(!waits_to_renew(&kept.session));
    });
}

fn now(cell: &Cell) -> u64 {
    cell.borrow().shared.clock.unix_millis()
}

/// A set with the key of no token here.
fn other_set() -> String {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "other", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    json!({"keys": [key]}).to_string()
}

#[test]
fn a_client_waits_for_the_key_of_its_token_only_as_long_as_it_may_come() {
    with_keys("EdDSA", Source::Elsewhere, |cell| {
        let verifier = Arc::clone(cell.borrow().shared.verifier.as_ref().expect("it has one"));
        let clients: Vec<_> = (0..3).map(|_| accept(cell)).collect();
        for (way, (key, client)) in clients.iter().enumerate() {
            WAYS[way](cell, *key, client, &forged("EdDSA", 0));
            assert_eq!(hear(client), "", "way {way}: keys come at the start");
        }
        let settle = |all: bool| {
            let Connections { turns, sockets, .. } = &mut *cell.borrow_mut();
            turns.settle_keys(sockets, all);
        };
        let heard = || {
            clients.iter().map(|(key, client)| {
                poll_once(cell, *key);
                hear(client)
            })
        };
        settle(false);
        assert!(heard().all(|text| text.is_empty()));
        let began = cell.borrow().now();
        cell.borrow_mut().sockets.now = began + KEYS_PATIENCE;
        assert_eq!(cell.borrow().next_deadline().map(|due| due <= began + KEYS_PATIENCE), Some(true));
        settle(false);
        assert!(heard().all(|text| text.contains("no_keys")));
        // Keys have come, and not that one: who comes now is told at once.
        verifier.replace_keys(other_set().as_bytes(), now(cell)).expect("a set");
        verifier.wanted().settle();
        let named = forged("EdDSA", 0).replacen(
            &URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#),
            &URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"x"}"#),
            1,
        );
        let (key, client) = accept(cell);
        WAYS[0](cell, key, &client, &named);
        assert!(hear(&client).contains("unknown_key"));
        // They can be asked for again.
        verifier.wanted().wait(Duration::ZERO);
        let many: Vec<_> = (0..MOST_FOR_KEYS + 1).map(|_| accept(cell)).collect();
        for (key, client) in &many {
            WAYS[0](cell, *key, client, &named);
        }
        let refused = many.iter().filter(|(_, client)| hear(client).contains("unknown_key")).count();
        assert_eq!(refused, 1, "no more than that wait");
        verifier.wanted().settle();
        settle(true);
        for (key, _) in &many {
            poll_once(cell, *key);
        }
        let refused = many.iter().filter(|(_, client)| hear(client).contains("unknown_key")).count();
        assert_eq!(refused, MOST_FOR_KEYS);
    });
}
