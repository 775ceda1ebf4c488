//! Signs tokens for tests, as an issuer would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use ring::{digest, hmac};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use umbel::jwt::{Options, OptionsError, Source, Verifier};

/// Seconds of Unix time at which the tests are.
pub const NOW: u64 = 1_800_000_000;

/// Bytes that suffice for all algorithms with a secret.
pub const SECRET: &[u8] = b"a secret of sixty-four bytes, which is what HS512 wants to have.";

pub const RSA: &str = include_str!("../keys/rsa-public.pem");
pub const P256: &str = include_str!("../keys/p256-public.pem");
pub const P384: &str = include_str!("../keys/p384-public.pem");
pub const ED25519: &str = include_str!("../keys/ed25519-public.pem");

/// The key in `tests/keys` that verifies what [`sign`] signs.
pub fn key_of(algorithm: &str) -> &'static [u8] {
    match &algorithm[..2] {
        "HS" => SECRET,
        "RS" | "PS" => RSA.as_bytes(),
        _ => match algorithm {
            "ES256" => P256.as_bytes(),
            "ES384" => P384.as_bytes(),
            _ => ED25519.as_bytes(),
        },
    }
}

pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs a text with one of the private keys in `tests/keys`, or the secret.
pub fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let hmac = |hash| hmac::sign(&hmac::Key::new(hash, SECRET), message).as_ref().to_vec();
    let rsa = |encoding: &'static dyn signature::RsaEncoding| {
        let key = RsaKeyPair::from_pkcs8(&private(include_str!("../keys/rsa.pem"))).expect("a key");
        let mut out = vec![0; key.public().modulus_len()];
        key.sign(encoding, &random, message, &mut out).expect("a signature");
        out
    };
    let curve = |algorithm, pem| {
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &private(pem), &random).expect("a key");
        key.sign(&random, message).expect("a signature").as_ref().to_vec()
    };
    match algorithm {
        "HS256" => hmac(hmac::HMAC_SHA256),
        "HS384" => hmac(hmac::HMAC_SHA384),
        "HS512" => hmac(hmac::HMAC_SHA512),
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
        "PS256" => rsa(&signature::RSA_PSS_SHA256),
        "PS384" => rsa(&signature::RSA_PSS_SHA384),
        "PS512" => rsa(&signature::RSA_PSS_SHA512),
        "ES256" => curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, include_str!("../keys/p256.pem")),
        "ES384" => curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, include_str!("../keys/p384.pem")),
        "EdDSA" => {
            let pem = private(include_str!("../keys/ed25519.pem"));
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem).expect("a key");
            key.sign(message).as_ref().to_vec()
        }
        _ => digest::digest(&digest::SHA256, message).as_ref().to_vec(),
    }
}

fn private(pem: &str) -> Vec<u8> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("PEM").secret_pkcs8_der().to_vec()
}

/// A token with this header and this payload, whatever they are, signed as the first argument says.
pub fn token_of(algorithm: &str, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(payload));
    format!("{signed}.{}", encoded(sign(algorithm, signed.as_bytes())))
}

/// A token that is legal, with other claims beside or instead of these.
pub fn token(algorithm: &str, more: &Value) -> String {
    let mut claims = json!({"sub": "ann", "iat": NOW - 10, "exp": NOW + 3600});
    for (name, value) in more.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let claims = claims.as_object().expect("claims").iter().filter(|(_, value)| !value.is_null());
    let claims: serde_json::Map<_, _> = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
    token_of(algorithm, &json!({"alg": algorithm, "typ": "JWT"}).to_string(), &json!(claims).to_string())
}

/// The options of a verifier, with others instead of the usual ones.
pub fn options(algorithms: &[&str], more: &Value) -> Options {
    let mut options = json!({
        "algorithms": algorithms, "audience": [], "issuer": [], "leeway": 10, "max_lifetime": 86400, "cookie": null,
    });
    for (name, value) in more.as_object().expect("options") {
        options[name] = value.clone();
    }
    serde_json::from_value(options).expect("options")
}

/// A verifier with one key and no name for it.
pub fn verifier(algorithms: &[&str], key: &[u8], more: &Value) -> Result<Verifier, OptionsError> {
    Verifier::new(options(algorithms, more), Source::Keys(&[(None, key.to_vec())]))
}
