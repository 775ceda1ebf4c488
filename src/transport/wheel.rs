//! A timer wheel. It keeps one deadline per connection, which needs no timer of its own.

use std::time::Duration;

use crate::moment::Moment;

/// Keys in slots of [`SLOT`]. After [`SLOTS`] slots the wheel begins again; a deadline beyond that stays in its slot until its
/// turn. Every key that is entered comes out once, so old entries can't multiply.
///
/// When a deadline is found long after it was over, this process did not run: it was suspended, or starved. What peers sent
/// in that time is still in the sockets. So nothing comes out before there was [`GRACE`] to read them.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// Number of the first slot that has not been looked at.
    next: u64,
    entries: usize,
    held_until: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u32,
    /// Number of the slot in which it comes out, counted over all turns of the wheel.
    slot: u64,
}

impl Wheel {
    pub fn new(now: Moment) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, next: slot(now), entries: 0, held_until: None }
    }

    /// Enters a key, to come out at the deadline or up to one slot later.
    pub fn enter(&mut self, key: u32, deadline: Moment) {
        let slot = (slot(deadline) + 1).max(self.next);
        self.slots[(slot % SLOTS) as usize].push(Entry { key, slot });
        self.entries += 1;
    }

    /// Moves the keys whose slot is over to `out`.
    pub fn advance(&mut self, now: Moment, out: &mut Vec<u32>) {
        if self.is_held(now) {
            return;
        }
        let end = slot(now);
        if self.entries > 0 {
            // After a long sleep every slot is looked at, once.
            for number in self.next..=end.min(self.next + SLOTS - 1) {
                self.take_due(number, end, out);
            }
        }
        self.next = self.next.max(end + 1);
    }

    fn is_held(&mut self, now: Moment) -> bool {
        if self.held_until.is_none() && self.is_late(now) {
            self.held_until = Some(now + GRACE);
        }
        let held = self.held_until.is_some_and(|until| now < until);
        if !held {
            self.held_until = None;
        }
        held
    }

    /// Looks at the entries only when nobody has looked for a while. On a busy shard that never happens.
    fn is_late(&self, now: Moment) -> bool {
        let late = |number| now.since(start(number)) > OVERSLEPT;
        late(self.next) && self.slots.iter().flatten().any(|entry| late(entry.slot))
    }

    fn take_due(&mut self, number: u64, end: u64, out: &mut Vec<u32>) {
        let slot = &mut self.slots[(number % SLOTS) as usize];
        let before = out.len();
        slot.retain(|entry| {
            let due = entry.slot <= end;
            if due {
                out.push(entry.key);
            }
            !due
        });
        self.entries -= out.len() - before;
        // Many connections at once leave a large allocation here. An idle server frees it.
        if slot.is_empty() && slot.capacity() > 64 {
            *slot = Vec::new();
        }
    }

    /// When [`Wheel::advance`] has something to look at. `None` while the wheel is empty.
    pub fn due(&self) -> Option<Moment> {
        if self.entries == 0 {
            return None;
        }
        let waiting = |number: &u64| !self.slots[(number % SLOTS) as usize].is_empty();
        self.held_until.or_else(|| (self.next..self.next + SLOTS).find(waiting).map(start))
    }
}

fn slot(moment: Moment) -> u64 {
    moment.as_nanos() / SLOT.as_nanos() as u64
}

fn start(number: u64) -> Moment {
    Moment::from_nanos(number * SLOT.as_nanos() as u64)
}

/// Deadlines are seconds. A twentieth of one is exact enough, and lets an idle shard sleep.
const SLOT: Duration = Duration::from_millis(50);

/// 51 s: longer than the default deadlines, so that most entries are looked at once.
const SLOTS: u64 = 1024;

/// A wheel that is later than this was not running: it is much more than any turn of a shard takes, and little compared with any
/// deadline.
const OVERSLEPT: Duration = Duration::from_millis(500);

/// Enough to read a hundred thousand sockets, at 2 µs each, several times.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn advance(wheel: &mut Wheel, now: Moment) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.advance(now, &mut out);
        out
    }

    #[test]
    fn a_key_comes_out_after_its_deadline_and_within_a_slot() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(7, at(120));
        assert!(advance(&mut wheel, at(120)).is_empty());
        assert_eq!(wheel.due(), Some(at(150)));
        assert_eq!(advance(&mut wheel, at(150)), [7]);
        assert_eq!(wheel.due(), None);
    }

    #[test]
    fn a_deadline_beyond_one_turn_comes_out_once_and_in_time() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(1, at(60_000));
        wheel.enter(2, at(3_600_000));
        let (mut now, mut seen) = (0, Vec::new());
        while let Some(due) = wheel.due() {
            assert!(due > at(now), "an idle shard sleeps");
            now = due.as_nanos() / 1_000_000;
            seen.extend(advance(&mut wheel, due).into_iter().map(|key| (key, now)));
        }
        assert_eq!(seen, [(1, 60_050), (2, 3_600_050)]);
    }

    #[test]
    fn after_standing_still_nothing_comes_out_before_the_sockets_were_looked_at() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(1, at(1000));
        wheel.enter(2, at(1000));
        assert!(advance(&mut wheel, at(61_000)).is_empty());
        wheel.enter(3, at(61_500));
        assert_eq!(wheel.due(), Some(at(62_000)));
        assert!(advance(&mut wheel, at(61_999)).is_empty());
        assert_eq!(advance(&mut wheel, at(62_000)), [1, 2, 3]);
        wheel.enter(4, at(62_100));
        assert_eq!(advance(&mut wheel, at(62_150)), [4]);
    }

    #[test]
    fn a_wheel_that_is_a_little_late_holds_nothing_back() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(1, at(1000));
        assert_eq!(advance(&mut wheel, at(1550)), [1]);
    }

    #[test]
    fn a_wheel_that_had_nothing_to_do_for_an_hour_holds_nothing_back() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(1, at(3_600_300));
        assert!(advance(&mut wheel, at(3_600_000)).is_empty());
        assert_eq!(advance(&mut wheel, at(3_600_350)), [1]);
    }

    #[test]
    fn what_is_far_stays_when_the_clock_jumps_over_a_whole_turn() {
        let mut wheel = Wheel::new(at(0));
        wheel.enter(1, at(60_000));
        wheel.enter(2, at(600_000));
        assert!(advance(&mut wheel, at(119_000)).is_empty());
        assert_eq!(advance(&mut wheel, at(120_000)), [1]);
        assert!(advance(&mut wheel, at(600_000)).is_empty());
        assert_eq!(advance(&mut wheel, at(600_050)), [2]);
    }

    #[test]
    fn nothing_is_lost_when_the_clock_jumps_over_a_whole_turn() {
        let mut wheel = Wheel::new(at(0));
        (0..100).for_each(|key| wheel.enter(key, at(u64::from(key) * 300)));
        assert!(advance(&mut wheel, at(9_999_000)).is_empty());
        assert_eq!(advance(&mut wheel, at(10_000_000)).len(), 100);
        wheel.enter(5, at(10_000_100));
        assert_eq!(advance(&mut wheel, at(10_000_200)), [5]);
    }

    #[test]
    fn a_deadline_in_the_past_comes_out_at_the_next_turn() {
        let mut wheel = Wheel::new(at(10_000));
        wheel.enter(3, at(5));
        assert_eq!(advance(&mut wheel, at(10_100)), [3]);
    }
}
