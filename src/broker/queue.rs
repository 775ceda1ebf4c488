//! The logs that may have something to drop, by when that is due and by how long they were not used: a million channels cost
//! a look at those that it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::log::Log;
use crate::moment::Moment;

/// Each log is in it at most once, and says itself whether it is ([`Log::append`] and its likes).
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// With the number of the last use. The second part of a key tells logs apart.
    due: BTreeMap<(Moment, u64), (Arc<Log>, u64)>,
    used: BTreeMap<(u64, u64), Moment>,
    entered: u64,
}

/// A log outside of the queue, and what is known about it there.
#[derive(Debug)]
pub(super) struct Entry {
    pub log: Arc<Log>,
    /// When it is to be visited; not before that has passed.
    pub due: Moment,
    /// A use of it, not necessarily the last one.
    pub used: u64,
}

impl Queue {
    pub fn enter(&mut self, Entry { log, due, used }: Entry) {
        self.entered += 1;
        self.due.insert((due, self.entered), (log, used));
        self.used.insert((used, self.entered), due);
    }

    /// Takes out a log whose time has passed.
    pub fn take_due(&mut self, now: Moment) -> Option<Arc<Log>> {
        let first = self.due.first_entry()?;
        let (due, number) = *first.key();
        if due >= now {
            return None;
        }
        let (log, used) = first.remove();
        self.used.remove(&(used, number));
        Some(log)
    }

    /// Takes out the log that was used least recently, as far as was entered.
    pub fn take_unused(&mut self) -> Option<Entry> {
        let ((used, number), due) = self.used.pop_first()?;
        let (log, _) = self.due.remove(&(due, number))?;
        Some(Entry { log, due, used })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ledger::Ledger;
    use crate::channel::ChannelName;
    use crate::position::Epoch;
    use crate::rules::Retention;

    fn queue(logs: &[(u64, u64, u64)]) -> Queue {
        let mut queue = Queue::default();
        let ledger = Arc::new(Ledger::new(1000));
        for &(epoch, due, used) in logs {
            let name = ChannelName::private("x");
            let log = Log::new(&name, Epoch::new(epoch), Retention::default(), Arc::clone(&ledger));
            queue.enter(Entry { log: Arc::new(log), due: Moment::from_nanos(due), used });
        }
        queue
    }

    #[test]
    fn logs_come_out_in_the_order_of_their_times_and_not_before_them() {
        let mut queue = queue(&[(1, 30, 1), (2, 10, 2), (3, 30, 1)]);
        let mut take = |now| queue.take_due(Moment::from_nanos(now)).map(|log| log.epoch());
        assert_eq!(take(10), None);
        assert_eq!((take(11), take(11)), (Some(Epoch::new(2)), None));
        assert_eq!((take(31), take(31), take(31)), (Some(Epoch::new(1)), Some(Epoch::new(3)), None));
    }

    #[test]
    fn or_in_the_order_of_their_use() {
        let mut queue = queue(&[(1, 30, 7), (2, 10, 9), (3, 30, 5)]);
        let mut take = || queue.take_unused().map(|entry| (entry.log.epoch(), entry.used));
        assert_eq!(take(), Some((Epoch::new(3), 5)));
        assert_eq!(take(), Some((Epoch::new(1), 7)));
        assert_eq!(take(), Some((Epoch::new(2), 9)));
        assert_eq!(take(), None);
        assert!(queue.due.is_empty());
    }
}
