//! Calls that were made, by the keys that their programs have given them: a repetition gets the answer of the first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::moment::Moment;
use crate::transport::client_id::ClientId;
use crate::transport::commands::{ClientCommand, CommandQueue};

/// The calls of all programs. One mutex for all shards: held for one look-up or change, and only for calls with a key.
#[derive(Debug)]
pub(crate) struct Idempotency {
    /// Bytes of answers that are remembered for all subjects together.
    most_bytes: usize,
    /// Those of the shards.
    commands: Vec<Arc<CommandQueue>>,
    /// Keys are hashed twice, so that nobody finds two of the same hash.
    hashers: [RandomState; 2],
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    calls: HashMap<Name, Known>,
    /// Calls that were answered, the oldest first.
    answered: BTreeMap<u64, Name>,
    subjects: HashMap<u64, Subject>,
    last: u64,
    /// Of all answers.
    bytes: usize,
}

/// A hash of subject, path and key.
type Name = [u64; 2];

#[derive(Debug, Default)]
struct Subject {
    calls: usize,
    bytes: usize,
    /// Numbers of those that were answered.
    answered: BTreeSet<u64>,
}

#[derive(Debug)]
struct Known {
    subject: u64,
    body: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// These wait for its answer.
    Running(BTreeSet<ClientId>),
    Answered {
        at: Moment,
        status: u16,
        answer: Arc<[u8]>,
    },
}

/// What becomes of a call with a key.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is the first with this key.
    New(Running),
    /// It was made, and this was the response.
    Answered(u16, Arc<[u8]>),
    /// It is being made. The client is told when it may ask again: [`ClientCommand::ReadAgain`].
    Waits,
    /// Another call has this key.
    Other,
    /// Too many calls of the subject are being made.
    Full,
}

/// A call that is being made. If it is dropped before it was answered, nothing is known of it any more.
#[derive(Debug)]
pub(crate) struct Running {
    calls: Arc<Idempotency>,
    name: Name,
    is_over: bool,
}

impl Idempotency {
    /// For the shards with these commands. `held` is what may be held for clients.
    pub fn new(held: usize, commands: &[Arc<CommandQueue>]) -> Self {
        Self {
            most_bytes: held / 8,
            commands: commands.to_vec(),
            hashers: Default::default(),
            table: Mutex::default(),
        }
    }

    /// Begins a call, unless one of the same subject, path and key is known.
    pub fn begin(
        self: &Arc<Self>,
        [subject, path, key, body]: [&str; 4],
        client: ClientId,
        now: Moment,
    ) -> Begun {
        let name = self.hashers.each_ref().map(|hasher| hasher.hash_one((subject, path, key)));
        let [subject, body] = [subject, body].map(|text| self.hashers[0].hash_one(text));
        let mut table = self.lock();
        table.forget_old(now);
        if let Some(known) = table.calls.get_mut(&name) {
            return match &mut known.state {
                _ if known.body != body => Begun::Other,
                State::Answered { status, answer, .. } => Begun::Answered(*status, Arc::clone(answer)),
                State::Running(waiting) => {
                    waiting.insert(client);
                    Begun::Waits
                }
            };
        }
        let of_subject = table.subjects.entry(subject).or_default();
        if of_subject.calls >= MOST_CALLS {
            let Some(oldest) = of_subject.answered.first().copied() else { return Begun::Full };
            table.forget(oldest);
        }
        table.subjects.entry(subject).or_default().calls += 1;
        table.calls.insert(name, Known { subject, body, state: State::Running(BTreeSet::new()) });
        Begun::New(Running { calls: Arc::clone(self), name, is_over: false })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, waiting: BTreeSet<ClientId>) {
        for client in waiting {
            if let Some(commands) = self.commands.get(client.shard()) {
                commands.push_for(client, ClientCommand::ReadAgain);
            }
        }
    }
}

impl Table {
    fn forget_old(&mut self, now: Moment) {
        while let Some((&number, name)) = self.answered.first_key_value() {
            match self.calls.get(name) {
                Some(Known { state: State::Answered { at, .. }, .. }) if now.since(*at) < REMEMBERED => {
                    return;
                }
                _ => self.forget(number),
            }
        }
    }

    /// Forgets a call that was answered.
    fn forget(&mut self, number: u64) {
        let Some(name) = self.answered.remove(&number) else { return };
        if let Some(Known { subject, state: State::Answered { answer, .. }, .. }) = self.calls.remove(&name) {
            self.bytes -= size_of_known(&answer);
            if let Some(of_subject) = self.subjects.get_mut(&subject) {
                of_subject.bytes -= size_of_known(&answer);
                of_subject.answered.remove(&number);
            }
            self.leave(subject);
        }
    }

    /// A subject has one call less.
    fn leave(&mut self, subject: u64) {
        if let Some(of_subject) = self.subjects.get_mut(&subject) {
            of_subject.calls -= 1;
            if of_subject.calls == 0 {
                self.subjects.remove(&subject);
            }
        }
    }
}

