//! The keys of a verifier: those that it was made with, or those that it was given last.

use super::algorithm::Algorithm;
use super::key::Key;
use crate::token_error::TokenError;

/// All keys that count.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<Key>,
    /// Until when, in milliseconds of Unix time. `None`: for ever.
    until: Option<u64>,
}

impl Keys {
    /// Keys that count for ever.
    pub fn fixed(keys: Vec<Key>) -> Self {
        Self { keys, until: None }
    }

    /// Keys that have to be given again until then. Those that were there before keep their numbers, so that tokens are known that
    /// were verified with them.
    pub fn given(mut keys: Vec<Key>, former: &Self, until: u64) -> Self {
        for key in &mut keys {
            if let Some(same) = former.keys.iter().find(|other| other.is_same(key)) {
                key.number = same.number;
            }
        }
        Self { keys, until: Some(until) }
    }

    /// None so far.
    pub fn awaited() -> Self {
        Self { keys: Vec::new(), until: Some(0) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Whether they count today.
    pub fn count(&self, today: u64) -> bool {
        self.until.is_none_or(|until| today < until)
    }

    /// Whether the key of this number is among them.
    pub fn has(&self, number: u64) -> bool {
        self.keys.iter().any(|key| key.number == number)
    }

    /// The key of a token. One that is alone and has no name is for all tokens.
    pub fn find(&self, algorithm: Algorithm, kid: Option<&str>, today: u64) -> Result<&Key, TokenError> {
        if !self.count(today) {
            return Err(TokenError::NoKeys);
        }
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
