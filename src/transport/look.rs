//! A shard is looked at, for the dashboard: which of its clients are slow. It costs nothing while nobody looks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::hub::{see_blocked, waits_since};
use crate::transport::commands::Command;
use crate::transport::connections::Connections;
use crate::transport::phase::{Endpoint, Upgraded};
use crate::transport::sights::{Found, Look, MOST_SLOW, ShardSight, SlowReader};

/// Goes on with a look: the sockets have their turn before the next part of it.
pub(crate) fn look(connections: &mut Connections, mut look: Box<Look>) {
    let found = &mut look.found;
    let next = see_blocked(&connections.hub, look.next, |it| {
        let (lag, channels, reader, channel) = (it.lag, it.channels, it.reader, it.channel.clone());
        found.push(Found { lag, channels, reader, channel });
        if found.len() >= 2 * MOST_SLOW {
            keep_slowest(found);
        }
    });
    if let Some(next) = next {
        look.next = next;
        return connections.commands.push(Command::Look(look));
    }
    keep_slowest(&mut look.found);
    let slow = look.found.drain(..).filter_map(|found| slow_reader(connections, found)).collect();
    let (shard, away) = (connections.index, connections.away.len());
    // Who looked may be gone.
    let _ = look.told.send(ShardSight { shard, busy: thread_time(), away, slow });
}

fn keep_slowest(found: &mut Vec<Found>) {
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.truncate(MOST_SLOW);
}

fn slow_reader(connections: &Connections, found: Found) -> Option<SlowReader> {
    let Found { lag, channels, reader, channel } = found;
    let (now, hub) = (connections.now(), &connections.hub);
    let connection = connections.sockets.slots.get(reader as usize)?;
    let identity = match connection.upgraded() {
        Some(Upgraded { endpoint: Endpoint::Umbel(session), .. }) => session.identity.clone(),
        _ => None,
    };
    Some(SlowReader {
        client: connections.shared.public_id(connection.id),
        identity,
        age: waits_since(hub, reader, channel.as_str()).map(|since| now.since(since)),
        stalled: connection.deadlines.stalled_since().map(|since| now.since(since)),
        buffered: connection.outbox.as_ref().map_or(0, |outbox| outbox.bytes()),
        channel,
        channels,
        lag,
    })
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
