//! The connections of a shard as the hub sees them: where its frames go.

use std::io::ErrorKind;

use bytes::Bytes;
use slab::Slab;

use crate::channel::ChannelName;
use crate::hub::{Delivery, Outbound, Outgoing, ReaderKey};
use crate::moment::Moment;
use crate::position::GapReason;
use crate::transport::connection::Connection;
use crate::transport::outbox::Outbox;
use crate::transport::repeated::Repeated;

/// All connections of a shard, and what became of writes to them.
#[derive(Default)]
pub(crate) struct Sockets {
    pub slots: Slab<Connection>,
    pub now: Moment,
    /// Bytes that sockets took since this was last emptied.
    pub sent: u64,
    /// Connections whose socket turned out to be broken in a write of the hub.
    pub broken: Vec<ReaderKey>,
    /// Readers past whom a log has moved, in a channel that closes them for it.
    pub overrun: Vec<ReaderKey>,
    /// Readers that have all of a channel in which nothing more comes.
    pub finished: Vec<(ReaderKey, ChannelName)>,
    pub losses: Losses,
    /// Streams that come in parts, in whose part something was said.
    pub spoken: Vec<ReaderKey>,
}

/// Gaps that readers were told of, by their reason, for the log.
#[derive(Default)]
pub(crate) struct Losses([Loss; 4]);

#[derive(Default)]
struct Loss {
    gaps: Repeated,
    /// The channel of the newest one.
    channel: Option<ChannelName>,
}

impl Losses {
    fn note(&mut self, channel: &ChannelName, reason: GapReason) {
        let Some(index) = LOSSES.iter().position(|(other, _)| *other == reason) else { return };
        let loss = &mut self.0[index];
        loss.gaps.note();
        loss.channel = Some(channel.clone());
    }

    /// The lines that are due.
    pub fn lines(&mut self, now: Moment) -> impl Iterator<Item = String> {
        self.0.iter_mut().zip(LOSSES).filter_map(move |(loss, (_, cause))| {
            let count = loss.gaps.due(now)?;
            let channel = loss.channel.take()?;
            Some(format!(
                "gaps that clients were told of: {count}, the last one in channel {:?}: {cause}",
                channel.as_str()
            ))
        })
    }
}

/// What causes the gaps, and which setting bounds it.
const LOSSES: [(GapReason, &str); 4] = [
    (
        GapReason::Overrun,
        "a client was more than a second behind, and the history of the channel (history, history_bytes, history_seconds) no longer had what it wanted",
    ),
    (GapReason::Burst, "more was published at once than burst_bytes"),
    (
        GapReason::Memory,
        "all channels together kept more than max_log_bytes, or those of clients that are away more than a quarter of it",
    ),
    (
        GapReason::Reset,
        "a client gets all of a state anew: it was behind, and removals that it needed were not kept any more (history, history_seconds)",
    ),
];

impl Sockets {
    /// Writes without waiting. What the socket does not take of the bytes is kept, if it took any.
    pub fn write(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Some(connection) = self.slots.get_mut(reader as usize) else { return Delivery::Gone };
        if let Some(outbox) = &mut connection.outbox {
            keep(bytes, 0, outbox);
            return Delivery::Parked;
        }
        let whole = bytes.as_slice();
        match connection.io.send(whole) {
            Ok(count) => {
                self.sent += count as u64;
                if connection.deadlines.said(self.now) {
                    self.spoken.push(reader);
                }
                if count == whole.len() && !connection.io.holds_output() {
                    return Delivery::Sent;
                }
                keep(bytes, count, connection.block(self.now));
                Delivery::Parked
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.block(self.now);
                Delivery::Refused
            }
            Err(_) => Delivery::Gone,
        }
    }
}

impl Outbound for Sockets {
    fn deliver(&mut self, reader: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let delivery = self.write(reader, bytes);
        if delivery == Delivery::Gone && self.slots.contains(reader as usize) {
            self.broken.push(reader);
        }
        delivery
    }

    fn lost(&mut self, channel: &ChannelName, reason: GapReason) {
        self.losses.note(channel, reason);
    }

    fn finished(&mut self, reader: ReaderKey, channel: &ChannelName) {
        self.finished.push((reader, channel.clone()));
    }

    fn overrun(&mut self, reader: ReaderKey) {
        self.overrun.push(reader);
    }
}

/// Keeps what comes after the first `skip` bytes.
fn keep(bytes: Outgoing<'_>, skip: usize, outbox: &mut Outbox) {
    match bytes {
        Outgoing::Shared(bytes) => outbox.push_shared(bytes.slice(skip..)),
        Outgoing::Own(bytes) => outbox.push(Bytes::copy_from_slice(&bytes[skip..])),
    }
}
