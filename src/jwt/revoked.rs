//! Subjects whose tokens of before do not count any more.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Subjects, with the time of their revocation in milliseconds of Unix time. It is bounded, and forgets nobody whose tokens could count:
/// no token lives longer than `keeps`.
pub(super) struct Revoked {
    keeps: u64,
    /// Locked for one look-up, or for one insertion.
    subjects: RwLock<HashMap<Box<str>, u64>>,
}

/// So many subjects were revoked within the longest life of a token that no more can be noted.
#[derive(Debug, thiserror::Error)]
#[error(
    "{MOST} subjects were revoked within max_lifetime, and no more can be remembered: change the key of the tokens, or \
     shorten max_lifetime"
)]
pub struct TooManyRevoked;

impl Revoked {
    pub fn new(keeps: u64) -> Self {
        Self { keeps, subjects: RwLock::default() }
    }

    /// Refuses the tokens of a subject that were issued until now.
    pub fn add(&self, subject: &str, today: u64) -> Result<(), TooManyRevoked> {
        let mut subjects = self.subjects.write().unwrap_or_else(PoisonError::into_inner);
        if subjects.len() >= MOST && !subjects.contains_key(subject) {
            subjects.retain(|_, since| since.saturating_add(self.keeps) > today);
            if subjects.len() >= MOST {
                return Err(TooManyRevoked);
            }
        }
        subjects.insert(subject.into(), today);
        Ok(())
    }

    /// Whether a token does not count that was issued at this time. One that does not say when it was does not.
    pub fn has(&self, subject: &str, issued: Option<u64>) -> bool {
        let subjects = self.subjects.read().unwrap_or_else(PoisonError::into_inner);
        let since = subjects.get(subject);
        since.is_some_and(|since| issued.is_none_or(|issued| issued / 1000 <= since / 1000))
    }
}

/// Subjects that are remembered: some 10 MB.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_that_second_and_before_do_not_count() {
        let revoked = Revoked::new(1000);
        revoked.add("ann", 5_700).expect("room");
        for (issued, expected) in
            [(Some(5_999), true), (Some(5_000), true), (Some(0), true), (None, true), (Some(6_000), false)]
        {
            assert_eq!(revoked.has("ann", issued), expected, "{issued:?}");
            assert!(!revoked.has("ben", issued));
        }
    }

    #[test]
    fn a_full_table_forgets_only_what_can_not_matter() {
        let revoked = Revoked::new(1000);
        for number in 0..MOST {
            revoked.add(&number.to_string(), 10).expect("room");
        }
        assert!(revoked.add("one more", 1_009).is_err());
        assert!(revoked.add("7", 1_009).is_ok(), "it is there already");
        assert!(revoked.add("one more", 1_010).is_ok());
        assert!(revoked.has("7", Some(0)) && !revoked.has("8", Some(0)));
    }
}
