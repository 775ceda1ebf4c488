//! Tokens that were verified, so that those who come back with the same token cost a hash.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};

use super::claims::{Times, Verified};

/// A token with a good signature, and when it counts.
#[derive(Clone)]
pub(super) struct Counted {
    /// The number of the key that has verified it.
    pub key: u64,
    pub verified: Verified,
    pub times: Times,
}

impl Counted {
    /// Bytes of what it says.
    pub fn bytes(&self) -> usize {
        let rights = self.verified.identity.rights.as_ref();
        self.verified.claims.len() + rights.map_or(0, |rights| rights.bytes())
    }
}

/// The hash of a whole token, its signature included. Nobody can make two tokens with the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

/// Two generations. When the young one is full, it becomes the old one, and the one before is dropped: no list has to be kept.
#[derive(Default)]
pub(super) struct Cache {
    young: HashMap<Fingerprint, Counted>,
    young_bytes: usize,
    old: HashMap<Fingerprint, Counted>,
}

impl Cache {
    pub fn get(&mut self, fingerprint: Fingerprint) -> Option<Counted> {
        if let Some(found) = self.young.get(&fingerprint) {
            return Some(found.clone());
        }
        let found = self.old.remove(&fingerprint)?;
        self.insert(fingerprint, found.clone());
        Some(found)
    }

    /// The number of the key that has verified a token.
    pub fn key_of(&self, fingerprint: Fingerprint) -> Option<u64> {
        self.young.get(&fingerprint).or_else(|| self.old.get(&fingerprint)).map(|counted| counted.key)
    }

    pub fn insert(&mut self, fingerprint: Fingerprint, counted: Counted) {
        let bytes = counted.bytes() + OVERHEAD;
        if self.young_bytes + bytes > MOST_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(fingerprint, counted);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Bytes of an entry beside what its token says.
const OVERHEAD: usize = 256;

/// Bytes of a cache: more than 25,000 tokens with 400 bytes of claims.
const MOST_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::Identity;
    use crate::jwt::claims::Claims;
    use crate::rights::Rights;

    fn counted(claims: &Arc<str>) -> Counted {
        let times = Claims::new(r#"{"sub":"a","exp":1}"#).expect("legal").times();
        Counted { key: 0, verified: Verified { identity: Arc::default(), claims: Arc::clone(claims) }, times }
    }

    #[test]
    fn rights_count_that_take_more_than_their_text() {
        let claims: Arc<str> = serde_json::json!(vec!["a"; 256]).to_string().into();
        let list = serde_json::from_str(&claims).ok();
        let rights = Rights::new(list.as_ref(), list.as_ref()).map(Box::new);
        let identity = Identity { rights, ..Identity::default() };
        let counted = Counted {
            verified: Verified { identity: identity.into(), ..counted(&claims).verified },
            ..counted(&claims)
        };
        assert!(counted.bytes() >= 512 * (size_of::<Box<str>>() + 1 + 32));
        let mut cache = Cache::default();
        let most = MOST_BYTES / counted.bytes();
        for number in 0..3 * most {
            cache.insert(Fingerprint::of(&number.to_string()), counted.clone());
            assert!(cache.len() <= most + 1);
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::default();
        let claims: Arc<str> = "x".repeat(8 << 10).into();
        let often = Fingerprint::of("often");
        cache.insert(often, counted(&claims));
        let most = MOST_BYTES / (claims.len() + OVERHEAD);
        for number in 0..3 * most {
            cache.insert(Fingerprint::of(&number.to_string()), counted(&claims));
            assert!(cache.len() <= most + 1 && cache.get(often).is_some());
        }
        assert!(cache.len() > most / 2);
        assert!(cache.get(Fingerprint::of("0")).is_none());
    }
}
