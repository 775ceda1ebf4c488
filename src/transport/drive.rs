//! The task of one connection: it waits for the socket, writes what waits for it, and reads.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConnection;

use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::moment::Moment;
use crate::transport::addresses::Counted;
use crate::transport::admission::receive_head;
use crate::transport::client_id::ClientId;
use crate::transport::connection::{Phase, READ_BYTES};
use crate::transport::connections::Connections;
use crate::transport::io::{Io, Stream};
use crate::transport::peer::Peer;
use crate::transport::websocket::{self, WORK_AT_A_TURN};

/// Takes a socket over: makes a connection of it, and the task that drives it.
pub(crate) fn accept(cell: &Rc<RefCell<Connections>>, stream: Stream, counted: Counted, at: Moment) {
    let mut connections = cell.borrow_mut();
    let tls = connections.shared.tls.as_ref().map(|config| ServerConnection::new(Arc::clone(config)));
    let Ok(tls) = tls.transpose() else { return connections.refuse_socket() };
    let (key, client) = connections.insert(Io::new(stream, tls.map(Box::new)), counted, at);
    let connections = Rc::clone(cell);
    drop(tokio::task::spawn_local(ConnectionTask { connections, key, client }));
}

/// Waits for one socket. Ends with its connection.
struct ConnectionTask {
    connections: Rc<RefCell<Connections>>,
    key: ReaderKey,
    client: ClientId,
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut connections = self.connections.borrow_mut();
        connections.update_now();
        connections.work = 0;
        let driven = Peer::act(&mut connections, self.key, |peer| drive(peer, self.client, cx));
        driven.unwrap_or_else(|| {
            // It panicked and was closed. There is something left to write, or a close frame to read.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

/// Writes what waits, then reads what came. Stops when the socket or the application takes no more, or when this client has
/// had its turn.
fn drive(peer: &mut Peer<'_>, client: ClientId, cx: &mut Context<'_>) -> Poll<()> {
    while peer.connections.work < WORK_AT_A_TURN {
        let Some(connection) = peer.connection().filter(|connection| connection.id == client) else {
            return Poll::Ready(());
        };
        if !connection.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            connection.waker = Some(cx.waker().clone());
        }
        if connection.outbox.is_some() {
            match write_waiting(peer, cx) {
                Ok(true) => continue,
                Ok(false) => return Poll::Pending,
                Err(_) => {
                    peer.finish(&CloseReason::Broken);
                    return Poll::Ready(());
                }
            }
        }
        if let Phase::Closing { ended, reply: None } = &mut connection.phase
            && !std::mem::replace(ended, true)
        {
            connection.io.shutdown();
        }
        if !connection.listens() {
            return Poll::Pending;
        }
        if connection.is_open() && !peer.connections.shared.inbox.has_room() {
            peer.connections.wait_for_room(peer.key);
            return Poll::Pending;
        }
        if read(peer, cx).is_pending() {
            return Poll::Pending;
        }
    }
    // A peer that sends without end gets its next turn after all others, also after those whose sockets the runtime has not
    // looked at yet. Waking the task is not enough: the runtime works on up to 61 woken tasks before it looks.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}

/// Reads once, from what was left over or from the socket, and works on it.
fn read(peer: &mut Peer<'_>, cx: &mut Context<'_>) -> Poll<()> {
    let mut buffer = std::mem::take(&mut peer.connections.buffers.read);
    // Empty the first time, and after a panic, which keeps it.
    buffer.resize(READ_BYTES, 0);
    let Some(connection) = peer.connection() else { return Poll::Pending };
    let unread = std::mem::take(&mut connection.unread);
    let read = if unread.is_empty() {
        let most = connection.most_of_a_read();
        connection.io.poll_read(cx, &mut buffer[..most])
    } else {
        buffer[..unread.len()].copy_from_slice(&unread);
        Poll::Ready(Ok(unread.len()))
    };
    let done = read.map(|read| match read {
        Ok(count @ 1..) => {
            peer.connections.work += count;
            receive(peer, &mut buffer[..count]);
        }
        Ok(0) => peer.finish(&CloseReason::Ended),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => peer.finish(&CloseReason::TlsFailed),
        Err(_) => peer.finish(&CloseReason::Broken),
    });
    peer.connections.buffers.read = buffer;
    done
}

/// Works on bytes that came from a connection.
pub(crate) fn receive(peer: &mut Peer<'_>, chunk: &mut [u8]) {
    match peer.connection().map(|connection| &mut connection.phase) {
        Some(Phase::Head(_)) => receive_head(peer, chunk),
        Some(Phase::Open(_)) => websocket::receive(peer, chunk),
        Some(Phase::Closing { reply, .. }) => drop(reply.take_if(|reply| reply.receive(chunk))),
        Some(Phase::Deciding(_)) | None => {}
    }
    peer.connections.wake_for_hub();
}

/// Writes the outbox. Returns `true` when it is empty.
fn write_waiting(peer: &mut Peer<'_>, cx: &mut Context<'_>) -> io::Result<bool> {
    let now = peer.now();
    let Some(connection) = peer.connection() else { return Ok(true) };
    let Some(outbox) = &mut connection.outbox else { return Ok(true) };
    let mut sent = 0;
    let empty = loop {
        match connection.io.poll_writable(cx) {
            Poll::Pending => break false,
            Poll::Ready(ready) => ready?,
        }
        if outbox.flush(&mut connection.io, &mut sent)? {
            break true;
        }
    };
    if sent > 0 {
        connection.deadlines.stalled(false, now);
    }
    connection.deadlines.stalled(!empty, now);
    if let Some(share) = outbox.share.as_ref().filter(|_| sent > 0) {
        share.hold(outbox.own_bytes());
    }
    if empty {
        connection.outbox = None;
    }
    peer.connections.counters.bytes_sent.add(sent);
    if empty {
        peer.connections.hub.writable(peer.key);
        websocket::outbox_emptied(peer);
        peer.connections.wake_for_hub();
    }
    peer.connections.schedule(peer.key);
    Ok(empty)
}
