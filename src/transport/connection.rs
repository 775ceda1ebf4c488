//! One connection: a byte stream, how far its protocol has come, and what waits for the socket.

use std::task::Waker;
use std::time::Duration;

use crate::moment::Moment;
use crate::protocol::close_wait::CloseWait;
use crate::protocol::http::{HeadLimits, HeadReader};
use crate::protocol::websocket::WebSocket;
use crate::protocol::wire::Wire;
use crate::session::{RateLimit, Session};
use crate::transport::addresses::Counted;
use crate::transport::budget::Share;
use crate::transport::client_id::ClientId;
use crate::transport::deadlines::Deadlines;
use crate::transport::io::Io;
use crate::transport::outbox::Outbox;
use crate::transport::route::Route;

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
    pub deadlines: Deadlines,
    /// What it holds for an unfinished message.
    pub share: Option<Share>,
    /// When the wheel comes to it. An earlier entry of the wheel is an old one.
    pub timer: Moment,
    /// Input that could not be worked on yet, because an answer had to wait or the application had no room.
    pub unread: Vec<u8>,
    frames: RateLimit,
    /// The application was told of it, so it has to be told of its end.
    pub known: bool,
    /// The application does not want to hear more of it for now.
    pub paused: bool,
    /// Held for its Drop: however the connection ends, it is counted out.
    _counted: Counted,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// The request head is being read.
    Head(Box<Head>),
    /// Upgraded. The application decides whether it may come in.
    Deciding(Upgraded),
    Open(Upgraded),
    /// Our last bytes are sent or wait in the outbox. What still comes is read and dropped, so that the kernel does not
    /// answer it with a reset that would take our last bytes from the peer.
    Closing {
        /// Our side of the stream was ended.
        ended: bool,
        /// We closed, and the peer has not closed in return. Its close frame is waited for before our side ends, because
        /// clients that see the end first report an abnormal closure.
        reply: Option<CloseWait>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Head {
    pub buffer: Vec<u8>,
    pub reader: HeadReader,
}

/// What is spoken after the upgrade.
#[derive(Debug)]
pub(crate) struct Upgraded {
    /// Reads frames.
    pub websocket: WebSocket,
    /// Writes frames.
    pub wire: Wire,
    pub endpoint: Endpoint,
}

/// Who the client speaks with.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// The Umbel protocol.
    Umbel(Session),
    /// A websocket path of the application.
    Route(Box<Route>),
}

impl Connection {
    pub fn new(id: ClientId, io: Io, counted: Counted, accepted: Moment) -> Self {
        Self {
            id,
            io,
            phase: Phase::Head(Box::default()),
            outbox: None,
            waker: None,
            deadlines: Deadlines::new(accepted),
            share: None,
            timer: Moment::default(),
            unread: Vec::new(),
            frames: RateLimit::default(),
            known: false,
            paused: false,
            _counted: counted,
        }
    }

    /// Waits for the socket to take bytes.
    pub fn block(&mut self, now: Moment) -> &mut Outbox {
        self.deadlines.stalled(true, now);
        self.wake();
        self.outbox.get_or_insert_default()
    }

    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Bytes of answers that wait for the socket, after the part that it has begun to take.
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len_after_first())
    }

    /// What is spoken with it, from the upgrade until our last word.
    pub fn upgraded(&self) -> Option<&Upgraded> {
        match &self.phase {
            Phase::Deciding(upgraded) | Phase::Open(upgraded) => Some(upgraded),
            Phase::Head(_) | Phase::Closing { .. } => None,
        }
    }

    /// As [`Connection::upgraded`].
    pub fn upgraded_mut(&mut self) -> Option<&mut Upgraded> {
        match &mut self.phase {
            Phase::Deciding(upgraded) | Phase::Open(upgraded) => Some(upgraded),
            Phase::Head(_) | Phase::Closing { .. } => None,
        }
    }

    pub fn session(&mut self) -> Option<&mut Session> {
        match &mut self.upgraded_mut()?.endpoint {
            Endpoint::Umbel(session) => Some(session),
            Endpoint::Route(_) => None,
        }
    }

    pub fn route(&mut self) -> Option<&mut Route> {
        match &mut self.upgraded_mut()?.endpoint {
            Endpoint::Umbel(_) => None,
            Endpoint::Route(route) => Some(route),
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Our last word to it is not said yet.
    pub fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether this connection wants bytes of its peer. The application may have no room for them all the same.
    pub fn listens(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Closing { .. } => true,
            Phase::Deciding(_) => false,
            Phase::Open(Upgraded { endpoint: Endpoint::Umbel(session), .. }) => {
                !self.paused && session.listens()
            }
            Phase::Open(Upgraded { endpoint: Endpoint::Route(route), .. }) => !self.paused && route.listens(),
        }
    }

    /// Bytes that may be read at once. What comes after a request is kept until the application lets the client in. Both
    /// together get no more room than a request may have. The rest waits in the kernel.
    pub fn most_of_a_read(&self) -> usize {
        let Phase::Head(head) = &self.phase else { return READ_BYTES };
        // One more, which makes a request too long.
        (HeadLimits::default().head_bytes + 1).saturating_sub(head.buffer.len())
    }

    /// Counts frames. Returns `false` when the peer begins more than [`FRAMES_PER_SECOND`] for long.
    pub fn allows_frames(&mut self, count: u32, now: Moment) -> bool {
        self.frames.allows(count, FRAMES_PER_SECOND, FRAMES_BURST, now)
    }
}

/// Size of the buffer for reading. There is one per shard, lent to the connection that is being read.
pub const READ_BYTES: usize = 64 * 1024;

/// Empty fragments cost a peer 6 bytes each and us some 30 ns; beyond this rate they are an attack. A legitimate 4 MiB
/// message in 64-byte fragments has 65,536 frames and arrives in a fraction of a second; in fragments of one byte, a
/// message of the default limit has a million.
const FRAMES_PER_SECOND: u32 = 500_000;

/// Two million frames at once.
const FRAMES_BURST: Duration = Duration::from_secs(4);

/// What a delivery looks at is in one cache line.
const _: () = assert!(std::mem::offset_of!(Connection, outbox) + 8 <= 64);

/// Five cache lines; every connection has one of these.
const _: () = assert!(size_of::<Connection>() <= 320);
