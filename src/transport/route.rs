//! One client of a websocket path: a protocol of the application's own, whose messages the core only carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::close::CloseReason;
use crate::identity::Identity;

/// What is under way in both directions.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// Bytes of messages between the application and the socket. The application's side adds to it.
    pub backlog: Arc<AtomicUsize>,
    /// How many of those wait in the outbox.
    waiting: usize,
    /// Who the client is, once it was let in.
    pub identity: Option<Arc<Identity>>,
    /// Why the client has ended, while the application may still say something.
    pub ending: Option<CloseReason>,
}

impl Route {
    /// Whether the route wants to hear more of its client.
    pub fn listens(&self) -> bool {
        self.ending.is_none()
    }

    /// Notes bytes that the socket did not take at once.
    pub fn wait(&mut self, bytes: usize) {
        self.waiting += bytes;
    }

    /// The outbox is empty. As [`Route::delivered`].
    pub fn delivered_all(&mut self) -> bool {
        let waiting = std::mem::take(&mut self.waiting);
        self.delivered(waiting)
    }

    /// The socket has taken so many bytes. Returns whether a sender that waits may go on.
    pub fn delivered(&self, bytes: usize) -> bool {
        let before = self.backlog.fetch_sub(bytes, Ordering::AcqRel);
        before >= HIGH_WATER && before - bytes < HIGH_WATER
    }
}

/// With so many bytes on their way, a sender on a websocket path waits for
/// [`Event::Writable`](crate::transport::events::Event::Writable).
pub const HIGH_WATER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_waits_goes_on_when_little_enough_is_on_its_way() {
        let mut route = Route::default();
        route.backlog.store(HIGH_WATER + 10, Ordering::Release);
        assert!(!route.delivered(10), "it is still too much");
        route.wait(5);
        route.wait(5);
        assert!(route.delivered_all());
        assert!(!route.delivered(10), "nobody waits");
        assert_eq!(route.backlog.load(Ordering::Acquire), HIGH_WATER - 20);
        assert!(!route.delivered_all());
    }

    #[test]
    fn a_client_that_has_closed_is_not_heard() {
        let route = Route { ending: Some(CloseReason::Ended), ..Route::default() };
        assert!(!route.listens());
    }
}
