//! How much a client may say before the application has finished with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::session::Question;
use crate::transport::budget::Account;
use crate::transport::client_id::ClientId;
use crate::transport::commands::{ClientCommand, CommandQueue};

/// What the messages of one client take until the application has finished with them.
#[derive(Debug)]
pub struct Allowance {
    client: ClientId,
    most: Most,
    bytes: AtomicUsize,
    messages: AtomicUsize,
    /// The client was not heard for want of room, and has to be told when there is some.
    stopped: AtomicBool,
    account: Arc<Account>,
    commands: Arc<CommandQueue>,
}

/// With so much under way, a client is not heard.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// In bytes, as Python holds them.
    pub bytes: usize,
    /// Messages, however short. Otherwise those of a few clients could fill the queue of events, in front of all others.
    pub messages: usize,
}

/// What one message takes of its client's allowance and of the budget of all. It is given back when this is dropped: then the
/// application has finished with the message. So one client can't fill the queue of all, and all together no more than memory.
#[derive(Debug)]
pub struct Credit {
    /// Few bits, because events carry it.
    bytes: u32,
    /// Until [`Credit::give_place_back`].
    has_place: AtomicBool,
    allowance: Arc<Allowance>,
}

impl Allowance {
    /// For a client that may use so many bytes.
    pub(crate) fn new(
        client: ClientId,
        most: Most,
        account: &Arc<Account>,
        commands: &Arc<CommandQueue>,
    ) -> Self {
        let [bytes, messages] = [0; 2].map(AtomicUsize::new);
        let (account, commands) = (Arc::clone(account), Arc::clone(commands));
        Self { client, most, bytes, messages, stopped: AtomicBool::new(false), account, commands }
    }

    /// Whether a message may be taken from the client, however long it is, when `more` bytes are used beside the credits. After
    /// `false`, [`ClientCommand::ReadAgain`] follows when a credit is given back that makes room.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        let has_room = || {
            self.bytes.load(SeqCst) + more < self.most.bytes
                && self.messages.load(SeqCst) < self.most.messages
        };
        if has_room() {
            return true;
        }
        self.stopped.store(true, SeqCst);
        // Looked at again, because all may have been given back before that.
        has_room()
    }

    /// Takes a message. One without a byte takes a place, too.
    pub(crate) fn credit(self: &Arc<Self>, bytes: usize) -> Credit {
        let bytes = u32::try_from(bytes + PLACE).unwrap_or(u32::MAX);
        self.account.take(bytes as usize);
        self.bytes.fetch_add(bytes as usize, SeqCst);
        self.messages.fetch_add(1, SeqCst);
        Credit { bytes, has_place: AtomicBool::new(true), allowance: Arc::clone(self) }
    }

    fn give_back(&self, bytes: usize, messages: usize) {
        self.account.give_back(bytes);
        let bytes = self.bytes.fetch_sub(bytes, SeqCst) - bytes;
        let messages = self.messages.fetch_sub(messages, SeqCst) - messages;
        // In halves, so that not each message wakes the shard.
        let has_room = bytes < self.most.bytes && messages <= self.most.messages / 2;
        if has_room && self.stopped.load(SeqCst) && self.stopped.swap(false, SeqCst) {
            self.commands.push_for(self.client, ClientCommand::ReadAgain);
        }
    }
}

impl Credit {
    /// Gives back the place of a message that goes on for long: another limit bounds such messages. Its bytes still count.
    pub fn give_place_back(&self) {
        self.allowance.give_back(0, usize::from(self.has_place.swap(false, SeqCst)));
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.allowance.give_back(self.bytes as usize, usize::from(*self.has_place.get_mut()));
    }
}

/// Bytes that a text takes as a Python string: one, two or four for each character, as the longest of them needs.
pub fn text_bytes(text: &str) -> usize {
    text.len() * text_width(text.as_bytes())
}

/// Bytes that a JSON text takes as Python objects: its strings, and 64 for each element. That is an empty list with its place
/// in another.
pub fn json_bytes(text: &[u8], elements: usize) -> usize {
    // An escape can stand for any character.
    let width = if memchr::memchr(b'\\', text).is_some() { 4 } else { text_width(text) };
    text.len() * width + elements * ELEMENT
}

/// Values and keys that a JSON text may have: nobody has counted those of an entry.
fn most_elements(text: &[u8]) -> usize {
    1 + text.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count()
}

fn text_width(text: &[u8]) -> usize {
    match text.iter().max() {
        Some(0xf0..) => 4,
        Some(0xc4..) => 2,
        _ => 1,
    }
}

/// What may be under way from one client of a websocket path.
pub(crate) const OF_A_ROUTE: Most = Most { bytes: 128 * 1024, messages: 64 };

