//! All tickets of a server: which of them count, and which give way.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::entry::{Entry, Verdict};
use super::past::Past;

/// Milliseconds after the end of its stream in which a ticket counts.
pub const LINGER: u64 = 600_000;

/// How many tickets there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one subject. 0: no limit.
    pub of_subject: usize,
    /// Of all.
    pub in_all: usize,
    /// Bytes of subject, origin and claims of one. With a key they are in its text.
    pub bytes: usize,
    /// Milliseconds from its issue in which a ticket of the process before this one counts. Nobody knows when its stream has ended.
    pub lifetime: u64,
}

/// Why no ticket is given. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The identity has no subject.
    #[error("a ticket stands for somebody: its identity needs a subject")]
    Nobody,
    /// The identity has ended.
    #[error("the identity has expired, so there is no ticket for it")]
    Ended,
    /// What it says is too long for a URL.
    #[error(
        "a ticket holds at most {most} bytes of subject and claims as JSON, and this identity has {bytes}: leave claims out"
    )]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What it may have.
        most: usize,
    },
    /// What it says is no JSON.
    #[error("the claims of the identity are no JSON")]
    NoJson,
    /// All that the subject may have are in use.
    #[error(
        "this identity has {0} tickets whose streams are open, and may have no more (max_tickets_per_identity)"
    )]
    OfSubject(usize),
    /// All that there may be are in use.
    #[error("the streams of {0} tickets are open, and there is room for no more (max_connections)")]
    Full(usize),
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// Why a ticket does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unknown,
    Verdict(Verdict),
    /// It is void from now on. The stream that was open has to end.
    Void(Option<u64>),
}

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its client was not let in, and has heard nothing of it.
    NotBegun,
    /// Its client may come back.
    ForNow,
    /// Its client is not to come back.
    ForGood,
}

/// Tickets by their numbers. Those without an open stream are in the order in which they are forgotten.
#[derive(Debug)]
pub(super) struct Table {
    limits: Limits,
    entries: HashMap<u64, Entry>,
    subjects: HashMap<Box<str>, OfSubject>,
    /// The ticket of each open stream.
    streams: HashMap<u64, u64>,
    idle: Idle,
    past: Option<Past>,
}

/// When each ticket is forgotten, and its number.
type Idle = BTreeSet<(u64, u64)>;

#[derive(Debug, Default)]
struct OfSubject {
    idle: Idle,
    live: HashSet<u64>,
}

