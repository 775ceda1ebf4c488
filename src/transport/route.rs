//! One client of a websocket path: a protocol of the application's own, whose messages the core only carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::close::CloseReason;
use crate::transport::client_id::ClientId;
use crate::transport::commands::CommandQueue;
use crate::transport::credit::{ALLOWANCE, Credit};

/// What is under way in both directions.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// Bytes of messages between the application and the socket. The application's side adds to it.
    pub backlog: Arc<AtomicUsize>,
    /// How many of those wait in the outbox.
    waiting: usize,
    /// Bytes of messages that the application has not taken.
    untaken: Arc<AtomicUsize>,
    /// Why the client has ended, while the application may still say something.
    pub ending: Option<CloseReason>,
}

impl Route {
    /// Takes a message of so many bytes off the client's allowance.
    pub fn credit(&self, client: ClientId, bytes: usize, commands: &Arc<CommandQueue>) -> Credit {
        Credit::new(client, bytes, &self.untaken, commands)
    }

    /// Whether the route wants to hear more of its client.
    pub fn listens(&self) -> bool {
        self.ending.is_none() && self.untaken.load(Ordering::Acquire) < ALLOWANCE
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
    use std::collections::VecDeque;

    use super::*;
    use crate::transport::commands::Command;

    const CLIENT: ClientId = ClientId(1);

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
    fn a_client_is_heard_again_when_the_application_has_taken_its_messages() {
        let (route, queue) = (Route::default(), Arc::default());
        let mut credits = Vec::new();
        while route.listens() {
            credits.push(route.credit(CLIENT, 10_000, &queue));
        }
        assert_eq!(credits.len(), 13, "128 KiB, and a place for each message");
        credits.push(route.credit(CLIENT, 10_000, &queue));
        credits.pop();
        let commands = |queue: &CommandQueue| {
            let mut commands = VecDeque::new();
            queue.take(&mut commands);
            commands
        };
        assert!(commands(&queue).is_empty());
        credits.pop();
        assert!(matches!(commands(&queue).make_contiguous(), [Command::ReadAgain(CLIENT)]));
        assert!(route.listens());
        credits.clear();
        assert!(commands(&queue).is_empty(), "it is told once");
    }

    #[test]
    fn empty_messages_take_a_place_too() {
        let (route, queue) = (Route::default(), Arc::default());
        let mut credits = Vec::new();
        while route.listens() {
            credits.push(route.credit(CLIENT, 0, &queue));
        }
        assert_eq!(credits.len(), 1024);
    }

    #[test]
    fn a_client_that_has_closed_is_not_heard() {
        let route = Route { ending: Some(CloseReason::Ended), ..Route::default() };
        assert!(!route.listens());
    }
}
