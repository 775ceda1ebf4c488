//! Says whether a token counts.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::algorithm::{Algorithm, NAMES};
use super::cache::{Cache, Counted, Fingerprint};
use super::claims::{Claims, Expected, Verified};
use super::compact::Compact;
use super::key::{Key, KeyError};
use super::revoked::{Revoked, TooManyRevoked};
use crate::rules::seconds;
use crate::token_error::TokenError;

/// Longest token, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;

/// Which tokens count, beside their keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Names of the algorithms.
    pub algorithms: Vec<String>,
    /// Of these audiences a token has to name one. Empty: it must name none.
    pub audience: Vec<String>,
    /// One of these has to be its issuer. Empty: all may.
    pub issuer: Vec<String>,
    /// What clocks may differ.
    #[serde(deserialize_with = "seconds")]
    pub leeway: Duration,
    /// Longest time from the issue of a token to its end.
    #[serde(deserialize_with = "seconds")]
    pub max_lifetime: Duration,
    /// The cookie that may have a token.
    pub cookie: Option<String>,
}

/// Why there can be no verifier. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// It is not the JSON of [`Options`].
    #[error("not the options of a verifier: {0}")]
    Syntax(#[from] serde_json::Error),
    /// No algorithm was named.
    #[error("name the algorithms of your tokens, as in algorithms=[\"HS256\"]")]
    NoAlgorithm,
    /// An algorithm that there is not.
    #[error("{0:?} is no algorithm for tokens: choose from {list}", list = NAMES.map(|(name, _)| name).join(", "))]
    UnknownAlgorithm(String),
    /// No key fits one of the algorithms.
    #[error("there is no key for {0}: remove it from algorithms, or give a key for it")]
    NoKeyFor(&'static str),
    /// A key can't be used.
    #[error("{}{error}", kid.as_ref().map_or_else(String::new, |kid| format!("key {kid:?}: ")))]
    Key {
        /// Its name.
        kid: Option<String>,
        /// Why.
        error: KeyError,
    },
    /// A time is out of range.
    #[error("{0} must be {1}")]
    Range(&'static str, &'static str),
    /// There can be no such cookie.
    #[error("cookie must be the name of a cookie: letters, digits and -_.")]
    Cookie,
}

/// Verifies tokens. Any thread may use it.
pub struct Verifier {
    algorithms: Vec<Algorithm>,
    keys: Vec<Key>,
    expected: Expected,
    cookie: Option<String>,
    revoked: Revoked,
    /// Locked for one look-up, or for one insertion.
    cache: Mutex<Cache>,
}

/// Its keys are never shown.
impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Checks options and keys. `set` is a JWK Set.
    ///
    /// # Errors
    /// [`OptionsError`] says what to change.
    pub fn new(
        options: Options,
        keys: &[(Option<String>, Vec<u8>)],
        set: Option<&[u8]>,
    ) -> Result<Self, OptionsError> {
        let algorithms = options.algorithms.into_iter();
        let algorithms = algorithms
            .map(|name| Algorithm::from_name(&name).ok_or(OptionsError::UnknownAlgorithm(name)))
            .collect::<Result<Vec<_>, _>>()?;
        if algorithms.is_empty() {
            return Err(OptionsError::NoAlgorithm);
        }
        if options.leeway > LONGEST_LEEWAY {
            return Err(OptionsError::Range("leeway", "0 to 60 seconds"));
        }
        if options.max_lifetime.is_zero() {
            return Err(OptionsError::Range("max_lifetime", "more than 0 seconds"));
        }
        if options.cookie.as_deref().is_some_and(|name| !is_cookie_name(name)) {
            return Err(OptionsError::Cookie);
        }
        let read = |(kid, text): &(Option<String>, Vec<u8>)| {
            let key = Key::new(kid.as_deref(), text, &algorithms);
            key.map_err(|error| OptionsError::Key { kid: kid.clone(), error })
        };
        let mut keys = keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if let Some(set) = set {
            let of_set = Key::of_set(set, &algorithms);
            keys.extend(of_set.map_err(|error| OptionsError::Key { kid: None, error })?);
        }
        let has_key = |algorithm: &Algorithm| keys.iter().any(|key| key.fits(*algorithm));
        if let Some(without) = algorithms.iter().find(|algorithm| !has_key(algorithm)) {
            return Err(OptionsError::NoKeyFor(without.name()));
        }
        let expected = Expected {
            audience: options.audience,
            issuer: options.issuer,
            leeway: options.leeway.as_millis() as u64,
            max_lifetime: u64::try_from(options.max_lifetime.as_millis()).unwrap_or(u64::MAX),
        };
        // Of that second, the last token may be issued at its end.
        let revoked = Revoked::new(expected.max_lifetime.saturating_add(expected.leeway + 1000));
        Ok(Self { algorithms, keys, expected, cookie: options.cookie, revoked, cache: Mutex::default() })
    }

    /// The cookie that may have a token.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// What verifying the signature of a token costs, in bytes that could have been read meanwhile. 0: it is known already, or is
    /// refused without that.
    pub fn cost(&self, token: &str) -> usize {
        if token.len() > LONGEST_TOKEN || self.cache().has(Fingerprint::of(token)) {
            return 0;
        }
        let Ok(compact) = Compact::new(token) else { return 0 };
        self.choose(&compact).map_or(0, |(algorithm, key)| key.cost(algorithm))
    }

    /// Judges a token. `today` is milliseconds of Unix time. One that was verified before costs a hash.
    ///
    /// # Errors
    /// [`TokenError`], of which the first counts: form and algorithm, key and signature, claims, time. Nothing of what a token claims
    /// counts before its signature was verified.
    pub fn verify(&self, token: &str, today: u64) -> Result<Verified, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::TooLong);
        }
        let fingerprint = Fingerprint::of(token);
        let known = self.cache().get(fingerprint);
        let counted = match known {
            Some(counted) => counted,
            None => {
                let counted = self.read(token, today)?;
                self.cache().insert(fingerprint, counted.clone());
                counted
            }
        };
        counted.times.check(&self.expected, today)?;
        if self.revoked.has(&counted.verified.identity.subject, counted.times.issued) {
            return Err(TokenError::Revoked);
        }
        Ok(counted.verified)
    }

    /// Refuses the tokens of a subject that were issued until now.
    ///
    /// # Errors
    /// [`TooManyRevoked`]: nothing has changed.
    pub fn revoke(&self, subject: &str, today: u64) -> Result<(), TooManyRevoked> {
        self.revoked.add(subject, today)
    }

    fn read(&self, token: &str, today: u64) -> Result<Counted, TokenError> {
        let compact = Compact::new(token)?;
        let (algorithm, key) = self.choose(&compact)?;
        if !key.verifies(algorithm, compact.signed.as_bytes(), &compact.signature) {
            return Err(TokenError::BadSignature);
        }
        let payload = compact.payload()?;
        let claims = Claims::new(&payload)?;
        let identity = Arc::new(claims.identity(&self.expected, today)?);
        Ok(Counted { times: claims.times(), verified: Verified { identity, claims: payload.into() } })
    }

    /// The algorithm and the key of a token, as its header names them.
    fn choose(&self, compact: &Compact<'_>) -> Result<(Algorithm, &Key), TokenError> {
        let header = compact.header()?;
        let algorithm = Algorithm::from_name(&header.alg).filter(|it| self.algorithms.contains(it));
        let algorithm = algorithm.ok_or(TokenError::WrongAlgorithm)?;
        Ok((algorithm, self.key(algorithm, header.kid.as_deref())?))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a token. One that is alone and has no name is for all tokens.
    fn key(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<&Key, TokenError> {
        let key = match (&self.keys[..], kid) {
            ([only], None) => Some(only),
            ([only], _) if only.id.is_none() => Some(only),
            (keys, Some(kid)) => keys.iter().find(|key| key.id.as_deref() == Some(kid)),
            (keys, None) => {
                let mut fitting = keys.iter().filter(|key| key.fits(algorithm));
                fitting.next().filter(|_| fitting.next().is_none())
            }
        };
        let key = key.ok_or(TokenError::UnknownKey)?;
        if key.fits(algorithm) { Ok(key) } else { Err(TokenError::WrongAlgorithm) }
    }
}

/// What a cookie's name may have, without what would have to be quoted somewhere.
fn is_cookie_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain)
}

/// More would let a token live on that was to end.
const LONGEST_LEEWAY: Duration = Duration::from_secs(60);