impl Table {
    /// An empty one. Tickets of the process before this one count for [`LINGER`], if they can be read.
    pub fn new(limits: Limits, reads_past: bool, today: u64) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            subjects: HashMap::new(),
            streams: HashMap::new(),
            idle: Idle::new(),
            past: reads_past.then(|| Past::new(today.saturating_add(LINGER))),
        }
    }

    pub fn live(&self) -> usize {
        self.streams.len()
    }

    pub fn has(&self, number: u64) -> bool {
        self.entries.contains_key(&number)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a ticket. The one gives way that is forgotten soonest, never one whose stream is open.
    pub fn add(&mut self, number: u64, entry: Entry, today: u64) -> Result<(), IssueError> {
        self.make_room(&entry.verified.identity.subject, today)?;
        let subject = self.subjects.entry(entry.verified.identity.subject.clone()).or_default();
        subject.idle.insert((entry.dies, number));
        self.idle.insert((entry.dies, number));
        self.entries.insert(number, entry);
        Ok(())
    }

    /// Adds a ticket of the process before this one, unless it has ended here.
    pub fn add_past(
        &mut self,
        number: u64,
        entry: Entry,
        shown: (Option<u64>, Option<&str>),
        today: u64,
    ) -> Result<(), Refused> {
        self.tidy(today);
        // Before it is kept: what is kept and forgotten again has ended.
        entry.check(shown, today).map_err(Refused::Verdict)?;
        let past = self.past.as_ref().ok_or(Refused::Unknown)?;
        if !past.has(number, &entry.verified.identity.subject) {
            return Err(Refused::Unknown);
        }
        self.add(number, entry, today).map_err(|_| Refused::Unknown)
    }

    /// Lets a client open the stream of a ticket, if what it shows counts. Returns the ticket, and the stream that was open.
    pub fn open(
        &mut self,
        number: u64,
        shown: (Option<u64>, Option<&str>),
        (stream, secret): (u64, u64),
        today: u64,
    ) -> Result<(&Entry, Option<u64>), Refused> {
        self.tidy(today);
        let entry = self.entries.get(&number).ok_or(Refused::Unknown)?;
        if entry.stream.is_none() && entry.dies <= today {
            return Err(Refused::Unknown);
        }
        match entry.check(shown, today) {
            Ok(()) => {}
            Err(Verdict::TwoParties) => return Err(Refused::Void(self.remove(number))),
            Err(verdict) => return Err(Refused::Verdict(verdict)),
        }
        let former = self.rest(number);
        let entry = self.entries.get_mut(&number).ok_or(Refused::Unknown)?;
        entry.open(shown.0, secret, today);
        entry.stream = Some(stream);
        self.streams.insert(stream, number);
        if let Some(subject) = self.subjects.get_mut(&entry.verified.identity.subject) {
            subject.idle.remove(&(entry.dies, number));
            subject.live.insert(number);
        }
        self.idle.remove(&(entry.dies, number));
        Ok((entry, former))
    }

    /// A stream has ended. Its ticket counts for [`LINGER`], unless the client is not to come back.
    pub fn ended(&mut self, stream: u64, end: End, today: u64) {
        let Some(number) = self.streams.get(&stream).copied() else { return };
        if end == End::ForGood {
            self.remove(number);
            return;
        }
        self.rest(number);
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if end == End::NotBegun {
            entry.undo();
        }
        entry.rest(LINGER, today);
        self.idle.insert((entry.dies, number));
        if let Some(subject) = self.subjects.get_mut(&entry.verified.identity.subject) {
            subject.live.remove(&number);
            subject.idle.insert((entry.dies, number));
        }
    }

    /// Ends a ticket. Returns its stream if one is open.
    pub fn remove(&mut self, number: u64) -> Option<u64> {
        let stream = self.rest(number);
        let entry = self.entries.remove(&number)?;
        self.idle.remove(&(entry.dies, number));
        let name = &entry.verified.identity.subject;
        if let Some(subject) = self.subjects.get_mut(name) {
            subject.idle.remove(&(entry.dies, number));
            subject.live.remove(&number);
            if subject.idle.is_empty() && subject.live.is_empty() {
                self.subjects.remove(name);
            }
        }
        if entry.is_past && self.past.as_mut().is_some_and(|past| !past.end(number)) {
            self.past = None;
        }
        stream
    }

    /// Ends a ticket of the process before this one, which is not here.
    pub fn end_past(&mut self, number: u64) {
        if self.past.as_mut().is_some_and(|past| !past.end(number)) {
            self.past = None;
        }
    }

    /// Ends the tickets of a subject. Their streams are not its matter.
    pub fn remove_subject(&mut self, name: &str) {
        let Some(subject) = self.subjects.get(name) else { return self.end_past_of(name) };
        let idle = subject.idle.iter().map(|(_, number)| *number);
        for number in idle.chain(subject.live.iter().copied()).collect::<Vec<_>>() {
            self.remove(number);
        }
        self.end_past_of(name);
    }

    fn end_past_of(&mut self, name: &str) {
        if self.past.as_mut().is_some_and(|past| !past.end_subject(name)) {
            self.past = None;
        }
    }

    /// The stream of a ticket is open no more. Returns which it was.
    fn rest(&mut self, number: u64) -> Option<u64> {
        let stream = self.entries.get_mut(&number)?.stream.take()?;
        self.streams.remove(&stream);
        Some(stream)
    }

    /// Forgets some of what does not count any more: more than comes in.
    fn tidy(&mut self, today: u64) {
        for _ in 0..2 {
            match self.idle.first() {
                Some(&(dies, number)) if dies <= today => drop(self.remove(number)),
                _ => break,
            }
        }
        self.past.take_if(|past| past.is_over(today));
    }

    fn make_room(&mut self, name: &str, today: u64) -> Result<(), IssueError> {
        self.tidy(today);
        let Limits { of_subject, in_all, .. } = self.limits;
        if let Some(subject) = self.subjects.get(name)
            && of_subject > 0
            && subject.idle.len() + subject.live.len() >= of_subject
        {
            let soonest = subject.idle.first().ok_or(IssueError::OfSubject(of_subject))?;
            self.remove(soonest.1);
        }
        if self.entries.len() >= in_all {
            let soonest = self.idle.first().ok_or(IssueError::Full(in_all))?;
            self.remove(soonest.1);
        }
        Ok(())
    }
}
