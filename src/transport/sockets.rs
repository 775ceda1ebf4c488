//! The connections of a shard as the hub sees them: where its frames go.

use std::io::ErrorKind;

use bytes::Bytes;
use slab::Slab;

use crate::hub::{Delivery, Outbound, Outgoing, ReaderKey};
use crate::moment::Moment;
use crate::transport::connection::Connection;
use crate::transport::outbox::Outbox;

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
}

impl Sockets {
    /// Writes without waiting. What the socket does not take of the bytes is kept, if it took any.
    pub fn write(&mut self, connection: ReaderKey, bytes: Outgoing<'_>) -> Delivery {
        let Some(connection) = self.slots.get_mut(connection as usize) else { return Delivery::Gone };
        if let Some(outbox) = &mut connection.outbox {
            keep(bytes, 0, outbox);
            return Delivery::Parked;
        }
        let whole = bytes.as_slice();
        match connection.io.send(whole) {
            Ok(count) => {
                self.sent += count as u64;
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
