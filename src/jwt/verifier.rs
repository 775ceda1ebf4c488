//! Says whether a token counts.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;

use super::algorithm::{Algorithm, Kind, NAMES};
use super::cache::{Cache, Counted, Fingerprint};
use super::claims::{Claims, Expected, Verified};
use super::compact::Compact;
use super::key::{Key, KeyError};
use super::keys::Keys;
use super::revoked::{Revoked, TooManyRevoked};
use super::wanted::Wanted;
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

/// Where keys come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// These, with their names.
    Keys(&'a [(Option<String>, Vec<u8>)]),
    /// A JWK Set.
    Set(&'a [u8]),
    /// Sets that are given later: [`Verifier::replace_keys`].
    Elsewhere,
}

/// What has to be done before a token can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It is known, or is refused without more.
    Nothing,
    /// Its signature has to be verified. That costs so much, in bytes that could have been read meanwhile.
    Verifying(usize),
    /// Its key is not known here, and may be asked for.
    Keys,
}

impl Needs {
    /// What that costs.
    pub const fn cost(self) -> usize {
        if let Self::Verifying(cost) = self { cost } else { 0 }
    }
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
    /// Locked to take them, or to replace them.
    keys: RwLock<Arc<Keys>>,
    wanted: Wanted,
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
    /// Checks options and keys.
    ///
    /// # Errors
    /// [`OptionsError`] says what to change.
    pub fn new(options: Options, source: Source<'_>) -> Result<Self, OptionsError> {
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
        let keys = match source {
            Source::Keys(keys) => {
                let read = |(kid, text): &(Option<String>, Vec<u8>)| {
                    let key = Key::new(kid.as_deref(), text, &algorithms);
                    key.map_err(|error| OptionsError::Key { kid: kid.clone(), error })
                };
                Keys::fixed(keys.iter().map(read).collect::<Result<_, _>>()?)
            }
            Source::Set(set) => {
                let of_set = Key::of_set(set, &algorithms);
                Keys::fixed(of_set.map_err(|error| OptionsError::Key { kid: None, error })?)
            }
            Source::Elsewhere => Keys::awaited(),
        };
        let comes = matches!(source, Source::Elsewhere);
        let has_key = |algorithm: Algorithm| match source {
            Source::Elsewhere => algorithm.kind() != Kind::Secret,
            Source::Keys(_) | Source::Set(_) => keys.iter().any(|key| key.fits(algorithm)),
        };
        if let Some(without) = algorithms.iter().find(|algorithm| !has_key(**algorithm)) {
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
        let keys = RwLock::new(Arc::new(keys));
        let (wanted, cookie) = (Wanted::new(comes), options.cookie);
        Ok(Self { algorithms, keys, wanted, expected, cookie, revoked, cache: Mutex::default() })
    }

    /// The cookie that may have a token.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// What has to be done before a token can be judged.
    pub fn needs(&self, token: &str, today: u64) -> Needs {
        if token.len() > LONGEST_TOKEN {
            return Needs::Nothing;
        }
        let keys = self.keys();
        let known = self.cache().key_of(Fingerprint::of(token));
        if known.is_some_and(|key| keys.count(today) && keys.has(key)) {
            return Needs::Nothing;
        }
        let Ok(compact) = Compact::new(token) else { return Needs::Nothing };
        match self.choose(&compact, &keys, today) {
            Ok((algorithm, key)) => Needs::Verifying(key.cost(algorithm)),
            Err(TokenError::NoKeys | TokenError::UnknownKey) => Needs::Keys,
            Err(_) => Needs::Nothing,
        }
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
        let (keys, fingerprint) = (self.keys(), Fingerprint::of(token));
        let known = self.cache().get(fingerprint);
        let counted = match known.filter(|known| keys.count(today) && keys.has(known.key)) {
            Some(counted) => counted,
            None => {
                let counted = self.read(token, &keys, today)?;
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

    /// Takes other keys: a JWK Set. Those that are not in it do not count any more, nor do tokens that they have verified.
    ///
    /// # Errors
    /// [`KeyError`]: nothing has changed.
    pub fn replace_keys(&self, set: &[u8], today: u64) -> Result<(), KeyError> {
        let given = Key::of_set(set, &self.algorithms)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *keys = Arc::new(Keys::given(given, &keys, today.saturating_add(KEYS_COUNT)));
        Ok(())
    }

    /// Whether there are keys that count.
    pub fn has_keys(&self, today: u64) -> bool {
        self.keys().count(today)
    }

    /// The questions for keys that have to be had from elsewhere.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Refuses the tokens of a subject that were issued until now.
    ///
    /// # Errors
    /// [`TooManyRevoked`]: nothing has changed.
    pub fn revoke(&self, subject: &str, today: u64) -> Result<(), TooManyRevoked> {
        self.revoked.add(subject, today)
    }

    fn read(&self, token: &str, keys: &Keys, today: u64) -> Result<Counted, TokenError> {
        let compact = Compact::new(token)?;
        let (algorithm, key) = self.choose(&compact, keys, today)?;
        if !key.verifies(algorithm, compact.signed.as_bytes(), &compact.signature) {
            return Err(TokenError::BadSignature);
        }
        let payload = compact.payload()?;
        let claims = Claims::new(&payload)?;
        let identity = Arc::new(claims.identity(&self.expected, today)?);
        let verified = Verified { identity, claims: payload.into() };
        Ok(Counted { key: key.number, times: claims.times(), verified })
    }

    /// The algorithm and the key of a token, as its header names them.
    fn choose<'a>(
        &self,
        compact: &Compact<'_>,
        keys: &'a Keys,
        today: u64,
    ) -> Result<(Algorithm, &'a Key), TokenError> {
        let header = compact.header()?;
        let algorithm = Algorithm::from_name(&header.alg).filter(|it| self.algorithms.contains(it));
        let algorithm = algorithm.ok_or(TokenError::WrongAlgorithm)?;
        Ok((algorithm, keys.find(algorithm, header.kid.as_deref(), today)?))
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a cookie's name may have, without what would have to be quoted somewhere.
fn is_cookie_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain)
}

/// How long keys count that have to be had from elsewhere, and can't be had again: a day, in milliseconds.
const KEYS_COUNT: u64 = 86_400_000;

/// More would let a token live on that was to end.
const LONGEST_LEEWAY: Duration = Duration::from_secs(60);
