//! The logs that time can change, by when that is due: a million channels cost a look at those that are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::log::Log;
use crate::moment::Moment;

/// Each log is in it at most once, and says itself whether it is ([`Log::append`] and its likes).
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The number tells logs apart that are due together.
    due: BTreeMap<(Moment, u64), Arc<Log>>,
    entered: u64,
}

impl Queue {
    /// Enters a log that is to be visited when `due` has passed.
    pub fn enter(&mut self, log: Arc<Log>, due: Moment) {
        self.entered += 1;
        self.due.insert((due, self.entered), log);
    }

    /// Takes out a log whose time has passed.
    pub fn take_due(&mut self, now: Moment) -> Option<Arc<Log>> {
        let first = self.due.first_entry()?;
        (first.key().0 < now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelName;
    use crate::config::Retention;
    use crate::position::Epoch;

    #[test]
    fn logs_come_out_in_the_order_of_their_times_and_not_before_them() {
        let mut queue = Queue::default();
        for (epoch, due) in [(1, 30), (2, 10), (3, 30)] {
            let name = ChannelName::private("x");
            let log = Log::new(&name, Epoch::new(epoch), Retention::default());
            queue.enter(Arc::new(log), Moment::from_nanos(due));
        }
        let mut take = |now| queue.take_due(Moment::from_nanos(now)).map(|log| log.epoch());
        assert_eq!(take(10), None);
        assert_eq!((take(11), take(11)), (Some(Epoch::new(2)), None));
        assert_eq!((take(31), take(31), take(31)), (Some(Epoch::new(1)), Some(Epoch::new(3)), None));
    }
}
