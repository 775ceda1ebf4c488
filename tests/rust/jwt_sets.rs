//! Sets of keys that are given again and again.

use serde_json::{Value, json};
use umbel::jwt::{Needs, Source, Verifier};
use umbel::token_error::TokenError;

use crate::jwt_signing::{NOW, encoded, options, token_of};

const TODAY: u64 = NOW * 1000;
const DAY: u64 = 86_400_000;

/// A key that verifies what tokens are signed with, under a name.
fn key(kid: &str) -> Value {
    // The public half of tests/keys/p256.pem: its point is the end of the DER.
    use base64::Engine as _;
    let pem = include_str!("../keys/p256-public.pem");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(base64).expect("base64");
    let point = &der[der.len() - 64..];
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": encoded(&point[..32]), "y": encoded(&point[32..])})
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn signed(kid: &str) -> String {
    let claims = json!({"sub": "ann", "iat": NOW, "exp": NOW + 86_400});
    token_of("ES256", &json!({"alg": "ES256", "kid": kid}).to_string(), &claims.to_string())
}

fn verifier() -> Verifier {
    Verifier::new(options(&["ES256"], &json!({})), Source::Elsewhere).expect("no keys are needed yet")
}

fn judged(verifier: &Verifier, token: &str, today: u64) -> Option<TokenError> {
    verifier.verify(token, today).err()
}

#[test]
fn before_the_first_keys_only_what_can_never_count_is_judged() {
    let verifier = verifier();
    assert_eq!(judged(&verifier, &signed("a"), TODAY), Some(TokenError::NoKeys));
    assert_eq!(verifier.needs(&signed("a"), TODAY), Needs::Keys);
    for (text, error) in [("a.b.c", TokenError::Malformed), (&"x".repeat(9000), TokenError::TooLong)] {
        assert_eq!(
            (judged(&verifier, text, TODAY), verifier.needs(text, TODAY)),
            (Some(error), Needs::Nothing)
        );
    }
    assert!(!verifier.has_keys(TODAY));
}

#[test]
fn a_key_that_is_missing_from_a_good_answer_goes_with_the_tokens_that_it_has_verified() {
    let verifier = verifier();
    let (one, two) = (signed("a"), signed("b"));
    verifier.replace_keys(&set(&[key("a"), key("b")]), TODAY).expect("a set");
    assert!(matches!(verifier.needs(&one, TODAY), Needs::Verifying(_)));
    for token in [&one, &two, &one] {
        assert_eq!(judged(&verifier, token, TODAY), None);
    }
    verifier.replace_keys(&set(&[key("b"), key("c")]), TODAY).expect("a set");
    assert_eq!(
        (judged(&verifier, &one, TODAY), verifier.needs(&one, TODAY)),
        (Some(TokenError::UnknownKey), Needs::Keys)
    );
    assert_eq!(verifier.needs(&two, TODAY), Needs::Nothing, "its key is the same");
    // It comes back, as another key.
    verifier.replace_keys(&set(&[key("a")]), TODAY).expect("a set");
    assert!(matches!(verifier.needs(&one, TODAY), Needs::Verifying(_)));
    assert_eq!(judged(&verifier, &one, TODAY), None);
}

#[test]
fn what_is_no_set_changes_nothing() {
    let verifier = verifier();
    let token = signed("a");
    verifier.replace_keys(&set(&[key("a")]), TODAY).expect("a set");
    let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "s"});
    for wrong in [
        set(&[]),
        set(&[key("a"), key("a")]),
        set(&[key("a"), secret]),
        b"<html>".to_vec(),
        b"[]".to_vec(),
        b"".to_vec(),
        b"{\"keys\": 7}".to_vec(),
        vec![0xff; 100],
    ] {
        assert!(verifier.replace_keys(&wrong, TODAY + DAY).is_err());
        assert_eq!(judged(&verifier, &token, TODAY), None);
    }
    assert!(!verifier.has_keys(TODAY + DAY), "a bad answer does not let keys live on");
}

#[test]
fn keys_count_for_a_day_from_the_last_good_answer_and_so_do_tokens_that_are_known() {
    let verifier = verifier();
    let token = signed("a");
    verifier.replace_keys(&set(&[key("a")]), TODAY).expect("a set");
    assert_eq!(judged(&verifier, &token, TODAY + DAY - 1), None);
    assert_eq!(judged(&verifier, &token, TODAY + DAY), Some(TokenError::NoKeys));
    verifier.replace_keys(&set(&[key("a")]), TODAY + DAY).expect("a set");
    assert_eq!(judged(&verifier, &token, TODAY + DAY), None);
}

#[test]
fn a_secret_never_comes_from_elsewhere() {
    let error =
        Verifier::new(options(&["ES256", "HS256"], &json!({})), Source::Elsewhere).expect_err("HS256");
    assert!(error.to_string().contains("no key for HS256"), "{error}");
}
