//! The stream of a session: how it begins, or why there is none.

use crate::close::CloseReason;
use crate::session::begin_parts;
use crate::transport::connection::Connection;
use crate::transport::on_stream::OnStream;
use crate::transport::peer::Peer;

/// Begins the response to a client that is let in. Its session speaks next.
pub(crate) fn begin(peer: &mut Peer<'_>, stream: Option<&OnStream>) {
    stream.into_iter().for_each(|stream| peer.replies.extend_from_slice(&stream.head()));
}

/// What its client says to a session from now on is posted, and what is heard on this connection is its end.
pub(crate) fn begun(peer: &mut Peer<'_>, stream: Option<&OnStream>) {
    let Some(stream) = stream else { return };
    let (now, patience) = (peer.now(), peer.connections.shared.config.write_timeout);
    let Some(connection) = peer.live() else { return };
    connection.io.limit_silence(patience);
    if stream.in_parts {
        connection.deadlines.begin_part(now);
        peer.converse(|session, _| begin_parts(session));
    } else {
        connection.deadlines.streaming(now);
    }
}

/// The response to a client that is not let in.
pub(crate) fn refusal(peer: &mut Peer<'_>, reason: &CloseReason) -> Option<Vec<u8>> {
    Some(peer.live()?.opener()?.stream.as_ref()?.refusal(reason))
}

/// Refuses a client that is too late with what it wants of its session. `attempt` was accepted last; `None`: there is no session.
pub(crate) fn refuse_attempt(peer: &mut Peer<'_>, attempt: Option<u64>) {
    let timestamp = peer.connections.timestamp();
    match peer.live().and_then(Connection::opener).and_then(|opener| opener.stream.as_ref()) {
        Some(stream) => {
            let bytes = stream.superseded(attempt, timestamp);
            peer.say_last(&bytes, &CloseReason::Superseded);
        }
        None => peer.close(CloseReason::Superseded),
    }
}