/// Bytes that a message's place in the queue of events takes, at most.
pub(crate) const PLACE: usize = 128;

/// Bytes of a Python object of JSON.
const ELEMENT: usize = 64;

/// Bytes that a question takes in Python.
pub(super) fn held_by(question: &Question) -> usize {
    match question {
        Question::Message { text, elements, .. } => json_bytes(text, *elements as usize),
        Question::Subscribe { channel, .. } | Question::Presence { channel, .. } => channel.as_str().len(),
        Question::Publish { data, elements, .. } => json_bytes(data, *elements as usize),
        Question::Resolve(conflict) => {
            conflict.texts().map(|text| json_bytes(text, most_elements(text))).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::session::{Conflict, FoundEntry};
    use crate::transport::budget::Budget;
    use crate::transport::commands::Command;

    const CLIENT: ClientId = ClientId(1);

    fn commands(queue: &CommandQueue) -> usize {
        let mut commands = VecDeque::new();
        queue.take(&mut commands);
        assert!(commands.iter().all(|it| matches!(it, Command::Client(CLIENT, ClientCommand::ReadAgain))));
        commands.len()
    }

    #[test]
    fn a_client_is_heard_again_when_the_application_has_finished_with_its_messages() {
        let (queue, budget) = (Arc::default(), Budget::new(1 << 20, &[]));
        let allowance = Arc::new(Allowance::new(CLIENT, OF_A_ROUTE, &budget.messages, &queue));
        let mut credits = Vec::new();
        while allowance.has_room(0) {
            credits.push(allowance.credit(10_000));
        }
        assert_eq!(credits.len(), 13, "128 KiB, and a place for each message");
        credits.push(allowance.credit(10_000));
        credits.pop();
        assert_eq!(commands(&queue), 0);
        credits.pop();
        assert_eq!(commands(&queue), 1);
        assert!(allowance.has_room(0) && !allowance.has_room(128 * 1024));
        credits.pop();
        assert_eq!(commands(&queue), 1, "it was told again that there is no room");
        credits.clear();
        assert_eq!(commands(&queue), 0, "it is told once");
    }

    #[test]
    fn the_number_of_messages_is_bounded_too() {
        let (queue, budget) = (Arc::default(), Budget::new(1 << 20, &[]));
        let allowance = Arc::new(Allowance::new(CLIENT, OF_A_ROUTE, &budget.messages, &queue));
        let mut credits = Vec::new();
        while allowance.has_room(0) {
            credits.push(allowance.credit(0));
        }
        assert_eq!(credits.len(), 64);
        credits.truncate(33);
        assert_eq!(commands(&queue), 0);
        credits.pop();
        assert_eq!(commands(&queue), 1);
    }

    #[test]
    fn a_message_that_goes_on_takes_no_place_and_still_its_bytes() {
        let (queue, budget) = (Arc::default(), Budget::new(1 << 20, &[]));
        let most = Most { bytes: 10_000, messages: 1 };
        let allowance = Arc::new(Allowance::new(CLIENT, most, &budget.messages, &queue));
        let credit = allowance.credit(1000);
        assert!(!allowance.has_room(0));
        credit.give_place_back();
        assert_eq!(commands(&queue), 1);
        assert!(allowance.has_room(0) && !allowance.has_room(9000));
        credit.give_place_back();
        drop(credit);
        assert!(allowance.has_room(9999));
    }

    #[test]
    fn one_long_character_makes_all_long() {
        assert_eq!([text_bytes("aé"), text_bytes("a文"), text_bytes("a😀")], [3, 8, 20]);
        assert_eq!(json_bytes(br#"["a",{}]"#, 3), 8 + 3 * ELEMENT);
        assert_eq!(json_bytes(br#""\u6587""#, 1), 8 * 4 + ELEMENT);
    }

    #[test]
    fn a_conflict_counts_what_all_its_values_are_made_of() {
        assert_eq!([&b"1"[..], b"[]", br#"{"a":[[],1]}"#].map(most_elements), [1, 2, 6]);
        let text = |text: &str| Some(bytes::Bytes::copy_from_slice(text.as_bytes()));
        let found = FoundEntry { data: text("[[],[],[]]"), base: text("2"), ..FoundEntry::default() };
        let conflict = Conflict {
            number: 1,
            rule: 0,
            channel: crate::channel::ChannelName::new("a").expect("legal"),
            params: [].into(),
            key: "k".into(),
            proposed: text("1"),
            expects_nothing: false,
            found,
        };
        // What is there is longer than what the client has sent.
        assert!(held_by(&Question::Resolve(Box::new(conflict))) >= 12 + (4 + 2) * ELEMENT);
    }
}
