//! Tokens that count, keys that may be used, and the examples of the standards.

use serde_json::{Value, json};
use umbel::jwt::{Options, Source, Verifier};
use umbel::token_error::TokenError;

use crate::jwt_signing::{
    ED25519, NOW, P256, P384, RSA, SECRET, encoded, key_of, options, sign, token, token_of, verifier,
};

const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

fn today(seconds: u64) -> u64 {
    seconds * 1000
}

#[test]
fn a_token_of_each_algorithm_says_who_the_client_is() {
    for algorithm in ALGORITHMS {
        let verifier = verifier(&[algorithm], key_of(algorithm), &json!({})).expect("a key");
        let token = token(algorithm, &json!({"role": "editor"}));
        // The second time it is known.
        for _ in 0..2 {
            let verified = verifier.verify(&token, today(NOW)).expect(algorithm);
            assert_eq!(&*verified.identity.subject, "ann");
            assert_eq!(verified.identity.expires(), Some(today(NOW + 3600)));
            let claims: Value = serde_json::from_str(&verified.claims).expect("JSON");
            assert_eq!(claims["role"], "editor");
        }
        // One bit of each part.
        for part in 0..3 {
            let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
            let place = parts[part].len() / 2;
            let other = if &parts[part][place..=place] == "A" { "B" } else { "A" };
            parts[part].replace_range(place..=place, other);
            assert!(verifier.verify(&parts.join("."), today(NOW)).is_err(), "{algorithm} {part}");
        }
    }
}

