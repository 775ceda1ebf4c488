//! How many connections each subject has, over all shards, where tokens say who clients are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections by the subjects of their clients. Without a limit nothing is counted.
#[derive(Debug)]
pub(crate) struct Subjects {
    /// 0 is no limit.
    most: usize,
    /// Guards the counts, none of which is empty. Locked to change one.
    counts: Mutex<HashMap<Arc<str>, Count>>,
}

/// What a subject has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    open: usize,
    /// Sessions that wait for their clients.
    away: usize,
}

/// The place of a client, until it is dropped. Boxed, because mostly there is no limit and nothing to count.
#[derive(Debug, Default)]
pub(crate) struct Seat(Option<Box<Taken>>);

#[derive(Debug)]
struct Taken {
    subjects: Arc<Subjects>,
    subject: Arc<str>,
    is_away: bool,
}

impl Subjects {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default() })
    }

    /// Takes a place for a client. `None` when its subject has as many connections as it may have. One that `replaces` another, which
    /// ends, does not wait for that end.
    pub fn take(self: &Arc<Self>, subject: &str, replaces: bool) -> Option<Seat> {
        if self.most == 0 || subject.is_empty() {
            return Some(Seat::default());
        }
        let subject: Arc<str> = subject.into();
        let mut counts = self.lock();
        let count = counts.entry(Arc::clone(&subject)).or_default();
        if count.open >= self.most && !replaces {
            return None;
        }
        count.open += 1;
        drop(counts);
        Some(Seat(Some(Box::new(Taken { subjects: Arc::clone(self), subject, is_away: false }))))
    }

    /// Whether sessions of a subject that are away have to give way, because it has more than it may have with them.
    pub fn is_crowded(&self, subject: &str) -> bool {
        self.most > 0 && self.lock().get(subject).is_some_and(|count| count.open + count.away > self.most)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whether it is one of so many.
    pub fn is_counted(&self) -> bool {
        self.0.is_some()
    }

    /// Its client has lost its connection.
    pub fn leave(&mut self) {
        let Some(taken) = self.0.as_deref_mut().filter(|taken| !taken.is_away) else { return };
        taken.is_away = true;
        if let Some(count) = taken.subjects.lock().get_mut(&taken.subject) {
            *count = Count { open: count.open - 1, away: count.away + 1 };
        }
    }

    /// Its client comes back. Returns `false` when others of its subject have taken all places meanwhile.
    pub fn come_back(&mut self) -> bool {
        let Some(taken) = self.0.as_deref_mut().filter(|taken| taken.is_away) else { return true };
        let mut counts = taken.subjects.lock();
        let Some(count) = counts.get_mut(&taken.subject).filter(|count| count.open < taken.subjects.most)
        else {
            return false;
        };
        *count = Count { open: count.open + 1, away: count.away - 1 };
        drop(counts);
        taken.is_away = false;
        true
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut counts = self.subjects.lock();
        let Some(count) = counts.get_mut(&self.subject) else { return };
        let one = if self.is_away { &mut count.away } else { &mut count.open };
        *one -= 1;
        if *count == Count::default() {
            counts.remove(&self.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_as_many_connections_as_it_may_and_forgotten_is_who_has_none() {
        let subjects = Subjects::new(2);
        let [mut one, two] = [(); 2].map(|()| subjects.take("ann", false).expect("a place"));
        assert!(subjects.take("ann", false).is_none() && subjects.take("bob", false).is_some());
        one.leave();
        one.leave();
        assert!(!subjects.is_crowded("ann"), "with the one that is away there are two");
        let three = subjects.take("ann", false).expect("the place of the one that is away");
        assert!(subjects.is_crowded("ann") && !one.come_back());
        drop(two);
        assert!(one.come_back() && one.come_back() && subjects.take("ann", false).is_none());
        let four = subjects.take("ann", true).expect("another one ends");
        assert!(subjects.take("ann", false).is_none());
        drop((one, three, four));
        assert!(subjects.lock().is_empty());
    }

    #[test]
    fn without_a_limit_or_a_subject_nothing_is_counted() {
        let [unlimited, limited] = [0, 1].map(Subjects::new);
        let mut seats: Vec<_> = (0..9).map(|_| unlimited.take("ann", false).expect("no limit")).collect();
        seats.extend((0..9).map(|_| limited.take("", false).expect("no subject")));
        for seat in &mut seats {
            seat.leave();
            assert!(seat.come_back());
        }
        assert!(unlimited.lock().is_empty() && limited.lock().is_empty() && !unlimited.is_crowded("ann"));
    }
}
