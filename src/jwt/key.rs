//! The keys of a server: read, judged, and used.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::algorithm::{Algorithm, Kind};
use super::der::{PublicKey, public_key};

/// A key, with what it may be used for.
pub(super) struct Key {
    /// Tells it apart from all other keys of this process.
    pub number: u64,
    /// The name by which tokens choose it.
    pub id: Option<Box<str>>,
    /// The only algorithm for which it is, if its set says that.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(PartialEq, Eq)]
enum Material {
    Secret(Box<[u8]>),
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    /// A point of P-256, P-384 or Ed25519.
    Point(Kind, Box<[u8]>),
}

/// It is never shown.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:?})", self.kind())
    }
}

/// Why a key can't be used. The text says what to do, and never repeats the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing was given.
    #[error("the key is empty")]
    Empty,
    /// It has a private half, which a server that verifies does not need.
    #[error(
        "this is a private key, and verifying needs only its public half: `openssl pkey -in key.pem -pubout`"
    )]
    Private,
    /// It is wrapped in a certificate.
    #[error(
        "this is a certificate: take the public key out of it with `openssl x509 -in cert.pem -pubkey -noout`"
    )]
    Certificate,
    /// It is in an older form.
    #[error(
        "this public key has an older form of PEM: `openssl rsa -RSAPublicKey_in -in key.pem -pubout` makes the usual one"
    )]
    OldForm,
    /// It is a PEM file without a key that can be used.
    #[error("this PEM has no public key that can be used: it must have RSA, P-256, P-384 or Ed25519")]
    NoPublicKey,
    /// A public key that would be used as a secret.
    #[error("{0} needs a secret, and this is a public key: everybody who knows it could sign tokens")]
    PublicAsSecret(&'static str),
    /// A secret, or a public key in another form, that would be used as a public key.
    #[error("{0} needs a public key in PEM (-----BEGIN PUBLIC KEY-----), and this is none")]
    SecretAsPublic(&'static str),
    /// A secret that can be guessed.
    #[error(
        "{algorithm} needs a secret of at least {needed} bytes, and this one has {found}: make one with \
         `python -c \"import secrets; print(secrets.token_urlsafe({needed}))\"`"
    )]
    ShortSecret {
        /// For which algorithm.
        algorithm: &'static str,
        /// Bytes that it must have.
        needed: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// An RSA key that is too weak, or so large that verifying is an attack.
    #[error("an RSA key must have 2048 to 8192 bits, and this one has {0}: make a new one")]
    RsaSize(usize),
    /// An RSA key whose exponent is not one.
    #[error("this RSA key has an exponent that is not odd, or not from 3 to 2^32")]
    RsaExponent,
    /// A point of a wrong length.
    #[error("this key is no uncompressed point of its curve")]
    Point,
    /// A set of keys that can't be read.
    #[error("this is no JWK Set: {{\"keys\": [{{\"kty\": …}}, …]}} is one")]
    NotASet,
    /// A set with a secret.
    #[error("the JWK Set has a secret (\"kty\": \"oct\"), and sets are for public keys: give it as key=")]
    SecretInSet,
    /// A key of a set has a wrong form.
    #[error("key {0} of the JWK Set can't be read")]
    InSet(usize),
    /// A key of a set is too weak.
    #[error("key {0} of the JWK Set: {1}")]
    WeakInSet(usize, Box<KeyError>),
    /// Two keys have one name.
    #[error("two keys have the same kid")]
    SameId,
    /// A set without keys that can be used.
    #[error("the JWK Set has no key for these algorithms")]
    NoneInSet,
}

