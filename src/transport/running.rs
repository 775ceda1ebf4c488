//! The threads of a server, as long as they run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::transport::clock::Clock;
use crate::transport::events::Event;
use crate::transport::members;
use crate::transport::shared::Shared;

#[derive(Default)]
pub(crate) struct Threads {
    /// The condition is signalled when there may be none.
    running: Mutex<Running>,
    ended: Condvar,
}

#[derive(Default)]
pub(crate) struct Running {
    pub started: bool,
    pub shards: usize,
    /// The thread of the listener for operators, which ends after the shards.
    pub admin: bool,
}

impl Threads {
    pub fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every thread has ended; `false` when that takes longer than `timeout`.
    pub fn join(&self, timeout: Duration, clock: &Clock) -> bool {
        let end = clock.now() + timeout;
        let mut running = self.lock();
        while running.shards > 0 || running.admin {
            let left = end.since(clock.now());
            if left.is_zero() {
                return false;
            }
            running = self.ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub fn shard_ended(&self, shared: &Shared) {
        let mut running = self.lock();
        running.shards -= 1;
        if running.shards == 0 {
            members::tell_last(shared);
            shared.inbox.push(Event::Stopped);
            shared.ended.notify_one();
            self.ended.notify_all();
        }
    }

    pub fn admin_ended(&self) {
        self.lock().admin = false;
        self.ended.notify_all();
    }
}
