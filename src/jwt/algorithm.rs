//! The algorithms that a token may be signed with.

use ring::hmac;
use ring::signature::{self, RsaParameters};

/// How a token is signed (RFC 7518 §3, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// What kind of key an algorithm needs. Each key is of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};

/// All of them, as a header names them. There is no `none`.
pub(super) const NAMES: [(&str, Algorithm); 12] = [
    ("HS256", Hs256),
    ("HS384", Hs384),
    ("HS512", Hs512),
    ("RS256", Rs256),
    ("RS384", Rs384),
    ("RS512", Rs512),
    ("PS256", Ps256),
    ("PS384", Ps384),
    ("PS512", Ps512),
    ("ES256", Es256),
    ("ES384", Es384),
    ("EdDSA", EdDsa),
];

impl Algorithm {
    /// The algorithm of this name. Case counts (RFC 7515 §4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, algorithm)| *algorithm)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, other)| *other == self).map_or("", |(name, _)| name)
    }

    pub const fn kind(self) -> Kind {
        match self {
            Hs256 | Hs384 | Hs512 => Kind::Secret,
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => Kind::Rsa,
            Es256 => Kind::P256,
            Es384 => Kind::P384,
            EdDsa => Kind::Ed25519,
        }
    }

    /// With a secret.
    pub fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Hs256 => Some(hmac::HMAC_SHA256),
            Hs384 => Some(hmac::HMAC_SHA384),
            Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    /// With an RSA key.
    pub fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    /// With a point on a curve.
    pub fn curve(self) -> Option<&'static dyn signature::VerificationAlgorithm> {
        match self {
            Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
            EdDsa => Some(&signature::ED25519),
            _ => None,
        }
    }

    /// Bytes of its hash, which a secret must have at least (RFC 7518 §3.2).
    pub fn hash_bytes(self) -> usize {
        self.hmac().map_or(0, |algorithm| algorithm.digest_algorithm().output_len())
    }
}
