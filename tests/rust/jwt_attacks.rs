//! Attacks on libraries for tokens that were published, and what each does here.
//!
//! The names are those of RFC 8725 ("JWT Best Current Practices"), of the advisories, or of what they are known as. Each token would be
//! accepted by a library with that defect.

use serde_json::json;
use umbel::jwt::{LONGEST_TOKEN, Source, Verifier};
use umbel::token_error::TokenError::{
    self, BadClaims, BadSignature, Malformed, TooLong, UnknownKey, WrongAlgorithm,
};

use crate::jwt_signing::{NOW, RSA, SECRET, encoded, key_of, options, sign, token, token_of, verifier};

fn judge(verifier: &Verifier, token: &str) -> Option<TokenError> {
    verifier.verify(token, NOW * 1000).err()
}

fn of_secret() -> Verifier {
    verifier(&["HS256"], SECRET, &json!({})).expect("a key")
}

fn of_rsa() -> Verifier {
    verifier(&["RS256"], RSA.as_bytes(), &json!({})).expect("a key")
}

fn claims() -> String {
    json!({"sub": "admin", "iat": NOW, "exp": NOW + 60}).to_string()
}

/// Known since 2015, and found in new libraries every year: the token says that it has no signature.
#[test]
fn a_token_without_a_signature_does_not_count() {
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", "HS256\u{0}", "hs256", "HS256 "] {
        let header = json!({"alg": alg}).to_string();
        for verifier in [of_secret(), of_rsa()] {
            let unsigned = format!("{}.{}.", encoded(&header), encoded(claims()));
            assert_eq!(judge(&verifier, &unsigned), Some(Malformed), "{alg}");
            let signed = token_of("HS256", &header, &claims());
            assert_eq!(judge(&verifier, &signed), Some(WrongAlgorithm), "{alg}");
        }
    }
    for header in
        ["{}", r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"["HS256",null,null]"#, "null", "\"HS256\""]
    {
        assert_eq!(judge(&of_secret(), &token_of("HS256", header, &claims())), Some(Malformed), "{header}");
    }
}

/// CVE-2015-9235, CVE-2016-5431, CVE-2016-10555, CVE-2022-29217: the public key, which everybody has, is used as a secret.
#[test]
fn a_public_key_is_no_secret() {
    let header = r#"{"alg":"HS256"}"#;
    let signed = format!("{}.{}", encoded(header), encoded(claims()));
    for key in [RSA, RSA.trim_end(), &RSA.replace('\n', "\r\n")] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let forged = format!("{signed}.{}", encoded(ring::hmac::sign(&key, signed.as_bytes())));
        assert_eq!(judge(&of_rsa(), &forged), Some(WrongAlgorithm));
        // Also where both kinds are allowed, because each key is of one kind.
        let keys = [("rsa", RSA.as_bytes()), ("secret", SECRET)];
        let keys = keys.map(|(name, key)| (Some(name.to_owned()), key.to_vec()));
        let both =
            Verifier::new(options(&["RS256", "HS256"], &json!({})), Source::Keys(&keys)).expect("keys");
        assert_eq!(judge(&both, &forged), Some(BadSignature), "it is verified with the secret");
        let named = forged.replacen(&encoded(header), &encoded(r#"{"alg":"HS256","kid":"rsa"}"#), 1);
        assert_eq!(judge(&both, &named), Some(WrongAlgorithm));
    }
}

/// RFC 8725 §2.1: another algorithm of the same kind than the one that is configured.
#[test]
fn only_the_configured_algorithms_count() {
    for other in ["HS384", "HS512"] {
        assert_eq!(judge(&of_secret(), &token(other, &json!({}))), Some(WrongAlgorithm), "{other}");
    }
    for other in ["RS384", "PS256", "PS512", "ES256", "EdDSA"] {
        assert_eq!(judge(&of_rsa(), &token(other, &json!({}))), Some(WrongAlgorithm), "{other}");
    }
}

/// CVE-2018-0114: the token brings its own key, or says where to find it.
#[test]
fn a_key_in_the_token_is_ignored() {
    let own = json!({"kty": "oct", "k": encoded("mine")});
    for (name, value) in [
        ("jwk", own),
        ("jku", json!("https://attacker.example/jwks")),
        ("x5u", json!("https://attacker.example/cert")),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = json!({"alg": "HS256", name: value}).to_string();
        let signed = format!("{}.{}", encoded(&header), encoded(claims()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"mine");
        let forged = format!("{signed}.{}", encoded(ring::hmac::sign(&key, signed.as_bytes())));
        assert_eq!(judge(&of_secret(), &forged), Some(BadSignature), "{name}");
        assert_eq!(
            judge(&of_secret(), &token_of("HS256", &header, &claims())),
            None,
            "{name}: it is not looked at"
        );
    }
}

/// The name of the key leads to a file or into a database.
#[test]
fn the_name_of_a_key_is_only_compared() {
    let keys = [(Some("k1".to_owned()), SECRET.to_vec()), (Some("k2".to_owned()), key_of("HS256").to_vec())];
    let verifier = Verifier::new(options(&["HS256"], &json!({})), Source::Keys(&keys)).expect("keys");
    for kid in ["/dev/null", "../../../etc/hostname", "x' UNION SELECT 'secret", "K1", "k1\u{0}", " k1"] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        assert_eq!(judge(&verifier, &token_of("HS256", &header, &claims())), Some(UnknownKey), "{kid}");
    }
    for kid in [json!(["k1"]), json!({"k1": 1}), json!(1)] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        assert_eq!(judge(&verifier, &token_of("HS256", &header, &claims())), Some(Malformed), "{kid}");
    }
}

