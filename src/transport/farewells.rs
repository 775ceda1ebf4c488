//! Last words that wait: a client whose stream comes in parts, and whose connection was closed between two of them, hears why when it asks
//! for the next one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::moment::Moment;
use crate::session::Secret;
use crate::transport::client_id::ClientId;
use crate::transport::lists::Place;

/// Where last words wait.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    by_client: HashMap<ClientId, (Place, Secret)>,
    /// The oldest first.
    by_time: VecDeque<(Moment, ClientId)>,
}

impl Farewells {
    /// Notes that last words for this client wait here, and forgets those that have waited for longer than `time`.
    pub fn add(&mut self, client: ClientId, place: Place, secret: Secret, now: Moment, time: Duration) {
        while let Some((_, client)) = self.by_time.pop_front_if(|(since, _)| *since + time <= now) {
            self.by_client.remove(&client);
        }
        self.by_time.push_back((now, client));
        self.by_client.insert(client, (place, secret));
    }

    /// Where last words for this client wait, or have waited.
    pub fn take(&mut self, client: ClientId, secret: Secret) -> Option<Place> {
        let (place, _) = *self.by_client.get(&client).filter(|(_, own)| own.is(secret))?;
        self.by_client.remove(&client);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ReaderKey;

    #[test]
    fn last_words_wait_for_their_client_and_for_a_while() {
        let (mut farewells, secret) = (Farewells::default(), Secret::new([1; 16]));
        let at = |second| Moment::default() + Duration::from_secs(second);
        for (client, second) in [(1, 0), (2, 1), (3, 6)] {
            let (client, place) = (ClientId(client), (client as ReaderKey, 7));
            farewells.add(client, place, secret, at(second), Duration::from_secs(5));
        }
        assert_eq!(farewells.take(ClientId(3), Secret::new([2; 16])), None);
        let taken = [1, 2, 3, 3].map(|client| farewells.take(ClientId(client), secret));
        assert_eq!(taken, [None, None, Some((3, 7)), None]);
    }
}
