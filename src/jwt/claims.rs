//! What a token says (RFC 7519 §4.1).

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::compact::object;
use crate::identity::{Identity, Validity};
use crate::rights::Rights;
use crate::token_error::TokenError;

/// What is expected of claims. Times are in milliseconds.
pub(super) struct Expected {
    pub audience: Vec<String>,
    pub issuer: Vec<String>,
    pub leeway: u64,
    pub max_lifetime: u64,
}

/// A token that counts.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whom it names.
    pub identity: Arc<Identity>,
    /// All that it says: a JSON object.
    pub claims: Arc<str>,
}

/// The claims that count here. Times are in milliseconds of Unix time.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    #[serde(deserialize_with = "millis")]
    exp: u64,
    #[serde(default, deserialize_with = "some_millis")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "some_millis")]
    iat: Option<u64>,
    iss: Option<String>,
    aud: Option<Audience>,
    channels: Option<Value>,
    publish: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    pub fn new(json: &str) -> Result<Self, TokenError> {
        let claims: Self = object(json).ok_or(TokenError::BadClaims)?;
        if claims.sub.is_empty() { Err(TokenError::BadClaims) } else { Ok(claims) }
    }

    /// Judges what does not change with time, and says who the client is.
    pub fn identity(&self, expected: &Expected, today: u64) -> Result<Identity, TokenError> {
        let Expected { audience, issuer, leeway, max_lifetime } = expected;
        let is_issuer = |issuer: &String| self.iss.as_ref() == Some(issuer);
        if !issuer.is_empty() && !issuer.iter().any(is_issuer) {
            return Err(TokenError::WrongIssuer);
        }
        let named = match &self.aud {
            None => &[][..],
            Some(Audience::One(name)) => std::slice::from_ref(name),
            Some(Audience::Several(names)) => names,
        };
        // A token that names audiences is not for a server that names none (RFC 7519 §4.1.3).
        let is_meant = named.iter().any(|name| audience.contains(name));
        if !(is_meant || audience.is_empty() && named.is_empty()) {
            return Err(TokenError::WrongAudience);
        }
        if self.iat.is_some_and(|iat| self.exp.saturating_sub(iat) > *max_lifetime) {
            return Err(TokenError::TooLongLived);
        }
        let rights = Rights::new(self.channels.as_ref(), self.publish.as_ref()).map(Box::new);
        let validity = Validity::new(self.exp, *leeway, self.iat.unwrap_or(today));
        Ok(Identity { subject: self.sub.as_str().into(), validity: Some(validity), rights })
    }

    /// The times that are judged each time that the token is shown.
    pub fn times(&self) -> Times {
        let starts = self.nbf.unwrap_or(0).max(self.iat.unwrap_or(0));
        Times { starts, expires: self.exp, issued: self.iat }
    }
}

/// When a token counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    starts: u64,
    expires: u64,
    /// When it was issued, if it says that.
    pub issued: Option<u64>,
}

impl Times {
    /// Whether the token counts today.
    pub fn check(&self, expected: &Expected, today: u64) -> Result<(), TokenError> {
        let Expected { leeway, max_lifetime, .. } = *expected;
        if self.expires.saturating_add(leeway) <= today {
            return Err(TokenError::Expired);
        }
        if self.starts > today.saturating_add(leeway) {
            return Err(TokenError::NotYetValid);
        }
        // One that does not say since when it is good is judged by the time that it has left.
        if self.issued.is_none() && self.expires.saturating_sub(today) > max_lifetime {
            return Err(TokenError::TooLongLived);
        }
        Ok(())
    }
}

/// A `NumericDate`: seconds of Unix time, which need not be whole.
fn millis<'a, D: Deserializer<'a>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if (0.0..LATEST).contains(&seconds) {
        Ok((seconds * 1000.0) as u64)
    } else {
        Err(serde::de::Error::custom("no time in seconds"))
    }
}

fn some_millis<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    millis(deserializer).map(Some)
}

/// The year 5138, in seconds. Milliseconds of today are more.
const LATEST: f64 = 1e11;
