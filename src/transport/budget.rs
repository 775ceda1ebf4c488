//! The bound on the unfinished messages and unread answers of all clients of a server together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::client_id::ClientId;

/// Bytes held for unfinished messages and unread answers. When they pass the limit, the oldest shares are evicted. So a client
/// that fills the budget and waits does not keep others out.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// Guards the shares. Locked for one look-up or change, when a read ends within a message and when the message goes on.
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
    budget: Arc<Budget>,
    client: ClientId,
    number: u64,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::default() }
    }

    /// A share that is younger than all others, and holds nothing yet.
    pub fn share(self: &Arc<Self>, client: ClientId) -> Share {
        let mut held = self.lock();
        held.last += 1;
        Share { budget: Arc::clone(self), client, number: held.last }
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

    #[cfg(test)]
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
        let mut held = self.budget.lock();
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
        let mut held = self.budget.lock();
        if let Some((_, bytes)) = held.shares.remove(&self.number) {
            held.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_shares_are_evicted_until_the_rest_fits() {
        let budget = Arc::new(Budget::new(100));
        let [first, second, third] = [(1, 40), (2, 30), (3, 20)].map(|(client, bytes)| {
            let share = budget.share(ClientId(client));
            share.hold(bytes);
            share
        });
        assert_eq!(budget.excess(), None);
        third.hold(90);
        assert_eq!(budget.excess(), Some((ClientId(1), first.number())));
        assert_eq!(budget.excess(), Some((ClientId(2), second.number())));
        assert_eq!((budget.excess(), budget.bytes()), (None, 90));
    }

    #[test]
    fn a_share_counts_once_however_often_it_grows_and_until_its_end() {
        let budget = Arc::new(Budget::new(100));
        let share = budget.share(ClientId(1));
        share.hold(60);
        share.hold(90);
        assert_eq!((budget.excess(), budget.bytes()), (None, 90));
        drop(share);
        assert_eq!(budget.bytes(), 0);
    }
}
