//! One connection: a byte stream, how far its protocol has come, and what waits for the socket.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::moment::Moment;
use crate::protocol::ReadAhead;
use crate::session::{RateLimit, Session};
use crate::transport::addresses::Counted;
use crate::transport::asked::Asked;
use crate::transport::budget::{Account, Budget, Hold, Share};
use crate::transport::caller::{Caller, HttpCall};
use crate::transport::client_id::ClientId;
use crate::transport::commands::CommandQueue;
use crate::transport::credit::Credit;
use crate::transport::deadlines::Deadlines;
use crate::transport::head::Head;
use crate::transport::io::Io;
use crate::transport::opener::Opener;
use crate::transport::outbox::Outbox;
use crate::transport::pending::Pending;
use crate::transport::phase::{Endpoint, Phase, Upgraded, session_of};
use crate::transport::route::Route;
use crate::transport::shared::Shared;
use crate::transport::turn::Turn;

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
    pub ahead: Option<Box<Ahead>>,
    /// What its messages take. Made with the first one that the application gets.
    pub pending: Option<Box<Pending>>,
    frames: RateLimit,
    /// Names it in the log, and tells apart the connections that have had this slot. A client keeps its id on its next connection, so
    /// the id does not. It keeps this number on its way to another shard.
    pub serial: u32,
    /// The application was told of it, so it has to be told of its end.
    pub known: bool,
    /// The application does not want to hear it yet.
    pub paused: bool,
    /// It is among those that are woken when there is room again.
    pub waits_for_room: bool,
    pub turn: Turn,
    /// Held for its Drop: however the connection ends, it is counted out.
    pub counted: Counted,
}

impl Connection {
    pub fn new(id: ClientId, serial: u32, io: Io, counted: Counted, accepted: Moment) -> Self {
        Self {
            id,
            serial,
            io,
            phase: Phase::Head(Box::default()),
            outbox: None,
            waker: None,
            deadlines: Deadlines::new(accepted),
            share: None,
            timer: Moment::default(),
            ahead: None,
            pending: None,
            waits_for_room: false,
            turn: Turn::None,
            frames: RateLimit::default(),
            known: false,
            paused: false,
            counted,
        }
    }

