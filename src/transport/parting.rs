//! The end of a client that makes calls, while its connection is kept for others.

use crate::close::CloseReason;
use crate::transport::peer::Peer;
use crate::transport::phase::Phase;
use crate::transport::sessions::end_session;

/// The client that was let in is gone. The next one that makes a call is another.
pub(crate) fn part(peer: &mut Peer<'_>) {
    let key = peer.key;
    let Some(connection) = peer.connection() else { return };
    let (client, known) = (connection.id, std::mem::take(&mut connection.known));
    connection.pending = None;
    let Some(caller) = connection.caller() else { return };
    caller.session = Default::default();
    if caller.entry.take().is_some() {
        peer.connections.disown(key);
        end_session(peer.connections, client, known, &CloseReason::Ended);
    }
}

/// No more calls are made on a connection, whose request is for something else.
pub(crate) fn end_calls(peer: &mut Peer<'_>) {
    part(peer);
    let now = peer.now();
    let Some(connection) = peer.connection() else { return };
    let Some(caller) = connection.caller() else { return };
    let head = std::mem::take(&mut caller.head);
    connection.phase = Phase::Head(Box::new(head));
    connection.deadlines.handshake(now);
}
