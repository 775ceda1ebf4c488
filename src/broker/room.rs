//! Producers that wait until readers have taken some of what was published.

use std::fmt;

/// For whom a producer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomFor {
    /// The readers that keep up. There is room while less than half of a burst waits for them.
    KeepingUp,
    /// All readers, late ones too. There is room while less than half of the history waits for them, so that they lose nothing.
    Everybody,
}

/// What is done when there is room.
pub type Act = Box<dyn FnOnce() + Send>;

/// The producers that wait for one log, in the order in which they came.
#[derive(Default)]
pub struct Waiters(Vec<(RoomFor, Act)>);

impl Waiters {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, who: RoomFor, act: Act) {
        self.0.push((who, act));
    }

    /// Takes out those for whom there is room.
    pub fn take(&mut self, has_room: impl Fn(RoomFor) -> bool) -> Vec<Act> {
        let rooms = [RoomFor::KeepingUp, RoomFor::Everybody].map(|who| (who, has_room(who)));
        let is_ready = |(who, _): &mut (RoomFor, Act)| rooms.contains(&(*who, true));
        self.0.extract_if(.., is_ready).map(|(_, act)| act).collect()
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Waiters").field(&self.0.len()).finish()
    }
}
