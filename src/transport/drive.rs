//! The task of one connection: it waits for the socket, writes what waits for it, and reads.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConnection;

use crate::close::CloseReason;
use crate::hub::ReaderKey;
use crate::moment::Moment;
use crate::session::{renew_again, waits_to_renew};
use crate::transport::addresses::Counted;
use crate::transport::alive::pong;
use crate::transport::budget::Hold;
use crate::transport::calls;
use crate::transport::connection::{Connection, READ_BYTES};
use crate::transport::connections::Connections;
use crate::transport::excess::Excess;
use crate::transport::first;
use crate::transport::heads::{go_on_with_head, receive_head};
use crate::transport::io::{Io, Stream};
use crate::transport::parcel::Parcel;
use crate::transport::peer::Peer;
use crate::transport::phase::{Phase, excess_of};
use crate::transport::sessions::settle;
use crate::transport::turn::{Turn, WORK_AT_A_TURN};
use crate::transport::websocket;

/// What is known of a socket that was accepted.
pub(crate) struct Newcomer {
    pub counted: Counted,
    /// It is beyond a limit, and will be told so.
    pub excess: Option<Excess>,
    pub at: Moment,
}

/// Takes a socket over: makes a connection of it, and the task that drives it.
pub(crate) fn accept(cell: &Rc<RefCell<Connections>>, stream: Stream, newcomer: Newcomer) {
    let Newcomer { counted, excess, at } = newcomer;
    let mut connections = cell.borrow_mut();
    let tls = connections.shared.tls.as_ref().map(|tls| ServerConnection::new(Arc::clone(&tls.config)));
    let tls = match tls.transpose() {
        Ok(tls) => tls,
        Err(error) => return connections.refuse_socket(connections.index, &error),
    };
    let serial = connections.shared.next_serial();
    let key = connections.insert(Io::new(stream, tls.map(Box::new)), serial, counted, at);
    connections.counters.accepted.add(1);
    if let Some(excess) = excess {
        connections.hurry(key, excess);
    }
    let connections = Rc::clone(cell);
    drop(tokio::task::spawn_local(ConnectionTask { connections, key, serial }));
}

/// Takes over a connection that another shard has accepted.
pub(crate) fn unpack(cell: &Rc<RefCell<Connections>>, parcel: Parcel) {
    let mut connections = cell.borrow_mut();
    let Parcel { io, serial, phase, ahead, counted, accepted } = parcel;
    let io = match Io::attach(io) {
        Ok(io) => io,
        Err(error) => return connections.refuse_socket(connections.index, &error),
    };
    let key = connections.insert(io, serial, counted, accepted);
    let mut held = 0;
    if let Some(connection) = connections.get(key) {
        (connection.phase, connection.ahead) = (phase, ahead);
        held = connection.opener().map_or(0, |opener| opener.held());
        if let Some(caller) = connection.caller() {
            held = caller.head.buffer.len();
        }
        if excess_of(&mut connection.phase).is_some_and(|excess| excess.is_some()) {
            connection.deadlines.hurry();
        }
    }
    connections.hold_input(key, held);
    let connections = Rc::clone(cell);
    drop(tokio::task::spawn_local(ConnectionTask { connections, key, serial }));
}

