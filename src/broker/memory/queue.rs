//! The channels that may have something to drop, by when that is due and by how long they were not used. With a million
//! channels, a step looks only at those that it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::memory::channel::Channel;
use crate::moment::Moment;

/// Holds each channel at most once.
#[derive(Debug, Default)]
pub struct VisitQueue {
    /// With the number of the last use. The second part of a key tells channels apart.
    by_due: BTreeMap<(Moment, u64), (Arc<Channel>, u64)>,
    by_use: BTreeMap<(u64, u64), Moment>,
    inserted: u64,
}

/// A channel in the queue, or taken out of it.
#[derive(Debug)]
pub struct Visit {
    pub channel: Arc<Channel>,
    /// The visit comes after this moment.
    pub due: Moment,
    /// Number of a use of the channel; there may have been later ones.
    pub last_use: u64,
}

impl VisitQueue {
    /// Puts a channel in. If it is in already, the earlier visit is left.
    pub fn insert(&mut self, Visit { channel, due, last_use }: Visit) {
        let due = self.remove(&channel).map_or(due, |other| other.min(due));
        self.inserted += 1;
        channel.set_queue_place(due, self.inserted);
        self.by_due.insert((due, self.inserted), (channel, last_use));
        self.by_use.insert((last_use, self.inserted), due);
    }

    /// Takes out a channel whose time has passed.
    pub fn take_due(&mut self, now: Moment) -> Option<Arc<Channel>> {
        let first = self.by_due.first_entry()?;
        let (due, number) = *first.key();
        if due >= now {
            return None;
        }
        let (channel, last_use) = first.remove();
        self.by_use.remove(&(last_use, number));
        Some(channel)
    }

    /// Takes out a channel, if it is in. Returns when it was to be visited.
    pub fn remove(&mut self, channel: &Channel) -> Option<Moment> {
        let (due, number) = channel.queue_place();
        let (_, last_use) = self.by_due.remove(&(due, number))?;
        self.by_use.remove(&(last_use, number));
        Some(due)
    }

    /// Takes out the channel that was used least recently, as far as the queue knows.
    pub fn take_least_used(&mut self) -> Option<Visit> {
        let ((last_use, number), due) = self.by_use.pop_first()?;
        let (channel, _) = self.by_due.remove(&(due, number))?;
        Some(Visit { channel, due, last_use })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::account::MemoryAccount;
    use crate::channel::ChannelName;
    use crate::position::Epoch;
    use crate::rules::Retention;

    fn queue(channels: &[(u64, u64, u64)]) -> VisitQueue {
        let mut queue = VisitQueue::default();
        let account = Arc::new(MemoryAccount::new(1000));
        for &(epoch, due, last_use) in channels {
            let name = ChannelName::private("x");
            let channel = Channel::new(&name, Epoch::new(epoch), Retention::default(), &account);
            queue.insert(Visit { channel: Arc::new(channel), due: Moment::from_nanos(due), last_use });
        }
        queue
    }

    #[test]
    fn channels_come_out_in_the_order_of_their_times_and_not_earlier() {
        let mut queue = queue(&[(1, 30, 1), (2, 10, 2), (3, 30, 1)]);
        let mut take = |now| queue.take_due(Moment::from_nanos(now)).map(|channel| channel.log().epoch());
        assert_eq!(take(10), None);
        assert_eq!((take(11), take(11)), (Some(Epoch::new(2)), None));
        assert_eq!((take(31), take(31), take(31)), (Some(Epoch::new(1)), Some(Epoch::new(3)), None));
    }

    #[test]
    fn channels_come_out_in_the_order_of_their_use() {
        let mut queue = queue(&[(1, 30, 7), (2, 10, 9), (3, 30, 5)]);
        let mut take = || queue.take_least_used().map(|visit| (visit.channel.log().epoch(), visit.last_use));
        assert_eq!(take(), Some((Epoch::new(3), 5)));
        assert_eq!(take(), Some((Epoch::new(1), 7)));
        assert_eq!(take(), Some((Epoch::new(2), 9)));
        assert_eq!(take(), None);
        assert!(queue.by_due.is_empty());
    }
}
