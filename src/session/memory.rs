//! What a session remembers of requests that have an `id`, so that a repeated one is not done again.
//!
//! The client keeps at most [`Memory::is_full`] many unanswered. So what it may repeat after its connection broke is among those that
//! run and twice as many that were answered last: when it comes back, others may be answered, and new ones in their places, before
//! its repetitions are read. One that is repeated is the newest again.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use crate::channel::ChannelName;
use crate::position::Position;
use crate::protocol::message::Id;

/// The requests of one session that run, and the last ones that were answered.
///
/// Of each it keeps two hashes, of the `id` and of the text, with keys that no client knows. A hash has 64 bits: among 256 `id`s
/// a new one is mistaken for an earlier one with a chance of 2⁻⁵⁶, which is once in two thousand years at a million requests per
/// second. Nobody can bring that about without the keys.
#[derive(Debug)]
pub(super) struct Memory {
    keys: RandomState,
    /// So many unanswered requests, and twice as many answers.
    most: usize,
    running: Vec<Request>,
    /// The `id`s of those that were answered, the oldest first. Apart from the texts: they are what is looked through.
    ids: VecDeque<u64>,
    texts: VecDeque<u64>,
    /// The answers to the last of them.
    answers: VecDeque<Remembered>,
    /// That these take.
    bytes: usize,
}

/// What the memory says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recalled<'a> {
    /// It is to be done. It runs from now on.
    New,
    /// Its answer is to come.
    Running,
    /// It was done.
    Done(&'a Remembered),
    /// Another request had this `id`.
    Reused,
}

/// What became of a request that was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    /// The client was told this.
    Answer(Box<[u8]>),
    /// It began a run, which is published here from this position on.
    Run(ChannelName, Position),
    /// The entry of a state was not as it had expected. What the client is told of it is read anew.
    Conflict,
    /// Nobody knows any more.
    Lost,
}

/// A request, as far as it is remembered: hashes of its `id` and of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    id: u64,
    text: u64,
}

impl Memory {
    /// Room for so many unanswered requests; see [`unanswered`].
    pub fn new(most: usize) -> Self {
        Self {
            keys: RandomState::new(),
            most,
            running: Vec::new(),
            ids: VecDeque::new(),
            texts: VecDeque::new(),
            answers: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether as many requests are unanswered as may be.
    pub fn is_full(&self) -> bool {
        self.running.len() >= self.most
    }

    /// Bytes that answers take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks a request up, and accepts it if it is new.
    pub fn recall(&mut self, id: Id<'_>, text: &str) -> Recalled<'_> {
        let request = Request { id: self.hash(id), text: self.keys.hash_one(text) };
        if let Some(running) = self.running.iter().find(|running| running.id == request.id) {
            return if *running == request { Recalled::Running } else { Recalled::Reused };
        }
        let Some(index) = index_of(&self.ids, request.id) else {
            self.running.push(request);
            return Recalled::New;
        };
        if self.texts[index] != request.text {
            return Recalled::Reused;
        }
        Recalled::Done(self.refresh(index))
    }

    /// Takes out a request that runs. `None`: it was answered.
    pub fn end(&mut self, id: Id<'_>) -> Option<Request> {
        let id = self.hash(id);
        let index = self.running.iter().position(|running| running.id == id)?;
        Some(self.running.swap_remove(index))
    }

    /// Notes what became of a request. The oldest are forgotten for it.
    pub fn remember(&mut self, request: Request, outcome: Remembered) {
        if self.ids.len() >= REMEMBERED_IDS {
            self.ids.pop_front();
            self.texts.pop_front();
        }
        self.ids.push_back(request.id);
        self.texts.push_back(request.text);
        // One that is too long takes no other with it.
        let outcome = if outcome.size() > ANSWER_BYTES { Remembered::Lost } else { outcome };
        self.bytes += outcome.size();
        self.answers.push_back(outcome);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        while self.bytes > ANSWER_BYTES || self.answers.len() > 2 * self.most {
            let oldest = self.answers.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.size());
        }
    }

    /// Makes a request the newest, because its client still waits for it. Returns its answer.
    fn refresh(&mut self, index: usize) -> &Remembered {
        let forgotten = self.ids.len() - self.answers.len();
        let answer = index.checked_sub(forgotten).and_then(|index| self.answers.remove(index));
        let (id, text) = (self.ids.remove(index), self.texts.remove(index));
        self.ids.extend(id);
        self.texts.extend(text);
        self.answers.push_back(answer.unwrap_or(Remembered::Lost));
        self.forget_oldest();
        &self.answers[self.answers.len() - 1]
    }

    /// Forgets all answers. What was done is still known.
    pub fn forget_answers(&mut self) {
        (self.answers, self.bytes) = (VecDeque::new(), 0);
    }

    fn hash(&self, id: Id<'_>) -> u64 {
        self.keys.hash_one(id.as_json())
    }
}

impl Remembered {
    /// Bytes that it takes.
    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Answer(text) => text.len(),
                Self::Run(channel, _) => channel.as_str().len(),
                Self::Conflict | Self::Lost => 0,
            }
    }
}