    /// Where its client is: an address, with a port if that is known, or `unix`.
    pub fn peer(&self) -> String {
        self.counted.client().map_or_else(|| self.io.peer(), |client| client.to_string())
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
            Phase::Head(_) | Phase::Calls(_) | Phase::Closing { .. } => None,
        }
    }

    /// As [`Connection::upgraded`].
    pub fn upgraded_mut(&mut self) -> Option<&mut Upgraded> {
        match &mut self.phase {
            Phase::Deciding(upgraded) | Phase::Open(upgraded) => Some(upgraded),
            Phase::Head(_) | Phase::Calls(_) | Phase::Closing { .. } => None,
        }
    }

    /// The call that is made on it.
    pub fn call(&self) -> Option<&HttpCall> {
        if let Phase::Calls(caller) = &self.phase { caller.call.as_deref() } else { None }
    }

    /// The calls that are made on it.
    pub fn caller(&mut self) -> Option<&mut Caller> {
        if let Phase::Calls(caller) = &mut self.phase { Some(caller) } else { None }
    }

    /// The head that is read.
    pub fn head(&mut self) -> Option<&mut Head> {
        match &mut self.phase {
            Phase::Head(head) => Some(head),
            Phase::Calls(caller) if caller.call.is_none() => Some(&mut caller.head),
            _ => None,
        }
    }

    pub fn session(&mut self) -> Option<&mut Session> {
        session_of(&mut self.phase)
    }

    pub fn route(&mut self) -> Option<&mut Route> {
        match &mut self.upgraded_mut()?.endpoint {
            Endpoint::First(_) | Endpoint::Asked(_) | Endpoint::Umbel(_) => None,
            Endpoint::Route(route) => Some(route),
        }
    }

    /// What is known of a client that has not said who it is, or has just done so.
    pub fn opener(&mut self) -> Option<&mut Opener> {
        match &mut self.phase {
            Phase::Deciding(Upgraded { endpoint: Endpoint::First(opener), .. }) => Some(opener),
            _ => None,
        }
    }

    /// The stream that was asked for, while its client is not let in.
    pub fn asked(&self) -> Option<&Asked> {
        match &self.phase {
            Phase::Deciding(Upgraded { endpoint: Endpoint::Asked(asked), .. }) => Some(asked),
            _ => None,
        }
    }

    /// Takes what is said to its client, if that becomes a part of a response over HTTP.
    pub fn takes_answer(&mut self, text: &[u8]) -> bool {
        match &mut self.phase {
            Phase::Calls(caller) => match &mut caller.call {
                Some(call) => call.answer(text),
                None => return false,
            },
            Phase::Deciding(Upgraded { endpoint: Endpoint::First(opener), .. }) => match &mut opener.stream {
                Some(stream) => stream.error = text.to_vec(),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Our last word to it is not said yet.
    pub fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether this connection wants bytes of its peer. The application may have no room for them all the same.
    pub fn listens(&self, now: Moment) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Closing { .. } => true,
            Phase::Calls(caller) => caller.listens(),
            Phase::Deciding(Upgraded { endpoint: Endpoint::First(opener), .. }) => opener.listens(),
            Phase::Deciding(_) => false,
            Phase::Open(Upgraded { endpoint, .. }) => {
                let may_say_more = match endpoint {
                    Endpoint::Umbel(session) => session.listens(now),
                    Endpoint::First(opener) => opener.listens(),
                    Endpoint::Asked(_) => false,
                    Endpoint::Route(route) => route.listens(),
                };
                may_say_more && !self.paused && self.pending.as_ref().is_none_or(|pending| pending.has_room())
            }
        }
    }

    /// Takes a message that the application gets off what the client may say.
    pub fn credit(&mut self, bytes: usize, shared: &Shared, commands: &Arc<CommandQueue>) -> Credit {
        self.pending(shared, commands).credit(bytes)
    }

    /// Notes what requests of the client keep that wait for others.
    pub fn hold_requests(&mut self, bytes: usize, shared: &Shared, commands: &Arc<CommandQueue>) {
        if bytes > 0 || self.pending.is_some() {
            self.pending(shared, commands).hold_requests(bytes, &shared.budget);
        }
    }

    /// Notes what the session remembers of its answers. Returns `true` when it is more than before.
    pub fn hold_answers(&mut self, bytes: usize, shared: &Shared, commands: &Arc<CommandQueue>) -> bool {
        let client = self.id;
        (bytes > 0 || self.pending.is_some())
            && self.pending(shared, commands).hold_answers(bytes, client, &shared.budget)
    }

    /// Whether the share of this number holds what the session remembers.
    pub fn remembers_by(&self, share: u64) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.remembers_by(share))
    }

    pub fn pending(&mut self, shared: &Shared, commands: &Arc<CommandQueue>) -> &mut Pending {
        let (id, is_route) = (self.id, self.route().is_some());
        self.pending.get_or_insert_with(|| {
            if is_route {
                Pending::of_route(id, shared, commands)
            } else {
                Pending::of_session(id, shared, commands)
            }
        })
    }

    /// What its messages count in.
    pub fn account<'a>(&self, budget: &'a Budget) -> &'a Arc<Account> {
        match self.upgraded().map(|upgraded| &upgraded.endpoint) {
            Some(Endpoint::Route(_)) => &budget.of_routes,
            Some(Endpoint::First(_) | Endpoint::Asked(_) | Endpoint::Umbel(_)) | None => &budget.messages,
        }
    }

    /// Whether the application has room for a message of this client. After `false`,
    /// [`Command::RoomForEvents`](crate::transport::commands::Command::RoomForEvents) follows when it has.
    pub fn has_room(&self, shared: &Shared) -> bool {
        shared.inbox.has_room() && self.account(&shared.budget).has_room()
    }

    /// Keeps input until it can be worked on, behind what is kept already. Nothing counts after a close.
    pub fn keep(&mut self, input: &[u8], budget: &Budget, now: Moment) {
        let (Phase::Deciding(upgraded) | Phase::Open(upgraded)) = &mut self.phase else { return };
        if upgraded.client_has_ended() {
            return;
        }
        let ahead = self.ahead.get_or_insert_with(|| {
            let (input, hold) = (upgraded.websocket.read_ahead(), Hold::new(&budget.ahead, 0));
            Box::new(Ahead { input, hold, shown: now })
        });
        ahead.input.push(input);
        ahead.hold = Hold::new(&budget.ahead, ahead.input.len());
    }

    /// Bytes that may be read although they have to wait. Pings among them are answered.
    pub fn room_ahead(&self, budget: &Budget) -> usize {
        let most = match &self.phase {
            // Anybody can come so far.
            Phase::Deciding(_) => LITTLE,
            Phase::Open(upgraded) if !upgraded.client_has_ended() => MOST_AHEAD,
            Phase::Head(_) | Phase::Calls(_) | Phase::Open(_) | Phase::Closing { .. } => return 0,
        };
        if self.outbox.is_some() || !budget.ahead.has_room() {
            return 0;
        }
        most.saturating_sub(self.ahead.as_ref().map_or(0, |ahead| ahead.input.len()))
    }

    /// Until when its session does not want to hear more, or last did not. `None`: it always did.
    pub fn quiet_until(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Open(Upgraded { endpoint: Endpoint::Umbel(session), .. }) => Some(session.quiet_until()),
            _ => None,
        }
        .filter(|until| *until > Moment::default())
    }

    /// Whether its messages are not read because of us, so that its end would not be noticed. A client that has closed may end
    /// its side: it still gets the rest, within the close time.
    pub fn is_paused(&self, now: Moment, shared: &Shared) -> bool {
        let is_read = self.listens(now) && (!self.waits_for_room || self.has_room(shared));
        let is_awaited = match &self.phase {
            Phase::Calls(caller) => caller.is_awaited(),
            _ => self.upgraded().is_some_and(|upgraded| !upgraded.client_has_ended()),
        };
        is_awaited && self.outbox.is_none() && !is_read
    }

    /// Whether it is time to show a client whose messages wait that the server is there. Asked once for each time.
    pub fn is_to_be_shown(&mut self, now: Moment) -> bool {
        let is_session = self.is_open() && self.session().is_some();
        let ahead = self.ahead.as_mut().filter(|ahead| is_session && now >= ahead.shown + SIGN);
        ahead.map(|ahead| ahead.shown = now).is_some()
    }

    /// Bytes that may be read at once. Of a client that is not heard, [`Connection::room_ahead`] says it.
    pub fn most_of_a_read(&self, shared: &Shared) -> usize {
        match &self.phase {
            // One more, which makes a request too long.
            Phase::Head(head) => (shared.config.max_head_bytes + 1).saturating_sub(head.buffer.len()),
            Phase::Calls(caller) => caller.missing().unwrap_or_else(|| {
                (shared.config.max_head_bytes + 1).saturating_sub(caller.head.buffer.len())
            }),
            _ if shared.budget.ahead.has_room() => READ_BYTES,
            // What can't be worked on now has to be kept.
            _ => LITTLE,
        }
    }

    /// Counts frames. Returns `false` when the peer begins more than [`FRAMES_PER_SECOND`] for long.
    pub fn allows_frames(&mut self, count: u32, now: Moment) -> bool {
        self.frames.allows(count, FRAMES_PER_SECOND, FRAMES_BURST, now)
    }
}

