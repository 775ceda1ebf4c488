//! The task of one connection: it waits for the socket, writes what waits for it, and reads.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::hub::{Due, ReaderKey};
use crate::transport::connection::Phase;
use crate::transport::ending::ABNORMAL;
use crate::transport::events::ClientId;
use crate::transport::shard::{READ_BYTES, Shard};

/// Waits for one socket. Ends with its connection.
pub(crate) struct ConnectionTask {
    shard: Rc<RefCell<Shard>>,
    key: ReaderKey,
    id: ClientId,
}

impl ConnectionTask {
    pub fn new(shard: &Rc<RefCell<Shard>>, key: ReaderKey, id: ClientId) -> Self {
        Self { shard: Rc::clone(shard), key, id }
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shard, key, id } = &*self;
        let driven = shard.borrow_mut().guarded(*key, |shard| shard.drive(*key, *id, cx));
        driven.unwrap_or_else(|| {
            // It was closed for that: there is a rest to write, or an answer to read.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Shard {
    /// Writes what waits, then reads what came, until the socket or the application has had enough, or this client has had
    /// its turn.
    fn drive(&mut self, key: ReaderKey, id: ClientId, cx: &mut Context<'_>) -> Poll<()> {
        self.now = self.shared.clock.now();
        self.work = 0;
        while self.work < WORK_AT_A_TURN {
            let Some(connection) = self.connections.get_mut(key as usize).filter(|it| it.id == id) else {
                return Poll::Ready(());
            };
            if !connection.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                connection.waker = Some(cx.waker().clone());
            }
            if connection.outbox.is_some() {
                match self.write_waiting(key, cx) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(_) => {
                        self.finish(key, ABNORMAL, "the connection broke");
                        return Poll::Ready(());
                    }
                }
                continue;
            }
            if let Phase::Closing { ended, answer: None } = &mut connection.phase
                && !std::mem::replace(ended, true)
            {
                connection.io.shutdown();
            }
            if !connection.listens() {
                return Poll::Pending;
            }
            if matches!(connection.phase, Phase::Open(_)) && !self.shared.inbox.has_room() {
                self.waiting.push(key);
                return Poll::Pending;
            }
            // After a panic, which keeps it, there is another one.
            let mut buffer = self.read_buffer.take().unwrap_or_else(|| vec![0; READ_BYTES]);
            let unread = std::mem::take(&mut connection.unread);
            let read = if unread.is_empty() {
                let most = connection.most_of_a_read();
                connection.io.poll_read(cx, &mut buffer[..most])
            } else {
                buffer[..unread.len()].copy_from_slice(&unread);
                Poll::Ready(Ok(unread.len()))
            };
            match read {
                Poll::Pending => {
                    self.read_buffer = Some(buffer);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(count @ 1..)) => {
                    self.work += count;
                    self.receive(key, &mut buffer[..count]);
                }
                Poll::Ready(Ok(0)) => self.finish(key, ABNORMAL, "the client ended the connection"),
                Poll::Ready(Err(error)) => self.finish(key, ABNORMAL, broken_text(&error)),
            }
            self.read_buffer = Some(buffer);
        }
        // A peer that sends without end gets its next turn after all others, those included whose sockets have to be looked
        // at first. To wake it would not do: the runtime works on up to 61 woken tasks before it looks.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Writes the outbox; `true` when it is empty.
    fn write_waiting(&mut self, key: ReaderKey, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(key as usize) else { return Ok(true) };
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
            connection.keepalive.stalled(false, self.now);
        }
        connection.keepalive.stalled(!empty, self.now);
        self.counters.bytes_sent.add(sent);
        if let Some(share) = outbox.share.as_ref().filter(|_| sent > 0) {
            share.hold(outbox.own_bytes());
        }
        if empty {
            connection.outbox = None;
            self.hub.writable(key);
            self.unpark(key);
            if self.hub.due(self.now) == Due::Now {
                self.mailbox.wake();
            }
        }
        self.schedule(key);
        Ok(empty)
    }

    /// The application has room again.
    pub fn wake_waiting(&mut self) {
        while let Some(key) = self.waiting.pop() {
            if let Some(connection) = self.connections.get(key as usize) {
                connection.wake();
            }
        }
    }
}

fn broken_text(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::InvalidData { "TLS failed" } else { "the connection broke" }
}

/// What one connection may cost before the others have their turn, in bytes that are read, and made of what was read: about
/// half a millisecond. The one message that passes it is worked on whole.
pub const WORK_AT_A_TURN: usize = 512 * 1024;