/// How many requests with an `id` a client may have unanswered, when the application may have so many of its messages under way.
/// More than [`REMEMBERED_IDS`] would be forgotten before they are repeated.
pub(super) fn unanswered(under_way: usize) -> usize {
    under_way.clamp(UNANSWERED, REMEMBERED_IDS)
}

/// `contains` compares several at once, and nearly every request is new.
fn index_of(ids: &VecDeque<u64>, id: u64) -> Option<usize> {
    let (first, second) = ids.as_slices();
    if !first.contains(&id) && !second.contains(&id) {
        return None;
    }
    ids.iter().position(|other| *other == id)
}

/// Requests of one session with an `id` that may be unanswered, and answers that are remembered. There are more where the
/// application may have more of a client's messages under way.
pub const UNANSWERED: usize = 64;

/// Answered requests of one session whose `id` is remembered: 4 KiB.
pub const REMEMBERED_IDS: usize = 256;

/// Bytes of the answers that one session remembers.
pub const ANSWER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;

    fn memory() -> Memory {
        Memory::new(UNANSWERED)
    }

    fn id(json: &str) -> Id<'_> {
        Id::from_json(json).expect("an id")
    }

    fn answer(text: &str) -> Remembered {
        Remembered::Answer(text.as_bytes().into())
    }

    fn answers(memory: &mut Memory, json: &str, outcome: Remembered) {
        let request = memory.end(id(json)).expect("it runs");
        memory.remember(request, outcome);
    }

    /// A request that is done at once.
    fn does(memory: &mut Memory, number: usize, outcome: Remembered) {
        let json = number.to_string();
        assert_eq!(memory.recall(id(&json), &json), Recalled::New);
        answers(memory, &json, outcome);
    }

    fn recalled(memory: &mut Memory, number: usize) -> Recalled<'_> {
        let json = number.to_string();
        memory.recall(id(&json), &json)
    }

    #[test]
    fn a_request_is_done_once_and_its_answer_stays_the_same() {
        let mut memory = memory();
        assert_eq!(memory.recall(id("1"), "text"), Recalled::New);
        assert_eq!(memory.recall(id("1"), "text"), Recalled::Running);
        answers(&mut memory, "1", answer("yes"));
        assert_eq!([memory.end(id("1")), memory.end(id("2"))], [None, None]);
        for _ in 0..2 {
            assert_eq!(memory.recall(id("1"), "text"), Recalled::Done(&answer("yes")));
        }
    }

    #[test]
    fn numbers_and_strings_are_different_ids() {
        let mut memory = memory();
        assert_eq!(memory.recall(id("1"), "text"), Recalled::New);
        assert_eq!(memory.recall(id(r#""1""#), "text"), Recalled::New);
        answers(&mut memory, "1", answer("number"));
        assert_eq!(memory.recall(id(r#""1""#), "text"), Recalled::Running);
    }

    #[test]
    fn another_text_does_not_get_the_answer_whether_the_first_one_runs_or_not() {
        let mut memory = memory();
        assert_eq!(memory.recall(id("1"), "text"), Recalled::New);
        assert_eq!(memory.recall(id("1"), "text "), Recalled::Reused);
        answers(&mut memory, "1", answer("yes"));
        assert_eq!(memory.recall(id("1"), "Text"), Recalled::Reused);
        assert_eq!(memory.recall(id("1"), "text"), Recalled::Done(&answer("yes")));
    }

    #[test]
    fn what_could_not_be_read_may_be_said_again() {
        let mut memory = memory();
        assert_eq!(memory.recall(id("1"), "text"), Recalled::New);
        assert!(memory.end(id("1")).is_some());
        assert_eq!(memory.recall(id("1"), "a better text"), Recalled::New);
    }

    #[test]
    fn the_oldest_answers_are_forgotten_and_after_them_the_ids() {
        let mut memory = memory();
        (0..REMEMBERED_IDS).for_each(|number| does(&mut memory, number, answer("x")));
        let first = REMEMBERED_IDS - 2 * UNANSWERED;
        assert_eq!(recalled(&mut memory, first), Recalled::Done(&answer("x")));
        assert_eq!(recalled(&mut memory, first - 1), Recalled::Done(&Remembered::Lost));
        assert_eq!(recalled(&mut memory, 0), Recalled::Done(&Remembered::Lost));
        // What was repeated is the newest.
        does(&mut memory, REMEMBERED_IDS, answer("x"));
        assert_eq!(recalled(&mut memory, 1), Recalled::New);
        assert_eq!(recalled(&mut memory, 0), Recalled::Done(&Remembered::Lost));
        (0..2 * UNANSWERED - 4).for_each(|number| does(&mut memory, 1000 + number, answer("y")));
        assert_eq!(recalled(&mut memory, first), Recalled::Done(&answer("x")));
    }

    #[test]
    fn what_runs_is_remembered_however_many_come_after_it() {
        let mut memory = memory();
        assert_eq!(recalled(&mut memory, 0), Recalled::New);
        (1..1000).for_each(|number| does(&mut memory, number, answer("x")));
        assert_eq!(recalled(&mut memory, 0), Recalled::Running);
        answers(&mut memory, "0", answer("at last"));
        assert_eq!(recalled(&mut memory, 0), Recalled::Done(&answer("at last")));
    }

    #[test]
    fn answers_are_bounded_in_bytes_and_a_long_one_takes_no_other_with_it() {
        let mut memory = memory();
        let long = "x".repeat(ANSWER_BYTES / 4);
        (0..8).for_each(|number| does(&mut memory, number, answer(&long)));
        assert_eq!(recalled(&mut memory, 4), Recalled::Done(&Remembered::Lost));
        assert_eq!(recalled(&mut memory, 5), Recalled::Done(&answer(&long)));
        does(&mut memory, 8, answer(&long.repeat(4)));
        assert_eq!(recalled(&mut memory, 8), Recalled::Done(&Remembered::Lost));
        assert_eq!(recalled(&mut memory, 7), Recalled::Done(&answer(&long)));
        assert!((ANSWER_BYTES / 2..=ANSWER_BYTES).contains(&memory.bytes()));
        memory.forget_answers();
        assert_eq!(memory.bytes(), 0);
        assert_eq!(recalled(&mut memory, 7), Recalled::Done(&Remembered::Lost));
        does(&mut memory, 9, answer("x"));
        assert_eq!(recalled(&mut memory, 9), Recalled::Done(&answer("x")));
        assert_eq!(recalled(&mut memory, 8), Recalled::Done(&Remembered::Lost));
    }

    #[test]
    fn a_run_is_remembered_as_the_place_where_it_is_published() {
        let mut memory = memory();
        let channel = ChannelName::new("run:1").expect("legal");
        let start = Position { epoch: Epoch::new(1), offset: 0 };
        does(&mut memory, 1, Remembered::Run(channel.clone(), start));
        assert_eq!(recalled(&mut memory, 1), Recalled::Done(&Remembered::Run(channel, start)));
        assert!(memory.bytes() > 0);
    }

    #[test]
    fn as_many_answers_are_remembered_as_may_be_unanswered() {
        assert_eq!([0, 64, 100, 9999].map(unanswered), [UNANSWERED, UNANSWERED, 100, REMEMBERED_IDS]);
        let mut memory = Memory::new(unanswered(9999));
        for number in 0..REMEMBERED_IDS {
            assert!(!memory.is_full());
            assert_eq!(recalled(&mut memory, number), Recalled::New);
        }
        assert!(memory.is_full());
        for number in (0..REMEMBERED_IDS).rev() {
            answers(&mut memory, &number.to_string(), answer("x"));
        }
        let mut kept =
            |number| matches!(recalled(&mut memory, number), Recalled::Done(Remembered::Answer(_)));
        assert_eq!((0..REMEMBERED_IDS).filter(|&number| !kept(number)).count(), 0);
    }

    #[test]
    fn the_ids_take_four_kibibytes() {
        let mut memory = memory();
        (0..10 * REMEMBERED_IDS).for_each(|number| does(&mut memory, number, Remembered::Lost));
        assert_eq!(memory.ids.capacity() + memory.texts.capacity(), 4096 / size_of::<u64>());
    }
}
