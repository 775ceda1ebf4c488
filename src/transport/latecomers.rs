//! Connections without a request: those that are kept for another call, and those whose request is late. They are the first to go when the
//! server is full.

use std::time::Duration;

use crate::close::CloseReason;
use crate::moment::Moment;
use crate::transport::client_id::ClientId;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::http::FULL;
use crate::transport::peer::Peer;
use crate::transport::phase::Phase;

/// The late connections of one shard, as they were when it last looked.
#[derive(Default)]
pub(crate) struct Latecomers {
    /// The oldest is the last. Those that are gone or not late any more are passed over.
    clients: Vec<ClientId>,
    looked: Option<Moment>,
}

impl Latecomers {
    /// Ends the connection that has been without its request for the longest time, so that another one can be accepted.
    /// Returns `false` when no request of this shard is late. A client whose request has come waits for the application, and
    /// is not to blame for that.
    pub fn make_room(&mut self, connections: &mut Connections) -> bool {
        self.look(connections);
        while let Some(client) = self.clients.pop() {
            let Some((key, connection)) = connections.find(client) else { continue };
            if let Some((rank, _)) = rank(connection) {
                Peer::act(connections, key, |peer| {
                    if rank != Rank::Idle {
                        peer.refuse(&FULL, None);
                    }
                    // Its descriptor is needed, so its end is not waited for.
                    peer.finish(&CloseReason::Response);
                });
                return true;
            }
        }
        false
    }

    fn look(&mut self, connections: &Connections) {
        let now = connections.now();
        if !self.clients.is_empty() || self.looked.is_some_and(|looked| now.since(looked) < LOOK_INTERVAL) {
            return;
        }
        self.looked = Some(now);
        let late = |connection: &Connection| {
            let (rank, since) = rank(connection)?;
            let is_late = rank == Rank::Idle || now.since(since) >= LATE;
            is_late.then_some((rank, since, connection.id))
        };
        let mut found: Vec<_> = connections.iter().filter_map(|(_, connection)| late(connection)).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        self.clients.extend(found.into_iter().map(|(.., client)| client));
    }
}

/// Which connections go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It was kept for another call, and nothing is lost with it.
    Idle,
    /// It has not sent its request.
    Head,
}

/// Its rank, and since when it has it, if it has said nothing that counts, and has a place that others could have.
fn rank(connection: &Connection) -> Option<(Rank, Moment)> {
    let has_place = match &connection.phase {
        Phase::Head(head) => head.excess.is_none(),
        Phase::Calls(caller) => caller.call.is_none(),
        _ => false,
    };
    let idle = connection.deadlines.idle_since().map(|since| (Rank::Idle, since));
    idle.or_else(|| Some((Rank::Head, connection.deadlines.handshake_since()?))).filter(|_| has_place)
}

/// From accept to the end of the request. TLS takes most of it. A connection that takes longer makes room in a full server.
const LATE: Duration = Duration::from_secs(1);

/// Between two looks at all connections for late ones, so that being full does not cost more than being busy.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
