//! The channels that may have something to drop, by when that is due and by how long they were not used. With a million
//! channels, a step looks only at those that it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::memory::account::Of;
use crate::broker::memory::channel::{Channel, Rank};
use crate::moment::Moment;

/// Holds each channel at most once.
#[derive(Debug, Default)]
pub struct VisitQueue {
    /// The second part of a key tells channels apart.
    by_due: BTreeMap<(Moment, u64), (Arc<Channel>, Option<Rank>)>,
    /// Those that have something to give.
    by_use: BTreeMap<(u64, u64), Moment>,
    /// Of these, the private channels of clients that are away.
    away: BTreeMap<(u64, u64), Moment>,
    inserted: u64,
}

/// A channel in the queue, or taken out of it.
#[derive(Debug)]
pub struct Visit {
    pub channel: Arc<Channel>,
    /// The visit comes after this moment.
    pub due: Moment,
    /// As it was once; there may have been later uses. `None`: it has nothing to give.
    pub rank: Option<Rank>,
}

impl VisitQueue {
    /// Puts a channel in. If it is in already, the earlier visit is left.
    pub fn insert(&mut self, Visit { channel, due, rank }: Visit) {
        let before = self.remove(&channel);
        let due = before.map_or(due, |(other, _)| other.min(due));
        // Whoever found nothing may have looked before something came.
        let rank = rank.or(before.and_then(|(_, rank)| rank));
        self.inserted += 1;
        channel.set_queue_place(due, self.inserted);
        self.by_due.insert((due, self.inserted), (channel, rank));
        if let Some(Rank { last_use, is_away }) = rank {
            let index = if is_away { &mut self.away } else { &mut self.by_use };
            index.insert((last_use, self.inserted), due);
        }
    }

    /// Takes out a channel whose time has passed.
    pub fn take_due(&mut self, now: Moment) -> Option<Arc<Channel>> {
        let first = self.by_due.first_entry()?;
        let (due, number) = *first.key();
        if due >= now {
            return None;
        }
        let (channel, rank) = first.remove();
        self.remove_rank(rank, number);
        Some(channel)
    }

    /// Takes out a channel, if it is in. Returns when it was to be visited, and its rank.
    pub fn remove(&mut self, channel: &Channel) -> Option<(Moment, Option<Rank>)> {
        let (due, number) = channel.queue_place();
        let (_, rank) = self.by_due.remove(&(due, number))?;
        self.remove_rank(rank, number);
        Some((due, rank))
    }

    /// Takes out the channel that was used least recently, as far as the queue knows.
    pub fn take_least_used(&mut self, of: Of) -> Option<Visit> {
        let [used, away] =
            [&self.by_use, &self.away].map(|index| index.first_key_value().map(|(key, _)| *key));
        let is_away = of == Of::Away || used.is_none_or(|used| away.is_some_and(|away| away < used));
        let index = if is_away { &mut self.away } else { &mut self.by_use };
        let ((_, number), due) = index.pop_first()?;
        let (channel, rank) = self.by_due.remove(&(due, number))?;
        Some(Visit { channel, due, rank })
    }

    fn remove_rank(&mut self, rank: Option<Rank>, number: u64) {
        if let Some(Rank { last_use, is_away }) = rank {
            let index = if is_away { &mut self.away } else { &mut self.by_use };
            index.remove(&(last_use, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::account::MemoryAccount;
    use crate::channel::ChannelName;
    use crate::position::Epoch;
    use crate::rules::Retention;

    fn queue(channels: &[(u64, u64, Option<Rank>)]) -> VisitQueue {
        let mut queue = VisitQueue::default();
        let account = Arc::new(MemoryAccount::new(1000, 250));
        for &(epoch, due, rank) in channels {
            let name = ChannelName::private("x");
            let channel = Channel::new(&name, Epoch::new(epoch), Retention::default(), &account);
            queue.insert(Visit { channel: Arc::new(channel), due: Moment::from_nanos(due), rank });
        }
        queue
    }

    fn used(last_use: u64) -> Option<Rank> {
        Some(Rank { last_use, is_away: false })
    }

    fn away(last_use: u64) -> Option<Rank> {
        Some(Rank { last_use, is_away: true })
    }

    #[test]
    fn channels_come_out_in_the_order_of_their_times_and_not_earlier() {
        let mut queue = queue(&[(1, 30, used(1)), (2, 10, None), (3, 30, used(1))]);
        let mut take = |now| queue.take_due(Moment::from_nanos(now)).map(|channel| channel.log().epoch());
        assert_eq!(take(10), None);
        assert_eq!((take(11), take(11)), (Some(Epoch::new(2)), None));
        assert_eq!((take(31), take(31), take(31)), (Some(Epoch::new(1)), Some(Epoch::new(3)), None));
    }

    #[test]
    fn channels_come_out_in_the_order_of_their_use() {
        let ranks = [used(7), away(9), used(5), away(6), away(8), None];
        let channels: Vec<_> = (1..).zip(ranks).map(|(epoch, rank)| (epoch, 30, rank)).collect();
        let mut queue = queue(&channels);
        let mut take = |of| queue.take_least_used(of).map(|visit| (visit.channel.log().epoch(), visit.rank));
        assert_eq!(take(Of::All), Some((Epoch::new(3), used(5))));
        assert_eq!(take(Of::All), Some((Epoch::new(4), away(6))));
        assert_eq!(take(Of::Away), Some((Epoch::new(5), away(8))));
        assert_eq!(take(Of::All), Some((Epoch::new(1), used(7))));
        assert_eq!(take(Of::All), Some((Epoch::new(2), away(9))));
        assert_eq!(take(Of::All).or(take(Of::Away)), None);
        assert!(queue.take_due(Moment::from_nanos(31)).is_some(), "one had nothing to give");
        assert!(queue.by_due.is_empty());
    }

    #[test]
    fn who_found_nothing_does_not_hide_what_came_meanwhile() {
        let mut queue = queue(&[(1, 30, used(7))]);
        let Some(visit) = queue.take_least_used(Of::All) else { panic!("it is in") };
        let channel = &visit.channel;
        for (due, rank) in [(20, away(8)), (25, None)] {
            queue.insert(Visit { channel: Arc::clone(channel), due: Moment::from_nanos(due), rank });
        }
        let found = queue.take_least_used(Of::Away).map(|visit| (visit.due, visit.rank));
        assert_eq!(found, Some((Moment::from_nanos(20), away(8))));
    }
}
