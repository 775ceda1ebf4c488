//! One connection: a byte stream, how far its protocol has come, and what waits for the socket.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use bytes::Bytes;

use crate::channel::ChannelName;
use crate::connection::conduct::Conduct;
use crate::connection::keepalive::Keepalive;
use crate::connection::pace::Pace;
use crate::hub::{Delivery, Outgoing};
use crate::moment::Moment;
use crate::position::Position;
use crate::protocol::farewell::Farewell;
use crate::protocol::http::{HeadLimits, HeadReader};
use crate::protocol::websocket::WebSocket;
use crate::protocol::wire::Wire;
use crate::transport::addresses::Counted;
use crate::transport::budget::Share;
use crate::transport::events::{ALLOWANCE, ClientId};
use crate::transport::io::Io;
use crate::transport::outbox::Outbox;
use crate::transport::shard::READ_BYTES;

/// A connection of a shard. Kept small: an idle one holds this, its task, and no buffer.
///
/// What a delivery looks at comes first and fills one cache line: with thousands of connections each line is a miss.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Connection {
    pub io: Io,
    /// What the socket did not take. While there is one, nothing is read either.
    pub outbox: Option<Box<Outbox>>,
    pub id: ClientId,
    pub phase: Phase,
    /// Wakes the task of this connection.
    pub waker: Option<Waker>,
    pub keepalive: Keepalive,
    /// What it holds for an unfinished message.
    pub share: Option<Share>,
    /// When the wheel comes round to it; an earlier entry of the wheel is an old one.
    pub timer: Moment,
    /// Input that could not be worked on, because an answer had to wait or the application had no room.
    pub unread: Vec<u8>,
    pub conduct: Conduct,
    pub pace: Pace,
    /// Frames it may still begin, and when that was last topped up.
    pub frames: (u32, Moment),
    /// The application was told of it, and so has to be told of its end.
    pub known: bool,
    /// The application does not want to hear more of it for now.
    pub paused: bool,
    /// What was asked of the application, or remembered; nearly all connections need none of it.
    pub extra: Option<Box<Extra>>,
    /// Held for its Drop, which is however the connection ends.
    _counted: Counted,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// The request head is being read.
    Head(Box<Head>),
    /// Upgraded; the application decides whether it may come in.
    Asked(Protocol),
    Open(Protocol),
    /// Our last bytes are sent or wait in the outbox. What still comes is read and dropped, so that the kernel does not
    /// answer it with a reset that would take our last bytes from the peer.
    Closing {
        /// Our side of the stream was ended.
        ended: bool,
        /// We closed and the peer has not answered: its close frame is waited for before our side ends, because clients
        /// that see the end first report an abnormal closure.
        answer: Option<Farewell>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Head {
    pub buffer: Vec<u8>,
    pub reader: HeadReader,
}

/// What is spoken after the upgrade.
#[derive(Debug)]
pub(crate) struct Protocol {
    pub websocket: WebSocket,
    pub wire: Wire,
    /// A websocket route of the application, and not the Umbel protocol.
    pub is_route: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub asks: Vec<Ask>,
    pub next_ticket: u64,
    /// The last publishes that had an `id`: a repetition is answered, not published.
    pub published: VecDeque<(Box<str>, ChannelName, u64)>,
    /// Bytes of route messages between the application and the socket; shared with the application's side.
    pub backlog: Option<Arc<AtomicUsize>>,
    /// How many of those lie in the outbox.
    pub parked: usize,
    /// Bytes of its messages that the application has not taken.
    pub untaken: Arc<AtomicUsize>,
    /// A websocket route whose client has ended: our close frame, and the code and reason the application is told.
    pub ending: Option<(Vec<u8>, u16, String)>,
}

/// A question to the application.
#[derive(Debug)]
pub(crate) struct Ask {
    /// `None`: it waits for an earlier question about this channel.
    pub ticket: Option<u64>,
    pub id: Option<Box<str>>,
    pub channel: ChannelName,
    pub wish: Wish,
}

#[derive(Debug)]
pub(crate) enum Wish {
    Subscribe { from: Option<Position> },
    Unsubscribe,
    Publish { data: Bytes, key: Option<Box<str>> },
}

impl Connection {
    pub fn new(id: ClientId, io: Io, counted: Counted, accepted: Moment) -> Self {
        Self {
            id,
            io,
            phase: Phase::Head(Box::default()),
            outbox: None,
            waker: None,
            keepalive: Keepalive::new(accepted),
            share: None,
            timer: Moment::default(),
            unread: Vec::new(),
            conduct: Conduct::default(),
            pace: Pace::default(),
            frames: (FRAMES_BURST, accepted),
            known: false,
            paused: false,
            extra: None,
            _counted: counted,
        }
    }

    /// Writes without waiting; what the socket does not take of the bytes is kept, if it took any.
    pub fn deliver(&mut self, bytes: Outgoing<'_>, now: Moment, sent: &mut u64) -> Delivery {
        if let Some(outbox) = &mut self.outbox {
            bytes.keep_in(outbox, 0);
            return Delivery::Parked;
        }
        let whole = bytes.as_slice();
        match self.io.send(whole) {
            Ok(count) => {
                *sent += count as u64;
                if count == whole.len() && !self.io.holds_output() {
                    return Delivery::Sent;
                }
                bytes.keep_in(self.block(now), count);
                Delivery::Parked
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.block(now);
                Delivery::Refused
            }
            Err(_) => Delivery::Gone,
        }
    }

    /// Waits for the socket to take bytes.
    pub fn block(&mut self, now: Moment) -> &mut Outbox {
        self.keepalive.stalled(true, now);
        self.wake();
        self.outbox.get_or_insert_default()
    }

    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Bytes of answers that wait for the socket, behind what it has begun to take.
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len_behind_first())
    }

    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub fn open(&mut self) -> Option<&mut Protocol> {
        match &mut self.phase {
            Phase::Open(protocol) => Some(protocol),
            Phase::Head(_) | Phase::Asked(_) | Phase::Closing { .. } => None,
        }
    }

    /// Our last word to it was not said.
    pub fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether bytes of the peer are wanted, as far as this connection knows.
    pub fn listens(&self) -> bool {
        let heard =
            |extra: &Extra| extra.asks.len() < MAX_ASKS && extra.untaken.load(Ordering::Acquire) < ALLOWANCE;
        let answering = self.extra.as_deref().is_none_or(heard);
        match self.phase {
            Phase::Head(_) | Phase::Closing { .. } => true,
            Phase::Asked(_) => false,
            Phase::Open(_) => !self.paused && answering && !self.is_ending(),
        }
    }

    /// Bytes that may be read at once. What comes behind a request is kept until the application lets its client in, so
    /// both together get no more room than a request may have; the rest waits in the kernel.
    pub fn most_of_a_read(&self) -> usize {
        let Phase::Head(head) = &self.phase else { return READ_BYTES };
        // One more, which makes a request too long.
        (HeadLimits::default().head_bytes + 1).saturating_sub(head.buffer.len())
    }

    pub fn is_ending(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.ending.is_some())
    }

    /// Takes frames off the allowance; `false` when the peer begins more than [`FRAMES_PER_SECOND`] for long.
    pub fn allows_frames(&mut self, count: u32, now: Moment) -> bool {
        let (left, since) = self.frames;
        let earned = (now.since(since).as_secs_f64() * f64::from(FRAMES_PER_SECOND)) as u32;
        let left = left.saturating_add(earned).min(FRAMES_BURST);
        self.frames = (left.saturating_sub(count), now);
        left >= count
    }
}

impl Outgoing<'_> {
    /// Keeps what lies behind the first `skip` bytes.
    fn keep_in(&self, outbox: &mut Outbox, skip: usize) {
        match self {
            Self::Shared(bytes) => outbox.push_shared(bytes.slice(skip..)),
            Self::Own(bytes) => outbox.push(Bytes::copy_from_slice(&bytes[skip..])),
        }
    }
}

/// Questions of one connection that the application has not answered; with so many open, nothing more is read.
const MAX_ASKS: usize = 16;

/// Empty fragments cost a peer 6 bytes each and us some 30 ns; beyond this rate they are an attack. A legitimate 4 MiB
/// message in 64-byte fragments has 65,536 frames and arrives in a fraction of a second; in fragments of one byte, a
/// message of the default limit has a million.
const FRAMES_PER_SECOND: u32 = 500_000;
const FRAMES_BURST: u32 = 2_000_000;

/// What a delivery looks at is in one cache line.
const _: () = assert!(std::mem::offset_of!(Connection, outbox) + 8 <= 64);

/// Five cache lines; every connection has one of these.
const _: () = assert!(size_of::<Connection>() <= 320);