/// CVE-2022-21449 ("psychic signatures"): a signature of zeros is good for every message and every key.
#[test]
fn signatures_of_zeros_do_not_count() {
    for (algorithm, bytes) in
        [("ES256", 64), ("ES384", 96), ("EdDSA", 64), ("RS256", 256), ("PS256", 256), ("HS256", 32)]
    {
        let verifier = verifier(&[algorithm], key_of(algorithm), &json!({})).expect("a key");
        let signed = format!("{}.{}", encoded(json!({"alg": algorithm}).to_string()), encoded(claims()));
        for byte in [0, 1, 0xff] {
            let forged = format!("{signed}.{}", encoded(vec![byte; bytes]));
            assert_eq!(judge(&verifier, &forged), Some(BadSignature), "{algorithm}");
        }
    }
}

/// A signature that is cut, padded or written in another form (DER) is made to fit.
#[test]
fn a_signature_has_its_length() {
    for algorithm in ["HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let verifier = verifier(&[algorithm], key_of(algorithm), &json!({})).expect("a key");
        let signed = format!("{}.{}", encoded(json!({"alg": algorithm}).to_string()), encoded(claims()));
        let signature = sign(algorithm, signed.as_bytes());
        let (half, whole) = (signature.len() / 2, &signature[..]);
        let der = [&[0x30, 0x44, 0x02, 0x20], &whole[..half], &[0x02, 0x20], &whole[half..]].concat();
        for other in [&whole[..1], &whole[..half], &whole[..whole.len() - 1], &[whole, &[0]].concat(), &der] {
            let forged = format!("{signed}.{}", encoded(other));
            assert_eq!(judge(&verifier, &forged), Some(BadSignature), "{algorithm} {}", other.len());
        }
        assert_eq!(judge(&verifier, &format!("{signed}.{}", encoded(whole))), None);
    }
}

/// GHSA-752w-5fwx-jx9f: extensions that must be understood are passed over (RFC 7515 §4.1.11, RFC 7797).
#[test]
fn extensions_are_not_passed_over() {
    for header in [
        json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "HS256", "crit": []}),
        json!({"alg": "HS256", "crit": "exp"}),
    ] {
        assert_eq!(
            judge(&of_secret(), &token_of("HS256", &header.to_string(), &claims())),
            Some(Malformed),
            "{header}"
        );
    }
}

