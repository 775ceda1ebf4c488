//! Sessions that end because their clients did not come back, or because others need the room.

use crate::session::owner_of;
use crate::transport::connections::Connections;
use crate::transport::sessions::end_session;

/// Ends the sessions whose clients did not come back in time.
pub(crate) fn end_forgotten(connections: &mut Connections) {
    let ttl = connections.shared.config.session_ttl;
    while let Some((_, client)) =
        connections.away.oldest().filter(|(since, _)| *since + ttl <= connections.now())
    {
        if let Some(kept) = connections.away.remove(client) {
            end_session(connections, client, kept.known, &kept.reason);
        }
    }
}

/// Ends the sessions of a subject that are away for longest, until it has as many as it may have.
pub(crate) fn give_way(connections: &mut Connections, subject: &str) {
    while connections.shared.subjects.is_crowded(subject)
        && let Some(client) = connections.away.first_of(&owner_of(subject))
        && let Some(kept) = connections.away.remove(client)
    {
        let text = "gives way: another client of its identity has come";
        connections.shared.trace_client(client, || text.to_owned());
        end_session(connections, client, kept.known, &kept.reason);
    }
}

/// Ends all sessions that are away.
pub(crate) fn end_away(connections: &mut Connections) {
    for (client, kept) in connections.away.take_all() {
        end_session(connections, client, kept.known, &kept.reason);
    }
}
