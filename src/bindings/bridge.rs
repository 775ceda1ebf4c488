//! The way of events into an asyncio loop: one wake-up per batch, never one per event.
//!
//! Shards push, and the push that finds the bridge quiet writes one byte to a socket pair that the loop watches. Shard
//! threads never touch the interpreter.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::bindings::handshake::Handshake;
use crate::transport::events::{Event, Inbox};

/// Events on their way to Python.
pub struct Bridge {
    /// Guards the queue; held for a push or for taking a batch.
    queue: Mutex<Queue>,
    signal: UnixStream,
    wake: UnixStream,
    capacity: usize,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    /// A byte lies in the socket pair.
    signalled: bool,
    /// A shard was refused room and waits to be told when there is some.
    starved: bool,
}

/// Names of the kinds of events; the place in this list is the number in the tuple.
pub const KINDS: [&str; 11] = [
    "OPEN",
    "MESSAGE",
    "SUBSCRIBE",
    "PUBLISH",
    "TEXT",
    "BINARY",
    "WRITABLE",
    "CLOSED",
    "LOG",
    "STOPPED",
    "ENDED",
];

impl Bridge {
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let (signal, wake) = UnixStream::pair()?;
        signal.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        Ok(Self { queue: Mutex::default(), signal, wake, capacity })
    }

    pub fn descriptor(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Takes at most `limit` events; `true` when shards wait to be told that there is room again. When more events
    /// wait, the descriptor stays readable.
    pub fn take(&self, limit: usize) -> (Vec<Event>, bool) {
        let mut queue = self.lock();
        let count = queue.events.len().min(limit);
        if count == queue.events.len() && std::mem::take(&mut queue.signalled) {
            // Exactly one byte was written for it.
            let _ = (&self.wake).read(&mut [0]);
        }
        let events: Vec<_> = queue.events.drain(..count).collect();
        queue.bytes -= events.iter().map(Event::weight).sum::<usize>();
        let room = self.has_half(&queue) && std::mem::take(&mut queue.starved);
        (events, room)
    }

    fn has_half(&self, queue: &Queue) -> bool {
        queue.events.len() <= self.capacity / 2 && queue.bytes <= MAX_BYTES / 2
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Bridge {
    fn push(&self, event: Event) {
        let mut queue = self.lock();
        queue.bytes += event.weight();
        queue.events.push_back(event);
        if !std::mem::replace(&mut queue.signalled, true) {
            // The pair holds at most this one byte, so it always has room.
            let _ = (&self.signal).write(&[0]);
        }
    }

    fn has_room(&self) -> bool {
        let mut queue = self.lock();
        let room = queue.events.len() < self.capacity && queue.bytes < MAX_BYTES;
        queue.starved |= !room;
        room
    }
}

/// An event as a tuple that begins with its kind.
pub fn to_tuple<'py>(event: Event, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Open { client, opening } => (0, client.0, Handshake(*opening)).into_pyobject(py),
        Event::Message { client, kind, id, text } => {
            let id = id.map(|id| PyBytes::new(py, id.as_bytes()));
            (1, client.0, kind, id, PyBytes::new(py, &text)).into_pyobject(py)
        }
        Event::Subscribe { client, ticket, rule, channel, params } => {
            (2, client.0, ticket, rule, channel, PyTuple::new(py, params)?).into_pyobject(py)
        }
        Event::Publish { client, ticket, rule, channel, params, data, key } => {
            let params = PyTuple::new(py, params)?;
            (3, client.0, ticket, rule, channel, params, PyBytes::new(py, &data), key).into_pyobject(py)
        }
        Event::Text { client, text, .. } => (4, client.0, text).into_pyobject(py),
        Event::Binary { client, data, .. } => (5, client.0, PyBytes::new(py, &data)).into_pyobject(py),
        Event::Writable { client } => (6, client.0).into_pyobject(py),
        Event::Closed { client, code, reason } => (7, client.0, code, reason).into_pyobject(py),
        Event::Log { level, text } => (8, level as u8, text).into_pyobject(py),
        Event::Stopped => (9,).into_pyobject(py),
        Event::Ended { client, code, reason } => (10, client.0, code, reason).into_pyobject(py),
    }
}

/// Bytes of messages that wait for Python, of all clients together.
const MAX_BYTES: usize = 64 << 20;