/// RFC 7515 A.1 and A.3, RFC 8037 A.4: signed by others.
#[test]
fn the_examples_of_the_standards_have_good_signatures() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret).expect("base64");
    let of_secret = verifier(&["HS256"], &secret, &json!({})).expect("a key");
    let es = json!({"keys": [{"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    let ed = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let set = |algorithm, set: &Value| {
        Verifier::new(options(&[algorithm], &json!({})), Source::Set(set.to_string().as_bytes()))
            .expect("a set")
    };
    let examples = [
        (of_secret, format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{payload}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")),
        (set("ES256", &es), format!("eyJhbGciOiJFUzI1NiJ9.{payload}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")),
        (set("EdDSA", &ed), "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned()),
    ];
    for (verifier, token) in examples {
        // They name no subject, which is judged after the signature.
        assert_eq!(verifier.verify(&token, 0).unwrap_err(), TokenError::BadClaims, "{token}");
        let wrong = token.replace(".dBj", ".eBj").replace(".DtE", ".EtE").replace(".hgy", ".igy");
        assert_eq!(verifier.verify(&wrong, 0).unwrap_err(), TokenError::BadSignature, "{wrong}");
    }
}

#[test]
fn times_count_with_the_leeway_also_for_a_token_that_is_known() {
    let verifier = verifier(&["HS256"], SECRET, &json!({})).expect("a key");
    let token = token("HS256", &json!({"iat": NOW, "nbf": NOW + 5, "exp": NOW as f64 + 60.5}));
    for (seconds, expected) in [
        (NOW - 6, Some(TokenError::NotYetValid)),
        (NOW - 5, None),
        (NOW + 70, None),
        (NOW + 71, Some(TokenError::Expired)),
        (NOW, None),
    ] {
        assert_eq!(verifier.verify(&token, today(seconds)).err(), expected, "{seconds}");
    }
    let verified = verifier.verify(&token, today(NOW)).expect("it counts");
    assert_eq!(verified.identity.expires(), Some(today(NOW) + 60_500));
    assert!(!verified.identity.has_ended(today(NOW + 70)) && verified.identity.has_ended(today(NOW + 71)));
}

#[test]
fn a_token_may_not_be_good_for_longer_than_it_may_live() {
    let verifier = verifier(&["HS256"], SECRET, &json!({"max_lifetime": 100})).expect("a key");
    for (claims, expected) in [
        (json!({"iat": NOW, "exp": NOW + 100}), None),
        (json!({"iat": NOW, "exp": NOW + 101}), Some(TokenError::TooLongLived)),
        (json!({"iat": null, "exp": NOW + 100}), None),
        (json!({"iat": null, "exp": NOW + 101}), Some(TokenError::TooLongLived)),
        (json!({"iat": NOW + 11, "exp": NOW + 100}), Some(TokenError::NotYetValid)),
    ] {
        assert_eq!(verifier.verify(&token("HS256", &claims), today(NOW)).err(), expected, "{claims}");
    }
}

#[test]
fn audience_and_issuer_have_to_be_those_of_this_server() {
    let both = json!({"audience": ["chat", "docs"], "issuer": ["https://id.example"]});
    let both = verifier(&["HS256"], SECRET, &both).expect("a key");
    let none = verifier(&["HS256"], SECRET, &json!({})).expect("a key");
    let (audience, issuer) = (Some(TokenError::WrongAudience), Some(TokenError::WrongIssuer));
    let good = "https://id.example";
    for (verifier, claims, expected) in [
        (&both, json!({"aud": "docs", "iss": good}), None),
        (&both, json!({"aud": ["else", "chat"], "iss": good}), None),
        (&both, json!({"aud": [], "iss": good}), audience),
        (&both, json!({"aud": "Chat", "iss": good}), audience),
        (&both, json!({"iss": good}), audience),
        (&both, json!({"aud": "chat"}), issuer),
        (&both, json!({"aud": "chat", "iss": "https://id.example/"}), issuer),
        (&none, json!({"iss": "anybody"}), None),
        (&none, json!({"aud": "somebody"}), audience),
    ] {
        assert_eq!(verifier.verify(&token("HS256", &claims), today(NOW)).err(), expected, "{claims}");
    }
}

#[test]
fn tokens_choose_among_the_keys_of_this_server_by_name() {
    let other: &[u8] = b"another secret, which is as long as the first one.";
    let keys = [("a", SECRET), ("b", other)].map(|(name, key)| (Some(name.to_owned()), key.to_vec()));
    let several = Verifier::new(options(&["HS256"], &json!({})), Source::Keys(&keys)).expect("keys");
    let with = |kid: &str| {
        let header = if kid.is_empty() {
            r#"{"alg":"HS256"}"#.into()
        } else {
            format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#)
        };
        token_of("HS256", &header, &json!({"sub": "ann", "exp": NOW + 60}).to_string())
    };
    for (kid, expected) in [
        ("a", None),
        ("b", Some(TokenError::BadSignature)),
        ("../../dev/null", Some(TokenError::UnknownKey)),
        ("", Some(TokenError::UnknownKey)),
    ] {
        assert_eq!(several.verify(&with(kid), today(NOW)).err(), expected, "{kid}");
    }
    // A key that is alone and has no name is for all.
    let alone = verifier(&["HS256"], SECRET, &json!({})).expect("a key");
    assert!(
        alone.verify(&with("whatever"), today(NOW)).is_ok() && alone.verify(&with(""), today(NOW)).is_ok()
    );
}

#[test]
fn a_set_has_public_keys_and_what_it_has_for_others_is_left_out() {
    let points = |pem: &str| {
        let der = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(der).expect("base64")
    };
    let (p256, p384, ed) = (points(P256), points(P384), points(ED25519));
    let half =
        |der: &[u8], bytes: usize, which: usize| encoded(&der[der.len() - bytes * (2 - which)..][..bytes]);
    let keys = json!([
        {"kty": "EC", "kid": "p256", "crv": "P-256", "x": half(&p256, 32, 0), "y": half(&p256, 32, 1)},
        {"kty": "EC", "kid": "p384", "crv": "P-384", "x": half(&p384, 48, 0), "y": half(&p384, 48, 1), "use": "sig", "alg": "ES384"},
        {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encoded(&ed[ed.len() - 32..]), "key_ops": ["verify"]},
        {"kty": "OKP", "kid": "x", "crv": "X25519", "x": "AA"},
        {"kty": "RSA", "kid": "encrypts", "use": "enc", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "kid": "oaep", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB"},
        {"kty": "new", "kid": "later"},
    ]);
    let set = json!({"keys": keys}).to_string();
    let algorithms = ["ES256", "ES384", "EdDSA"];
    let verifier =
        Verifier::new(options(&algorithms, &json!({})), Source::Set(set.as_bytes())).expect("a set");
    for (algorithm, kid, expected) in [
        ("ES256", "p256", None),
        ("ES384", "p384", None),
        ("EdDSA", "ed", None),
        ("ES256", "p384", Some(TokenError::WrongAlgorithm)),
        ("ES256", "oaep", Some(TokenError::UnknownKey)),
    ] {
        let header = json!({"alg": algorithm, "kid": kid}).to_string();
        let token = token_of(algorithm, &header, &json!({"sub": "a", "exp": NOW + 9}).to_string());
        assert_eq!(verifier.verify(&token, today(NOW)).err(), expected, "{algorithm} {kid}");
    }
}

#[test]
fn keys_that_are_weak_or_of_another_kind_are_refused_with_advice() {
    let weak = include_str!("../keys/rsa-1024.pem");
    let cases: [(&[&str], &[u8], &str); 18] = [
        (&["HS256"], b"short", "at least 32 bytes"),
        (&["HS256", "HS512"], &SECRET[..63], "HS512 needs a secret of at least 64 bytes"),
        (&["HS256"], b"  \n", "the key is empty"),
        (&["HS256"], RSA.as_bytes(), "this is a public key"),
        (&["HS256"], b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7", "this is a public key"),
        (
            &["HS256"],
            br#"{"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN", "e": "AQAB"}"#,
            "this is a public key",
        ),
        (&["RS256"], SECRET, "needs a public key in PEM"),
        (&["RS256"], b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7", "RS256 needs a public key in PEM"),
        (
            &["RS256"],
            br#"{"kty": "RSA", "n": "0vx7agoebGcQ", "e": "AQAB"}"#,
            "RS256 needs a public key in PEM",
        ),
        (&["RS256"], weak.as_bytes(), "this one has 1024"),
        (&["RS256"], include_bytes!("../keys/rsa.pem"), "private key"),
        (&["RS256"], include_bytes!("../keys/certificate.pem"), "openssl x509"),
        (&["RS256"], include_bytes!("../keys/rsa-pkcs1.pem"), "-RSAPublicKey_in"),
        (&["RS256"], P256.as_bytes(), "no public key that can be used"),
        (&["ES256"], include_bytes!("../keys/k256.pem"), "no public key that can be used"),
        (&["ES256"], b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (&["RS256", "ES256"], RSA.as_bytes(), "there is no key for ES256"),
        (&["none"], SECRET, "\"none\" is no algorithm"),
    ];
    for (algorithms, key, expected) in cases {
        let error = verifier(algorithms, key, &json!({})).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("short") && !error.contains("0vx7"), "{error}");
    }
    let with_words = format!("Bag Attributes\n    friendlyName: login\n{RSA}");
    assert!(verifier(&["RS256"], with_words.as_bytes(), &json!({})).is_ok());
    let as_secret = verifier(&["HS256"], with_words.as_bytes(), &json!({})).expect_err("public").to_string();
    assert!(as_secret.contains("this is a public key"), "{as_secret}");
    assert!(!format!("{:?}", verifier(&["HS256"], SECRET, &json!({}))).contains("secret"));
}

#[test]
fn sets_that_are_wrong_are_refused_with_advice() {
    let n = encoded([0xff; 256]);
    for (set, expected) in [
        (json!([]), "no JWK Set"),
        (json!({"keys": []}), "no key for these algorithms"),
        (json!({"keys": [{"kty": "oct", "k": "AAAA"}]}), "give it as key="),
        (json!({"keys": [{"kty": "RSA", "n": n}]}), "key 0 of the JWK Set can't be read"),
        (json!({"keys": [{"kty": "RSA", "n": n, "e": "Ag"}]}), "an exponent"),
        (json!({"keys": [{"kty": "RSA", "n": n, "e": "AQ"}]}), "an exponent"),
        (json!({"keys": [{"kty": "RSA", "n": encoded([0xff; 128]), "e": "AQAB"}]}), "1024"),
        (json!({"keys": [{"kty": "RSA", "n": encoded([0xff; 1025]), "e": "AQAB"}]}), "8200"),
        (json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}]}), "no uncompressed point"),
        (json!({"keys": vec![json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB"}); 2]}), "same kid"),
    ] {
        let algorithms = options(&["RS256", "ES256"], &json!({}));
        let error = Verifier::new(algorithms, Source::Set(set.to_string().as_bytes())).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (more, expected) in [
        (json!({"algorithms": []}), "name the algorithms"),
        (json!({"leeway": 61}), "0 to 60 seconds"),
        (json!({"max_lifetime": 0}), "more than 0 seconds"),
        (json!({"cookie": "a b"}), "name of a cookie"),
    ] {
        let error = verifier(&["HS256"], SECRET, &more).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(serde_json::from_str::<Options>(r#"{"algorithms": [], "secret": "x"}"#).is_err());
    assert_eq!(sign("HS256", b"").len(), 32);
}
