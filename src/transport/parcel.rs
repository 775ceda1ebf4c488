//! A connection on its way from one shard to another.

use crate::moment::Moment;
use crate::transport::addresses::Counted;
use crate::transport::connection::{Ahead, Connection};
use crate::transport::io::{Detached, Io};
use crate::transport::phase::Phase;

/// A connection that has said with its first message which session it wants, on its way to the shard that has the session.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub io: Detached,
    pub phase: Phase,
    pub ahead: Option<Box<Ahead>>,
    pub counted: Counted,
    pub accepted: Moment,
}

impl Parcel {
    /// Packs a connection. `None`: its socket can't be used any more.
    pub fn of(connection: Connection) -> Option<Self> {
        let accepted = connection.deadlines.handshake_since().unwrap_or_default();
        let Connection { io, phase, ahead, counted, .. } = connection;
        Some(Self { io: Io::detach(io).ok()?, phase, ahead, counted, accepted })
    }
}
