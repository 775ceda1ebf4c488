//! The bound on what all clients of a server have begun and not finished.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::transport::events::ClientId;

/// Bytes held for unfinished messages. When they pass the limit, the oldest messages give way to the younger: whoever fills
/// the budget and waits does not keep others out.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    /// Locked for one look-up or change, by a read that ends within a message and by the one that goes on after it.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    last: u64,
    /// By age.
    messages: BTreeMap<Share, (ClientId, usize)>,
}

/// Names what one client holds for one message. A later one is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u64);

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::default() }
    }

    /// Notes that a client holds `bytes`, for the message of its `share` or for one that has none yet.
    pub fn hold(&self, share: Option<Share>, client: ClientId, bytes: usize) -> Share {
        let mut held = self.lock();
        let share = share.unwrap_or_else(|| {
            held.last += 1;
            Share(held.last)
        });
        let before = held.messages.insert(share, (client, bytes));
        held.bytes += bytes;
        held.bytes -= before.map_or(0, |(_, bytes)| bytes);
        share
    }

    pub fn release(&self, share: Share) {
        let mut held = self.lock();
        if let Some((_, bytes)) = held.messages.remove(&share) {
            held.bytes -= bytes;
        }
    }

    /// Whose message has to give way, if any; it is released.
    pub fn excess(&self) -> Option<(Share, ClientId)> {
        let mut held = self.lock();
        if held.bytes <= self.limit {
            return None;
        }
        let (share, (client, bytes)) = held.messages.pop_first()?;
        held.bytes -= bytes;
        Some((share, client))
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_messages_give_way_until_the_rest_fits() {
        let budget = Budget::new(100);
        let [first, second, third] =
            [(1, 40), (2, 30), (3, 20)].map(|(client, bytes)| budget.hold(None, ClientId(client), bytes));
        assert_eq!(budget.excess(), None);
        assert_eq!(budget.hold(Some(third), ClientId(3), 90), third);
        assert_eq!(budget.excess(), Some((first, ClientId(1))));
        assert_eq!(budget.excess(), Some((second, ClientId(2))));
        assert_eq!((budget.excess(), budget.bytes()), (None, 90));
    }

    #[test]
    fn a_message_counts_once_however_often_it_grows_and_until_it_is_released() {
        let budget = Budget::new(100);
        let share = budget.hold(None, ClientId(1), 60);
        budget.hold(Some(share), ClientId(1), 90);
        assert_eq!((budget.excess(), budget.bytes()), (None, 90));
        budget.release(share);
        budget.release(share);
        assert_eq!(budget.bytes(), 0);
    }
}
