//! A connection on its way from one shard to another.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::moment::Moment;
use crate::transport::addresses::Counted;
use crate::transport::client_id::ClientId;
use crate::transport::commands::Command;
use crate::transport::connection::{Ahead, Connection};
use crate::transport::io::{Detached, Io};
use crate::transport::peer::Peer;
use crate::transport::phase::Phase;

/// A connection that has said which session it is for, on its way to the shard that has the session.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub io: Detached,
    pub serial: u32,
    pub phase: Phase,
    pub ahead: Option<Box<Ahead>>,
    pub counted: Counted,
    pub accepted: Moment,
}

impl Parcel {
    /// Packs a connection. `None`: its socket can't be used any more.
    pub fn of(connection: Connection) -> Option<Self> {
        let accepted = connection.deadlines.accepted().unwrap_or_default();
        let Connection { io, serial, phase, ahead, counted, .. } = connection;
        Some(Self { io: Io::detach(io).ok()?, serial, phase, ahead, counted, accepted })
    }
}

/// Moves the connection to the shard that has the session.
pub(crate) fn hand_over(peer: &mut Peer<'_>, client: ClientId) {
    let shared = Arc::clone(&peer.connections.shared);
    let (key, home) = (peer.key, client.shard());
    // Counted twice for a moment, rather than not at all.
    shared.loads[home].fetch_add(1, Ordering::Relaxed);
    let Some(parcel) = peer.connections.release(key).and_then(Parcel::of) else {
        shared.loads[home].fetch_sub(1, Ordering::Relaxed);
        return;
    };
    if let Some(commands) = shared.commands.get(home) {
        commands.push(Command::HandedOver(Box::new(parcel)));
    }
}
