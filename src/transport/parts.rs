//! Streams that come in parts, for proxies that pass on a response only when it has ended. Between two parts a connection has no socket. All
//! else of it stays: its session, its place in the channels, and what is said meanwhile.

use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::session::{Secret, last_attempt, take_part};
use crate::transport::client_id::ClientId;
use crate::transport::connection::Connection;
use crate::transport::io::Io;
use crate::transport::peer::Peer;
use crate::transport::session_stream::refuse_attempt;
use crate::transport::sessions::finish;

/// Ends a part.
pub(crate) fn end(peer: &mut Peer<'_>) {
    let now = peer.now();
    if peer.connections.shared.is_draining() {
        // Nobody can ask for the next one.
        return peer.close(CloseReason::Restart);
    }
    peer.flush_replies();
    let Some(wire) = peer.wire() else { return };
    let Some(connection) = peer.live().filter(|connection| connection.outbox.is_none()) else { return };
    let mut bytes = Vec::new();
    wire.end_part(&mut bytes);
    // Whatever is said next belongs to the next part.
    match connection.io.send(&bytes) {
        Ok(count) if count == bytes.len() && !connection.io.holds_output() => {
            connection.io.shutdown();
            connection.io = Io::none();
            connection.deadlines.end_part(now);
            peer.connections.counters.bytes_sent.add(bytes.len() as u64);
            peer.connections.hub.blocked(peer.key);
            peer.connections.schedule(peer.key);
        }
        // A socket that has just taken all and does not take this is hardly there. Its client comes back with another attempt.
        _ => peer.finish(&CloseReason::Broken),
    }
}

/// Gives the connection of a client that asks for a part of its stream to the stream, or refuses it.
pub(crate) fn go_on(peer: &mut Peer<'_>, client: ClientId, secret: Secret, attempt: u64, part: u64) {
    let wire = peer.wire();
    let found = match peer.connections.find(client).filter(|(_, it)| it.deadlines.is_parted()) {
        // The version of HTTP says how a stream is written, and is that of its first part.
        Some((_, it)) if it.upgraded().map(|upgraded| upgraded.wire) != wire => {
            Err(accepted_last(peer, client, secret))
        }
        Some((home, connection)) => {
            let session = connection.session().ok_or(None);
            session.and_then(|session| take_part(session, secret, attempt, part)).map(|()| home)
        }
        None => match last_words(peer, client, secret) {
            Some(home) => Ok(home),
            None => Err(accepted_last(peer, client, secret)),
        },
    };
    match found {
        Ok(home) => attach(peer, home),
        Err(accepted) => refuse_attempt(peer, accepted),
    }
}

/// The attempt of a session that was accepted last. `None`: there is no such session.
pub(crate) fn accepted_last(peer: &mut Peer<'_>, client: ClientId, secret: Secret) -> Option<u64> {
    if let Some(kept) = peer.connections.away.get(client) {
        return last_attempt(&mut kept.session, secret);
    }
    let (_, connection) = peer.connections.find(client)?;
    last_attempt(connection.session()?, secret)
}

/// Where the last words for a client wait.
fn last_words(peer: &mut Peer<'_>, client: ClientId, secret: Secret) -> Option<ReaderKey> {
    let (key, serial) = peer.connections.farewells.take(client, secret)?;
    let connection = peer.connections.get(key)?;
    (connection.serial == serial && !connection.is_live()).then_some(key)
}

/// Gives the socket of this connection to the one in another slot, which goes on to speak.
fn attach(peer: &mut Peer<'_>, home: ReaderKey) {
    let (now, patience) = (peer.now(), peer.connections.shared.config.write_timeout);
    let opener = peer.connection().and_then(Connection::opener);
    let Some(stream) = opener.and_then(|opener| opener.stream.take()) else { return };
    let Some(newcomer) = peer.connections.release(peer.key) else { return };
    newcomer.wake();
    let Some(connection) = peer.connections.get(home) else { return };
    connection.io = newcomer.io;
    if stream.excess.is_none() {
        connection.counted = newcomer.counted; // otherwise it is not counted
    }
    connection.io.limit_silence(patience);
    if connection.is_live() {
        connection.deadlines.begin_part(now);
    } else {
        connection.deadlines.last_said(now);
    }
    connection.wake();
    let head = stream.head();
    if let Some(outbox) = &mut connection.outbox {
        outbox.push_front(head.into());
    } else if connection.io.send(&head).is_ok_and(|count| count == head.len()) {
        peer.connections.hub.writable(home);
    } else {
        return finish(peer.connections, home, &CloseReason::Broken);
    }
    peer.connections.schedule(home);
}
