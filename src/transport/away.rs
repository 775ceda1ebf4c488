//! Sessions whose clients have no connection at the moment, and which of them give way when there are too many.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::moment::Moment;
use crate::session::Session;
use crate::transport::client_id::ClientId;
use crate::transport::pending::Pending;

/// What is kept of a client that may come back.
#[derive(Debug)]
pub(crate) struct Kept {
    pub session: Session,
    pub pending: Option<Box<Pending>>,
    /// The application was told of it, so it has to be told of its end.
    pub known: bool,
    /// The application does not want to hear it yet.
    pub paused: bool,
    pub since: Moment,
    /// How its last connection ended.
    pub reason: CloseReason,
}

/// The sessions of a shard that are away.
#[derive(Debug, Default)]
pub(crate) struct Away {
    sessions: HashMap<ClientId, Kept>,
    /// The ones first that are away for longest.
    by_time: BTreeSet<(Moment, ClientId)>,
    owners: Owners,
    /// Where clients are that have come back: not in the slot that their id names.
    slots: HashMap<ClientId, ReaderKey>,
}

impl Away {
    pub fn add(&mut self, client: ClientId, kept: Kept) {
        self.by_time.insert((kept.since, client));
        self.owners.add(&kept.session.owner().unwrap_or_default(), kept.since, client);
        self.sessions.insert(client, kept);
    }

    pub fn remove(&mut self, client: ClientId) -> Option<Kept> {
        let kept = self.sessions.remove(&client)?;
        self.by_time.remove(&(kept.since, client));
        self.owners.remove(&kept.session.owner().unwrap_or_default(), kept.since, client);
        Some(kept)
    }

    /// Takes a session back that was lent when its connection ended, if it is away.
    pub fn give_back(&mut self, client: ClientId, session: Session) {
        if let Some(kept) = self.remove(client) {
            self.add(client, Kept { session, ..kept });
        }
    }

    pub fn get(&mut self, client: ClientId) -> Option<&mut Kept> {
        self.sessions.get_mut(&client)
    }

    /// The clients of a subject.
    pub fn of_subject(&self, subject: &str) -> Vec<ClientId> {
        let is_its = |(client, kept): (&ClientId, &Kept)| {
            kept.session.identity.as_ref().filter(|it| *it.subject == *subject).map(|_| *client)
        };
        self.sessions.iter().filter_map(is_its).collect()
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn take_all(&mut self) -> impl Iterator<Item = (ClientId, Kept)> + use<> {
        (self.by_time, self.owners) = Default::default();
        std::mem::take(&mut self.sessions).into_iter()
    }

    /// The session that gives way: the one that is away for longest, of the owner that has most. So nobody who lets many sessions be
    /// away ends those of others.
    pub fn first_to_go(&self) -> Option<ClientId> {
        self.owners.first_to_go()
    }

    /// The session of an owner that is away for longest.
    pub fn first_of(&self, owner: &str) -> Option<ClientId> {
        self.owners.sessions.get(owner)?.first().map(|(_, client)| *client)
    }

    pub fn has(&self, client: ClientId) -> bool {
        self.sessions.contains_key(&client)
    }

    /// The slot of a client.
    pub fn slot_of(&self, client: ClientId) -> Option<ReaderKey> {
        self.slots.get(&client).copied()
    }

    /// A client is in this slot from now on.
    pub fn at(&mut self, client: ClientId, slot: ReaderKey) {
        self.slots.insert(client, slot);
    }

    /// A client has left the slot that it had.
    pub fn left(&mut self, client: ClientId) {
        self.slots.remove(&client);
    }

    /// Since when the one is away that is away for longest.
    pub fn oldest(&self) -> Option<(Moment, ClientId)> {
        self.by_time.first().copied()
    }
}

/// The sessions that are away, by their owners: identities, or addresses of those that have none.
///
/// All that it does takes the logarithm of their number.
#[derive(Debug, Default)]
struct Owners {
    /// Of each owner, the ones first that are away for longest.
    sessions: HashMap<Arc<str>, BTreeSet<(Moment, ClientId)>>,
    by_count: BTreeSet<(usize, Arc<str>)>,
}

impl Owners {
    pub fn add(&mut self, owner: &Arc<str>, since: Moment, client: ClientId) {
        self.change(owner, |sessions| _ = sessions.insert((since, client)));
    }

    pub fn remove(&mut self, owner: &Arc<str>, since: Moment, client: ClientId) {
        self.change(owner, |sessions| _ = sessions.remove(&(since, client)));
    }

    fn first_to_go(&self) -> Option<ClientId> {
        let (_, owner) = self.by_count.last()?;
        self.sessions.get(owner)?.first().map(|(_, client)| *client)
    }

    fn change(&mut self, owner: &Arc<str>, change: impl FnOnce(&mut BTreeSet<(Moment, ClientId)>)) {
        let sessions = self.sessions.entry(Arc::clone(owner)).or_default();
        let before = sessions.len();
        change(sessions);
        let count = sessions.len();
        if count == 0 {
            self.sessions.remove(owner);
        }
        self.by_count.remove(&(before, Arc::clone(owner)));
        if count > 0 {
            self.by_count.insert((count, Arc::clone(owner)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> Moment {
        Moment::default() + Duration::from_secs(second)
    }

    #[test]
    fn the_oldest_session_of_who_has_most_gives_way() {
        let mut owners = Owners::default();
        let [ann, bob]: [Arc<str>; 2] = ["ann".into(), "bob".into()];
        assert_eq!(owners.first_to_go(), None);
        owners.add(&ann, at(1), ClientId(1));
        owners.add(&bob, at(3), ClientId(3));
        owners.add(&bob, at(2), ClientId(2));
        assert_eq!(owners.first_to_go(), Some(ClientId(2)));
        owners.remove(&bob, at(2), ClientId(2));
        owners.add(&ann, at(4), ClientId(4));
        assert_eq!(owners.first_to_go(), Some(ClientId(1)));
        for (owner, second, client) in [(&ann, 1, 1), (&ann, 4, 4), (&bob, 3, 3)] {
            owners.remove(owner, at(second), ClientId(client));
        }
        assert!(owners.sessions.is_empty() && owners.by_count.is_empty());
    }
}
