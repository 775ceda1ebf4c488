//! The end of a client's credentials, as the wall clock says.

use std::time::Duration;

use crate::close::CloseReason;
use crate::session;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::peer::Peer;
use crate::transport::sessions::end_session;

/// Looks whether the client's credentials are still good, and ends the connection when they are not.
pub(crate) fn look_at_credentials(peer: &mut Peer<'_>) {
    let (now, today) = (peer.now(), peer.connections.shared.clock.unix_millis());
    let mut next = None;
    let mut was_told = peer.live().is_some_and(|connection| connection.deadlines.was_told());
    if let Some(route) = peer.live().and_then(Connection::route) {
        next = route
            .identity
            .as_ref()
            .and_then(|it| it.validity.as_ref())
            .map(|it| it.ends.saturating_sub(today));
        if next == Some(0) {
            return peer.close(CloseReason::Expired);
        }
    } else {
        peer.converse(|session, peer| {
            next = session::look_at_credentials(session.identity.as_deref(), today, &mut was_told, peer)
        });
    }
    let next = next.map(|millis| now + Duration::from_millis(millis).min(LONGEST_LOOK));
    if let Some(connection) = peer.live() {
        connection.deadlines.look_at_credentials(next, was_told);
    }
    peer.connections.schedule(peer.key);
}

/// Ends all that a subject has on this shard: connections, and sessions that wait for their clients.
pub(crate) fn end_subject(connections: &mut Connections, subject: &str, reason: &CloseReason) {
    for key in connections.keys() {
        let is_its = connections.get(key).is_some_and(|connection| {
            let identity = match connection.route() {
                Some(route) => route.identity.as_ref(),
                None => connection.session().and_then(|session| session.identity.as_ref()),
            };
            identity.is_some_and(|identity| *identity.subject == *subject)
        });
        if is_its {
            Peer::act(connections, key, |peer| peer.close(reason.clone()));
        }
    }
    for client in connections.away.of_subject(subject) {
        if let Some(kept) = connections.away.remove(client) {
            end_session(connections, client, kept.known, reason);
        }
    }
}

/// Between two looks. A machine that sleeps stops the clock of the deadlines, and not the wall clock.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