/// Two readers see two tokens: a name twice (RFC 8725 §2.4 and RFC 7515 §4), forms of base64 that mean the same, parts too many.
#[test]
fn a_token_can_be_read_in_one_way_only() {
    let good = token("HS256", &json!({}));
    let [header, payload, signature] = &good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    for other in [
        format!("{good}="),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}"),
        format!("..{signature}"),
        format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")) + "/",
        String::new(),
        "..".into(),
        "a.b.c".into(),
        "\u{0}.\u{1}.é".into(),
        // An encrypted token has five parts.
        format!("{header}.{payload}.{signature}.{payload}.{signature}"),
    ] {
        assert_eq!(judge(&of_secret(), &other), Some(Malformed), "{other:?}");
    }
    // The last character of a signature of 32 bytes has two bits that mean nothing.
    let last = signature.chars().last().expect("a signature");
    for other in ('A'..='Z').chain('a'..='z').chain('0'..='9').filter(|other| *other != last) {
        let other = format!("{header}.{payload}.{}{other}", &signature[..signature.len() - 1]);
        assert!(judge(&of_secret(), &other).is_some(), "{other}");
    }
    for header in
        [r#"{"alg":"HS256","alg":"none"}"#, r#"{"alg":"HS256","kid":"a","kid":"b"}"#, r#"{"alg":"HS256"} {}"#]
    {
        assert_eq!(judge(&of_secret(), &token_of("HS256", header, &claims())), Some(Malformed), "{header}");
    }
    let (exp, end) = (NOW + 60, NOW * 2);
    for payload in [
        format!(r#"{{"sub":"ann","sub":"admin","exp":{exp}}}"#),
        format!(r#"{{"sub":"ann","s\u0075b":"admin","exp":{exp}}}"#),
        format!(r#"{{"sub":"ann","exp":{exp},"exp":{end}}}"#),
        format!(r#"{{"sub":"ann","exp":{exp},"role":"user","role":"admin"}}"#),
        format!(r#"{{"sub":"ann","exp":{exp}}}{{}}"#),
        format!(r#"["ann",{exp},null,null,null,null]"#),
        format!(r#"{{"sub":"\ud800","exp":{exp}}}"#),
        format!("{}1{}", "[".repeat(1000), "]".repeat(1000)),
    ] {
        assert_eq!(
            judge(&of_secret(), &token_of("HS256", r#"{"alg":"HS256"}"#, &payload)),
            Some(BadClaims),
            "{payload}"
        );
    }
}

/// Claims that are missing or of another type are taken for "no limit" (jsonwebtoken before 10.3, and others).
#[test]
fn claims_have_their_types() {
    let exp = NOW + 60;
    for claims in [
        json!({"exp": exp}),
        json!({"sub": "", "exp": exp}),
        json!({"sub": null, "exp": exp}),
        json!({"sub": 7, "exp": exp}),
        json!({"sub": ["ann"], "exp": exp}),
        json!({"sub": "ann"}),
        json!({"sub": "ann", "exp": null}),
        json!({"sub": "ann", "exp": exp.to_string()}),
        json!({"sub": "ann", "exp": true}),
        json!({"sub": "ann", "exp": [exp]}),
        json!({"sub": "ann", "exp": -1}),
        json!({"sub": "ann", "exp": 1e300}),
        json!({"sub": "ann", "exp": exp * 1000}),
        json!({"sub": "ann", "exp": exp, "nbf": "2000-01-01"}),
        json!({"sub": "ann", "exp": exp, "nbf": null}),
        json!({"sub": "ann", "exp": exp, "iat": {}}),
        json!({"sub": "ann", "exp": exp, "aud": 7}),
        json!({"sub": "ann", "exp": exp, "aud": [7]}),
        json!({"sub": "ann", "exp": exp, "iss": ["a"]}),
    ] {
        let token = token_of("HS256", r#"{"alg":"HS256"}"#, &claims.to_string());
        assert_eq!(judge(&of_secret(), &token), Some(BadClaims), "{claims}");
    }
}

/// CVE-2024-28180 and others: a token that makes the server work, because it is inflated or parsed without a bound.
#[test]
fn a_token_is_bounded() {
    let pad = |bytes: usize| json!({"sub": "ann", "exp": NOW + 60, "pad": "x".repeat(bytes)}).to_string();
    let long = token_of("HS256", r#"{"alg":"HS256"}"#, &pad(LONGEST_TOKEN));
    assert_eq!(judge(&of_secret(), &long), Some(TooLong));
    let fits = token_of("HS256", r#"{"alg":"HS256"}"#, &pad(5900));
    assert!(fits.len() <= LONGEST_TOKEN);
    assert_eq!(judge(&of_secret(), &fits), None);
    assert_eq!(judge(&of_secret(), &"x".repeat(64 << 10)), Some(TooLong));
    assert_eq!(judge(&of_secret(), &".".repeat(LONGEST_TOKEN)), Some(Malformed));
    // Compression is no part of a signed token.
    let header = r#"{"alg":"HS256","zip":"DEF"}"#;
    assert_eq!(judge(&of_secret(), &token_of("HS256", header, "\u{1f}")), Some(BadClaims));
}

/// A cache that goes by a part of the token lets others in.
#[test]
fn what_was_verified_once_does_not_speak_for_others() {
    let verifier = of_secret();
    let good = token("HS256", &json!({}));
    assert_eq!(judge(&verifier, &good), None);
    let (signed, signature) = good.rsplit_once('.').expect("parts");
    let admin = token("HS256", &json!({"sub": "admin"}));
    let (other, _) = admin.rsplit_once('.').expect("parts");
    assert_eq!(judge(&verifier, &format!("{other}.{signature}")), Some(BadSignature));
    assert_eq!(judge(&verifier, &format!("{signed}.{}", encoded([0; 32]))), Some(BadSignature));
    assert_eq!(judge(&verifier, &good), None);
}
