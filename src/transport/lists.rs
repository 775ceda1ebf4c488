//! Requests that have brought lists of messages to sessions, and wait until the sessions want to hear more.

use std::collections::HashMap;

use crate::hub::ReaderKey;
use crate::transport::client_id::ClientId;

/// A slot, and the serial number of the connection in it: another one may have the slot before the session wants to hear more.
pub(crate) type Place = (ReaderKey, u32);

/// The connections of these requests, by the clients whose sessions they are for.
#[derive(Debug, Default)]
pub(crate) struct Lists(HashMap<ClientId, Vec<Place>>);

impl Lists {
    /// Lets a request wait. Returns the one that gives way, if too many do: a client has one under way, of which there may be copies.
    pub fn wait(&mut self, client: ClientId, place: Place) -> Option<Place> {
        let waiting = self.0.entry(client).or_default();
        if waiting.contains(&place) {
            return None;
        }
        waiting.push(place);
        (waiting.len() > MOST_COPIES).then(|| waiting.remove(0))
    }

    /// The connections that wait for this client. They do so no longer.
    pub fn take(&mut self, client: ClientId) -> Vec<Place> {
        if self.0.is_empty() { Vec::new() } else { self.0.remove(&client).unwrap_or_default() }
    }
}

/// Requests of one client that wait.
const MOST_COPIES: usize = 3;