impl Running {
    /// Remembers the response. The oldest are forgotten while there are too many: those of this subject first. This one stays, because
    /// others may wait for it.
    pub fn answered(mut self, status: u16, answer: &[u8], now: Moment) {
        self.is_over = true;
        let calls = Arc::clone(&self.calls);
        let mut guard = calls.lock();
        let table = &mut *guard;
        let Some(known) = table.calls.get_mut(&self.name) else { return };
        table.last += 1;
        let (number, subject) = (table.last, known.subject);
        let state = State::Answered { at: now, status, answer: answer.into() };
        let before = std::mem::replace(&mut known.state, state);
        table.answered.insert(number, self.name);
        table.bytes += size_of_known(answer);
        let of_subject = table.subjects.entry(subject).or_default();
        of_subject.bytes += size_of_known(answer);
        of_subject.answered.insert(number);
        while let Some(oldest) = table
            .subjects
            .get(&subject)
            .filter(|it| it.bytes > MOST_BYTES)
            .and_then(|it| it.answered.first().copied())
            .filter(|oldest| *oldest != number)
        {
            table.forget(oldest);
        }
        while table.bytes > calls.most_bytes
            && let Some((&oldest, _)) = table.answered.first_key_value()
            && oldest != number
        {
            table.forget(oldest);
        }
        drop(guard);
        if let State::Running(waiting) = before {
            calls.wake(waiting);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut table = self.calls.lock();
        if let Some(known) = table.calls.remove(&self.name) {
            table.leave(known.subject);
            drop(table);
            if let State::Running(waiting) = known.state {
                self.calls.wake(waiting);
            }
        }
    }
}

/// Bytes that a call takes that is remembered.
fn size_of_known(answer: &[u8]) -> usize {
    answer.len() + OF_A_CALL
}

/// Bytes beside its answer: what the tables have of it.
const OF_A_CALL: usize = 256;

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Calls of one subject that are remembered or made.
const MOST_CALLS: usize = 1000;

/// Bytes of answers to one subject.
const MOST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Moment = Moment::from_nanos(1 << 50);

    fn calls(held: usize) -> Arc<Idempotency> {
        Arc::new(Idempotency::new(held, &[Arc::default()]))
    }

    fn begin(calls: &Arc<Idempotency>, key: &str, now: Moment) -> Begun {
        calls.begin(["ann", "/p", key, "body"], ClientId::new(0, 1, 1), now)
    }

    fn first(calls: &Arc<Idempotency>, key: &str) -> Running {
        match begin(calls, key, NOON) {
            Begun::New(running) => running,
            other => panic!("{other:?}"),
        }
    }

    fn woken(calls: &Idempotency) -> usize {
        let mut commands = Default::default();
        calls.commands[0].take(&mut commands);
        commands.len()
    }

    #[test]
    fn a_repetition_waits_and_gets_the_same_answer_for_five_minutes() {
        let calls = calls(1 << 20);
        let running = first(&calls, "k");
        for _ in 0..2 {
            assert!(matches!(begin(&calls, "k", NOON), Begun::Waits));
        }
        for other in [["bob", "/p", "k", "body"], ["ann", "/q", "k", "body"]] {
            assert!(matches!(calls.begin(other, ClientId::new(0, 2, 2), NOON), Begun::New(_)));
        }
        let client = ClientId::new(0, 1, 1);
        assert!(matches!(calls.begin(["ann", "/p", "k", "other"], client, NOON), Begun::Other));
        running.answered(200, b"done", NOON);
        assert_eq!(woken(&calls), 1, "it waits once");
        let late = NOON + REMEMBERED - Duration::from_secs(1);
        assert!(matches!(begin(&calls, "k", late), Begun::Answered(200, answer) if *answer == *b"done"));
        assert!(matches!(begin(&calls, "k", NOON + REMEMBERED), Begun::New(_)));
        let table = calls.lock();
        assert!(table.subjects.is_empty() && table.bytes == 0, "nothing is left of what ended");
    }

    #[test]
    fn what_was_not_answered_is_forgotten_and_others_may_try() {
        let calls = calls(1 << 20);
        let running = first(&calls, "k");
        assert!(matches!(begin(&calls, "k", NOON), Begun::Waits));
        drop(running);
        assert_eq!(woken(&calls), 1);
        drop(first(&calls, "k"));
        assert!(calls.lock().calls.is_empty());
    }

    #[test]
    fn calls_that_are_made_are_never_forgotten_and_those_of_one_subject_cost_others_nothing() {
        let calls = calls(1 << 24);
        let bob = calls.begin(["bob", "/p", "k", "body"], ClientId::new(0, 2, 2), NOON);
        let Begun::New(bob) = bob else { panic!() };
        bob.answered(200, b"bob", NOON);
        let all: Vec<_> = (0..MOST_CALLS).map(|number| first(&calls, &number.to_string())).collect();
        assert!(matches!(begin(&calls, "more", NOON), Begun::Full));
        all.into_iter().for_each(|running| running.answered(200, &[b'x'; 10], NOON));
        first(&calls, "more").answered(200, b"more", NOON);
        assert!(matches!(begin(&calls, "1", NOON), Begun::Answered(..)));
        assert!(matches!(begin(&calls, "0", NOON), Begun::New(_)), "the oldest has given way");
        let again = calls.begin(["bob", "/p", "k", "body"], ClientId::new(0, 2, 2), NOON);
        assert!(matches!(again, Begun::Answered(200, _)));
    }

    #[test]
    fn answers_are_bounded_by_their_bytes() {
        let calls = calls(8 * (2 * OF_A_CALL + 100));
        for key in ["a", "b", "c"] {
            first(&calls, key).answered(200, &[b'x'; 40], NOON);
        }
        assert_eq!(calls.lock().bytes, 2 * size_of_known(&[0; 40]));
        assert!(matches!(begin(&calls, "a", NOON), Begun::New(_)));
        assert!(matches!(begin(&calls, "c", NOON), Begun::Answered(..)));
        for key in ["huge", "huge too"] {
            first(&calls, key).answered(200, &[b'x'; 2000], NOON);
            assert_eq!(calls.lock().calls.len(), 1, "others may wait for it");
            assert!(matches!(begin(&calls, key, NOON), Begun::Answered(..)));
        }
    }
}