/// Input that waits, and its part of the budget.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub input: ReadAhead,
    pub hold: Hold,
    /// When the client last had a sign that the server is there, or when this began.
    shown: Moment,
}

/// Bytes of a read while much waits already, or the client may not come in.
pub const LITTLE: usize = 4096;

/// Time after which a client whose messages have to wait gets a sign. Our own clients give an answer five seconds.
const SIGN: Duration = Duration::from_secs(3);

/// Bytes that are read of a client while its messages have to wait.
pub const MOST_AHEAD: usize = 64 * 1024;

/// Size of the buffer for reading. There is one per shard, lent to the connection that is being read.
pub const READ_BYTES: usize = 64 * 1024;

/// Empty fragments cost a peer 6 bytes each and us some 30 ns; beyond this rate they are an attack. A legitimate 4 MiB
/// message in 64-byte fragments has 65,536 frames and arrives in a fraction of a second; in fragments of one byte, a
/// message of the default limit has a million.
const FRAMES_PER_SECOND: u32 = 500_000;

/// Two million frames at once.
const FRAMES_BURST: Duration = Duration::from_secs(4);

/// What a delivery looks at is in one cache line. Five in all; every connection has one of these.
const _: () = assert!(std::mem::offset_of!(Connection, outbox) + 8 <= 64 && size_of::<Connection>() <= 320);
