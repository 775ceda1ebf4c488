//! The bound on what is held for all clients of a server together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::client_id::ClientId;
use crate::transport::commands::{Command, CommandQueue};

/// Bytes held for clients.
///
/// What the client has to finish, its unfinished message and the answers that it does not read, is a [`Share`]. When the shares
/// pass the limit, the oldest are evicted. So a client that fills the budget and waits does not keep others out. Answers that
/// sessions remember are shares with a limit of their own: those that are evicted are forgotten, and no connection ends for them.
///
/// What the application has to finish, the messages of clients, is a [`Hold`], and so is what was read ahead of them. When the holds
/// of an account pass its limit, nothing more is read for it. Nobody is evicted for that.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// Unfinished messages and unread answers.
    pub unfinished: Arc<Shares>,
    /// Answers that are remembered, with a quarter of the limit.
    pub remembered: Arc<Shares>,
    /// Messages that the application was given, with the same limit.
    pub messages: Arc<Account>,
    /// Those of websocket paths, with half of it. Nothing ends a function that takes none, so these could keep all others out.
    pub of_routes: Arc<Account>,
    /// What waits to be read as messages, with half of it.
    pub ahead: Arc<Account>,
}

/// Bytes of holds.
#[derive(Debug)]
pub(crate) struct Account {
    limit: usize,
    bytes: AtomicUsize,
    /// A shard was told that there is no room, and waits until it is told that there is.
    starved: AtomicBool,
    /// Those of the shards.
    commands: Vec<Arc<CommandQueue>>,
}

/// Bytes on an account. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    account: Arc<Account>,
    bytes: usize,
}

/// Shares with one limit.
#[derive(Debug)]
pub(crate) struct Shares {
    limit: usize,
    /// Guards the shares. Locked for one look-up or change, when a read ends within a message and when the message goes on, and
    /// when the answers that are remembered take 4 KiB more or less.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    last: u64,
    /// By the number of the share, which is its age.
    shares: BTreeMap<u64, (ClientId, usize)>,
}

/// What one client holds, for one message or for its answers. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: ClientId,
    number: u64,
}

impl Budget {
    /// For the shards with these commands.
    pub fn new(limit: usize, commands: &[Arc<CommandQueue>]) -> Self {
        let [messages, of_routes, ahead] =
            [limit, limit / 2, limit / 2].map(|limit| Arc::new(Account::new(limit, commands)));
        let [unfinished, remembered] =
            [limit, limit / 4].map(|limit| Arc::new(Shares { limit, held: Mutex::default() }));
        Self { limit, unfinished, remembered, messages, of_routes, ahead }
    }

    /// Bytes that the messages of one client may hold.
    pub fn allowance(&self) -> usize {
        self.limit / 8
    }
}

impl Shares {
    /// A share that is younger than all others, and holds nothing yet.
    pub fn share(self: &Arc<Self>, client: ClientId) -> Share {
        let mut held = self.lock();
        held.last += 1;
        Share { shares: Arc::clone(self), client, number: held.last }
    }

    /// Evicts the oldest share while too much is held. Returns its client and its number.
    pub fn excess(&self) -> Option<(ClientId, u64)> {
        let mut held = self.lock();
        if held.bytes <= self.limit {
            return None;
        }
        let (number, (client, bytes)) = held.shares.pop_first()?;
        held.bytes -= bytes;
        Some((client, number))
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Notes how many bytes it holds now.
    pub fn hold(&self, bytes: usize) {
        let mut held = self.shares.lock();
        let before = held.shares.insert(self.number, (self.client, bytes));
        held.bytes += bytes;
        held.bytes -= before.map_or(0, |(_, bytes)| bytes);
    }

    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.lock();
        if let Some((_, bytes)) = held.shares.remove(&self.number) {
            held.bytes -= bytes;
        }
    }
}

impl Account {
    fn new(limit: usize, commands: &[Arc<CommandQueue>]) -> Self {
        let starved = AtomicBool::new(false);
        Self { limit, bytes: AtomicUsize::new(0), starved, commands: commands.to_vec() }
    }

    /// Whether more may be read. After `false`, [`Command::RoomForEvents`] follows when it may.
    pub fn has_room(&self) -> bool {
        if self.bytes.load(SeqCst) < self.limit {
            return true;
        }
        self.starved.store(true, SeqCst);
        // Looked at again, because all may have been given back before that.
        self.bytes.load(SeqCst) < self.limit
    }

    /// Takes bytes, whatever the limit.
    pub fn take(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, SeqCst);
    }

    /// Gives them back.
    pub fn give_back(&self, bytes: usize) {
        let left = self.bytes.fetch_sub(bytes, SeqCst) - bytes;
        // Not at the first byte: a shard that is woken should find something to do.
        if left < self.limit / 4 * 3 && self.starved.load(SeqCst) && self.starved.swap(false, SeqCst) {
            for commands in &self.commands {
                commands.push(Command::RoomForEvents);
            }
        }
    }
}

impl Hold {
    pub fn new(account: &Arc<Account>, bytes: usize) -> Self {
        account.take(bytes);
        Self { account: Arc::clone(account), bytes }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_shares_are_evicted_until_the_rest_fits() {
        let shares = Budget::new(100, &[]).unfinished;
        let [first, second, third] = [(1, 40), (2, 30), (3, 20)].map(|(client, bytes)| {
            let share = shares.share(ClientId(client));
            share.hold(bytes);
            share
        });
        assert_eq!(shares.excess(), None);
        third.hold(90);
        assert_eq!(shares.excess(), Some((ClientId(1), first.number())));
        assert_eq!(shares.excess(), Some((ClientId(2), second.number())));
        assert_eq!((shares.excess(), shares.bytes()), (None, 90));
    }

    #[test]
    fn a_share_counts_once_however_often_it_grows_and_until_its_end() {
        let shares = Budget::new(100, &[]).unfinished;
        let share = shares.share(ClientId(1));
        share.hold(60);
        share.hold(90);
        assert_eq!((shares.excess(), shares.bytes()), (None, 90));
        drop(share);
        assert_eq!(shares.bytes(), 0);
    }

    #[test]
    fn nothing_more_is_read_while_the_application_has_too_much() {
        let commands = Arc::<CommandQueue>::default();
        let budget = Budget::new(100, &[Arc::clone(&commands)]);
        let told = || {
            let mut taken = std::collections::VecDeque::new();
            commands.take(&mut taken);
            taken.len()
        };
        let small = Hold::new(&budget.messages, 20);
        let _kept = Hold::new(&budget.messages, 70);
        assert!(budget.messages.has_room());
        let large = Hold::new(&budget.messages, 50);
        assert!(!budget.messages.has_room() && budget.ahead.has_room());
        drop(small);
        assert_eq!((budget.messages.has_room(), told()), (false, 0));
        drop(large);
        assert_eq!((budget.messages.has_room(), told(), budget.unfinished.excess()), (true, 1, None));
    }

    #[test]
    fn answers_that_are_remembered_take_nothing_from_unfinished_messages() {
        let budget = Budget::new(100, &[]);
        let [first, second] = [1, 2].map(|client| budget.remembered.share(ClientId(client)));
        first.hold(20);
        assert_eq!(budget.remembered.excess(), None);
        second.hold(10);
        assert_eq!(budget.remembered.excess(), Some((ClientId(1), first.number())));
        assert_eq!((budget.remembered.excess(), budget.unfinished.bytes()), (None, 0));
    }
}