/// Waits for one socket. Ends with its connection.
struct ConnectionTask {
    connections: Rc<RefCell<Connections>>,
    key: ReaderKey,
    serial: u32,
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut connections = self.connections.borrow_mut();
        connections.update_now();
        connections.work = 0;
        let driven = Peer::act(&mut connections, self.key, |peer| drive(peer, self.serial, cx));
        if let Some(connection) = connections.get(self.key).filter(|it| !it.turn.waits()) {
            connection.turn = Turn::None; // whatever it has made of it
        }
        connections.wake_for_hub();
        driven.unwrap_or_else(|| {
            // It panicked and was closed. There is something left to write, or a close frame to read.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

/// Gives the task of a connection one turn.
#[cfg(test)]
pub(crate) fn poll_once(cell: &Rc<RefCell<Connections>>, key: ReaderKey) {
    let serial = cell.borrow_mut().get(key).map_or(0, |connection| connection.serial);
    let mut task = ConnectionTask { connections: Rc::clone(cell), key, serial };
    let _ = Pin::new(&mut task).poll(&mut Context::from_waker(std::task::Waker::noop()));
}

/// Writes what waits, then reads what came. Stops when the socket or the application takes no more, or when this client has
/// had its turn.
fn drive(peer: &mut Peer<'_>, serial: u32, cx: &mut Context<'_>) -> Poll<()> {
    let now = peer.now();
    while peer.connections.work < WORK_AT_A_TURN {
        let Some(connection) = peer.connection().filter(|connection| connection.serial == serial) else {
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
        let waits_for_keys = connection.turn == Turn::WaitsForKeys && connection.is_live();
        // Pings of an open connection are answered while keys come.
        if connection.turn == Turn::Waits || waits_for_keys && !connection.is_open() {
            return Poll::Pending;
        }
        if let Phase::Closing { ended, reply: None } = &mut connection.phase
            && !std::mem::replace(ended, true)
        {
            connection.io.shutdown();
        }
        if matches!(&connection.phase, Phase::Head(head) if head.request.is_some()) {
            if go_on_with_head(peer) {
                continue;
            }
            return Poll::Pending;
        }
        if connection.opener().is_some_and(|opener| opener.goes_on()) {
            if first::go_on(peer) {
                continue;
            }
            return Poll::Pending;
        }
        if !waits_for_keys && connection.session().is_some_and(|session| waits_to_renew(session)) {
            let rules = Arc::clone(&peer.connections.shared.rules);
            peer.converse(|session, peer| renew_again(session, &rules, peer));
            peer.flush_replies();
            continue;
        }
        if connection.caller().is_some_and(|caller| caller.goes_on()) {
            if calls::go_on(peer) {
                continue;
            }
            peer.connections.schedule(peer.key); // whoever waits may end
            return Poll::Pending;
        }
        let (client, listens) = (connection.id, connection.listens(now));
        let (is_open, goes_on) = (connection.is_open(), connection.ahead.is_some());
        // A client that closes does not wait for what the application has to finish.
        let closes = is_open && connection.ahead.as_ref().is_some_and(|ahead| ahead.input.is_closing());
        if is_open && !closes && !peer.has_room() {
            peer.connections.wait_for_room(peer.key);
        } else if listens || closes {
            if !goes_on {
                settle(peer.connections, client);
            }
            let worked = if goes_on { go_on(peer) } else { read(peer, cx, false) };
            if worked.is_pending() {
                return Poll::Pending;
            }
            continue;
        }
        if read_ahead(peer, cx).is_pending() {
            if !peer.connections.shared.budget.ahead.has_room() {
                peer.connections.wait_for_room(peer.key);
            }
            peer.connections.schedule(peer.key);
            return Poll::Pending;
        }
    }
    // A peer that sends without end gets its next turn after all others, also after those whose sockets the runtime has not
    // looked at yet.
    peer.connections.wait_for_turn(peer.key);
    Poll::Pending
}

/// Works on what was left over.
fn go_on(peer: &mut Peer<'_>) -> Poll<()> {
    let ahead = peer.connection().and_then(|connection| connection.ahead.as_mut());
    let Some((mut bytes, start)) = ahead.map(|ahead| ahead.input.lend()) else { return Poll::Ready(()) };
    let taken = start + receive(peer, &mut bytes[start..]);
    peer.connections.work += taken - start;
    let budget = Arc::clone(&peer.connections.shared.budget);
    let Some(connection) = peer.connection() else { return Poll::Ready(()) };
    if taken == bytes.len() {
        connection.ahead = None;
    } else if let Some(ahead) = &mut connection.ahead {
        ahead.input.give_back(bytes, taken);
        ahead.hold = Hold::new(&budget.ahead, ahead.input.len());
    }
    Poll::Ready(())
}

/// Answers the pings of a client whose messages have to wait, and reads a little more of it for that and for its close.
fn read_ahead(peer: &mut Peer<'_>, cx: &mut Context<'_>) -> Poll<()> {
    let next_ping = |peer: &mut Peer<'_>| peer.live()?.ahead.as_mut()?.input.next_ping();
    while let Some(payload) = next_ping(peer) {
        pong(peer, &payload);
    }
    peer.flush_replies();
    match peer.live().filter(|connection| connection.is_open()).and_then(|it| it.ahead.as_ref()) {
        Some(ahead) if ahead.input.is_closing() => Poll::Ready(()),
        _ => read(peer, cx, true),
    }
}

/// Reads once, and works on it unless it has to wait.
fn read(peer: &mut Peer<'_>, cx: &mut Context<'_>, waits: bool) -> Poll<()> {
    let (now, shared) = (peer.now(), Arc::clone(&peer.connections.shared));
    let mut buffer = std::mem::take(&mut peer.connections.buffers.read);
    // Empty the first time, and after a panic, which keeps it.
    buffer.resize(READ_BYTES, 0);
    let Some(connection) = peer.connection() else { return Poll::Pending };
    let is_stream = connection.upgraded().is_some_and(|upgraded| upgraded.wire.is_stream());
    let most = if waits { connection.room_ahead(&shared.budget) } else { connection.most_of_a_read(&shared) };
    let read = if most == 0 {
        Poll::Pending
    } else {
        connection.io.poll_read(cx, &mut buffer[..most.min(READ_BYTES)])
    };
    let done = read.map(|read| match read {
        Ok(count @ 1..) => {
            peer.connections.work += count;
            peer.connections.counters.bytes_received.add(count as u64);
            let taken = match () {
                // A stream's client has nothing to say here.
                () if is_stream => count,
                () if waits => 0,
                () => receive(peer, &mut buffer[..count]),
            };
            if taken < count
                && let Some(connection) = peer.connection()
            {
                connection.deadlines.heard(now);
                connection.keep(&buffer[taken..count], &shared.budget, now);
            }
        }
        Ok(0) => peer.finish(&CloseReason::Ended),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => peer.finish(&CloseReason::TlsFailed),
        Err(_) => peer.finish(&CloseReason::Broken),
    });
    peer.connections.buffers.read = buffer;
    done
}

/// Works on bytes that came from a connection. Returns how many it took: the others have to wait.
pub(crate) fn receive(peer: &mut Peer<'_>, chunk: &mut [u8]) -> usize {
    let mut taken = chunk.len();
    let is_first = peer.connection().and_then(Connection::opener).is_some();
    match peer.connection().map(|connection| &mut connection.phase) {
        Some(Phase::Head(_)) => receive_head(peer, chunk),
        Some(Phase::Calls(caller)) if caller.call.is_some() => calls::receive(peer, chunk),
        Some(Phase::Calls(_)) => receive_head(peer, chunk),
        Some(Phase::Deciding(_)) if is_first => taken = websocket::receive(peer, chunk),
        Some(Phase::Open(_)) => taken = websocket::receive(peer, chunk),
        Some(Phase::Closing { reply, .. }) => drop(reply.take_if(|reply| reply.receive(chunk))),
        Some(Phase::Deciding(_)) | None => {}
    }
    taken
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
        connection.deadlines.said(now);
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
    }
    peer.connections.schedule(peer.key);
    Ok(empty)
}