impl Key {
    /// Reads a key that was given by itself: PEM, or a secret. It has to fit these algorithms.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn new(id: Option<&str>, text: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let Some(first) = algorithms.first().filter(|_| !text.trim_ascii().is_empty()) else {
            return Err(KeyError::Empty);
        };
        let material = match pem(text)? {
            Some(material) => material,
            None if looks_public(text) && first.kind() == Kind::Secret => {
                return Err(KeyError::PublicAsSecret(first.name()));
            }
            None if looks_public(text) => return Err(KeyError::SecretAsPublic(first.name())),
            None => Material::Secret(text.into()),
        };
        let key = Self::made(id, None, material);
        if !algorithms.iter().any(|algorithm| key.fits(*algorithm)) {
            let is_secret = key.kind() == Kind::Secret;
            let error = if is_secret { KeyError::SecretAsPublic } else { KeyError::PublicAsSecret };
            return Err(if first.kind() == Kind::Secret || is_secret {
                error(first.name())
            } else {
                KeyError::NoPublicKey
            });
        }
        key.check(algorithms)?;
        Ok(key)
    }

    /// Reads a JWK Set (RFC 7517 §5). Keys that are for something else are left out.
    ///
    /// # Errors
    /// [`KeyError`] says which key is wrong, or that none is left.
    pub fn of_set(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Self>, KeyError> {
        let set: JwkSet<'_> = serde_json::from_slice(json).map_err(|_| KeyError::NotASet)?;
        let mut keys: Vec<Self> = Vec::new();
        for (place, raw) in set.keys.into_iter().enumerate() {
            let jwk: Jwk = serde_json::from_str(raw.get()).map_err(|_| KeyError::InSet(place))?;
            if jwk.kty == "oct" {
                return Err(KeyError::SecretInSet);
            }
            let Some(key) = jwk.key().map_err(|()| KeyError::InSet(place))? else { continue };
            if !algorithms.iter().any(|algorithm| key.fits(*algorithm)) {
                continue;
            }
            key.check(algorithms).map_err(|error| KeyError::WeakInSet(place, Box::new(error)))?;
            if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                return Err(KeyError::SameId);
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyError::NoneInSet) } else { Ok(keys) }
    }

    fn made(id: Option<&str>, only: Option<Algorithm>, material: Material) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { number, id: id.map(Into::into), only, material }
    }

    /// Whether it is the same key for the same use under the same name.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.id, self.only, &self.material) == (&other.id, other.only, &other.material)
    }

    fn kind(&self) -> Kind {
        match &self.material {
            Material::Secret(_) => Kind::Secret,
            Material::Rsa { .. } => Kind::Rsa,
            Material::Point(kind, _) => *kind,
        }
    }

    /// Whether a token with this algorithm may have been signed with it.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        algorithm.kind() == self.kind() && self.only.is_none_or(|only| only == algorithm)
    }

    /// What verifying one signature costs, in bytes that could have been read meanwhile: 1 KiB for each µs, and a little more.
    pub fn cost(&self, algorithm: Algorithm) -> usize {
        match (&self.material, algorithm.kind()) {
            (Material::Rsa { modulus, .. }, _) => modulus.len().pow(2),
            (_, Kind::P384) => 1280 << 10,
            (_, Kind::P256 | Kind::Ed25519) => 128 << 10,
            (_, Kind::Secret | Kind::Rsa) => 16 << 10,
        }
    }

    /// Whether the signature is that of the message.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Secret(secret) => {
                algorithm.hmac().map(|hmac| hmac::verify(&hmac::Key::new(hmac, secret), message, signature))
            }
            Material::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                algorithm.rsa().map(|parameters| key.verify(parameters, message, signature))
            }
            Material::Point(_, point) => {
                let verify = |curve| UnparsedPublicKey::new(curve, point).verify(message, signature);
                algorithm.curve().map(verify)
            }
        };
        self.fits(algorithm) && verified.is_some_and(|verified| verified.is_ok())
    }

    /// Whether it is strong enough for these algorithms.
    fn check(&self, algorithms: &[Algorithm]) -> Result<(), KeyError> {
        match &self.material {
            Material::Secret(secret) => {
                for algorithm in algorithms {
                    let (needed, found) = (algorithm.hash_bytes(), secret.len());
                    if found < needed {
                        return Err(KeyError::ShortSecret { algorithm: algorithm.name(), needed, found });
                    }
                }
            }
            Material::Rsa { modulus, exponent } => {
                let first = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
                let bits = (modulus.len() * 8).saturating_sub(first);
                if !(2048..=8192).contains(&bits) {
                    return Err(KeyError::RsaSize(bits));
                }
                let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                if exponent.len() > 4 || value < 3 || value % 2 == 0 {
                    return Err(KeyError::RsaExponent);
                }
            }
            Material::Point(kind, point) => {
                let is_whole = match kind {
                    Kind::P256 => point.len() == 65 && point[0] == UNCOMPRESSED,
                    Kind::P384 => point.len() == 97 && point[0] == UNCOMPRESSED,
                    _ => point.len() == 32,
                };
                if !is_whole {
                    return Err(KeyError::Point);
                }
            }
        }
        Ok(())
    }
}

