//! Tickets of the process before this one, which this one can read.

use std::collections::HashSet;

/// What is remembered so that no ticket of the past comes back that has ended here. For so long tickets of the past count at all.
#[derive(Debug)]
pub(super) struct Past {
    /// Milliseconds of Unix time.
    until: u64,
    tickets: HashSet<u64>,
    subjects: HashSet<Box<str>>,
}

impl Past {
    pub fn new(until: u64) -> Self {
        Self { until, tickets: HashSet::new(), subjects: HashSet::new() }
    }

    pub fn is_over(&self, today: u64) -> bool {
        self.until <= today
    }

    /// Whether a ticket may come back.
    pub fn has(&self, number: u64, subject: &str) -> bool {
        !self.tickets.contains(&number) && !self.subjects.contains(subject)
    }

    /// A ticket has ended. Returns `false` when no more can be remembered: then none may come back any more.
    #[must_use]
    pub fn end(&mut self, number: u64) -> bool {
        self.tickets.insert(number);
        self.tickets.len() <= MOST
    }

    /// All tickets of a subject have ended.
    #[must_use]
    pub fn end_subject(&mut self, subject: &str) -> bool {
        self.subjects.insert(subject.into());
        self.subjects.len() <= MOST
    }
}

/// A few megabytes each.
const MOST: usize = 100_000;
