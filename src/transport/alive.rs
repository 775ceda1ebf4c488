//! What shows each side that the other is there.

use crate::session::show_heartbeat;
use crate::transport::peer::Peer;

/// Sends what shows that the connection is alive.
pub(crate) fn ping(peer: &mut Peer<'_>) {
    let Some(wire) = peer.wire() else { return };
    let mut is_shown = false;
    if wire.has_ids() {
        peer.converse(|session, peer| is_shown = show_heartbeat(session, peer));
    }
    if !is_shown {
        wire.ping(&mut peer.replies);
    }
    peer.flush_replies();
}

/// Answers a ping.
pub(crate) fn pong(peer: &mut Peer<'_>, payload: &[u8]) {
    if let Some(wire) = peer.wire() {
        wire.pong(payload, &mut peer.replies);
    }
}