impl From<PublicKey<'_>> for Material {
    fn from(key: PublicKey<'_>) -> Self {
        match key {
            PublicKey::Rsa { modulus, exponent } => {
                Self::Rsa { modulus: modulus.into(), exponent: exponent.into() }
            }
            PublicKey::Point(kind, point) => Self::Point(kind, point.into()),
        }
    }
}

/// Reads PEM, which may have lines for people before it. `None`: it is something else.
fn pem(text: &[u8]) -> Result<Option<Material>, KeyError> {
    if !has(text, b"-----BEGIN") {
        return Ok(None);
    }
    if has(text, b"-----BEGIN RSA PUBLIC KEY") {
        return Err(KeyError::OldForm);
    }
    let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(text).map_err(|_| KeyError::NoPublicKey)?;
    match kind {
        SectionKind::PublicKey => public_key(&der).map(|key| Some(key.into())).ok_or(KeyError::NoPublicKey),
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
            Err(KeyError::Private)
        }
        SectionKind::Certificate => Err(KeyError::Certificate),
        _ => Err(KeyError::NoPublicKey),
    }
}

/// Whether it is a public key in a form that is not read here. As a secret it would be known to everybody.
fn looks_public(text: &[u8]) -> bool {
    let start = text.trim_ascii_start();
    start.starts_with(b"ssh-") || start.starts_with(b"ecdsa-sha2-") || has(text, b"\"kty\"")
}

fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[derive(Deserialize)]
struct JwkSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// One key of a set (RFC 7517 §4, RFC 7518 §6).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// The key; `None` when it is for something else. An error: a part of it is missing or is no base64.
    fn key(&self) -> Result<Option<Key>, ()> {
        let only = self.alg.as_deref().map(Algorithm::from_name);
        let signs = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !signs || only == Some(None) {
            return Ok(None);
        }
        let material = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { modulus: number(&self.n)?, exponent: number(&self.e)? },
            ("EC", Some("P-256")) => point(Kind::P256, &self.x, &self.y)?,
            ("EC", Some("P-384")) => point(Kind::P384, &self.x, &self.y)?,
            ("OKP", Some("Ed25519")) => Material::Point(Kind::Ed25519, bytes(&self.x)?.into()),
            _ => return Ok(None),
        };
        Ok(Some(Key::made(self.kid.as_deref(), only.flatten(), material)))
    }
}

fn bytes(text: &Option<String>) -> Result<Vec<u8>, ()> {
    URL_SAFE_NO_PAD.decode(text.as_deref().ok_or(())?).map_err(|_| ())
}

/// A number without leading zeros.
fn number(text: &Option<String>) -> Result<Box<[u8]>, ()> {
    let bytes = bytes(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].into())
}

fn point(kind: Kind, x: &Option<String>, y: &Option<String>) -> Result<Material, ()> {
    let (x, y) = (bytes(x)?, bytes(y)?);
    let point = [&[UNCOMPRESSED], &*x, &*y].concat();
    Ok(Material::Point(kind, if x.len() == y.len() { point.into() } else { Box::default() }))
}

/// How a point begins that has both of its coordinates (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;
