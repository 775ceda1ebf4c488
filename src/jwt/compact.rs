//! The form of a token: three parts of base64url with dots between them (RFC 7515 §7.1).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::message::validate;
use crate::token_error::TokenError;

/// A token in its parts. Nothing of it is verified.
pub(super) struct Compact<'a> {
    /// The first two parts, which are signed.
    pub signed: &'a str,
    pub header: String,
    payload: &'a str,
    pub signature: Vec<u8>,
}

/// What the header says that counts here. Keys in it, or places where some might be found, do not (`jwk`, `jku`, `x5u`, `x5c`).
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub alg: Cow<'a, str>,
    #[serde(borrow)]
    pub kid: Option<Cow<'a, str>>,
    /// Extensions that must be understood (RFC 7515 §4.1.11). None is.
    crit: Option<IgnoredAny>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    pub fn new(token: &'a str) -> Result<Self, TokenError> {
        let malformed = TokenError::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(malformed);
        }
        let header = text(header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed)?;
        Ok(Self { signed, header, payload, signature })
    }

    pub fn header(&self) -> Result<Header<'_>, TokenError> {
        let header: Header<'_> = object(&self.header).ok_or(TokenError::Malformed)?;
        if header.crit.is_some() { Err(TokenError::Malformed) } else { Ok(header) }
    }

    /// The claims, as they were signed.
    pub fn payload(&self) -> Result<String, TokenError> {
        text(self.payload)
    }
}

fn text(part: &str) -> Result<String, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    String::from_utf8(bytes).map_err(|_| TokenError::Malformed)
}

/// Reads a JSON object that every reader understands alike: no key twice, no number that some readers round.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    // A list would do for serde, too.
    let is_object = json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    validate(json, 0).ok().filter(|_| is_object)?;
    serde_json::from_str(json).ok()
}
