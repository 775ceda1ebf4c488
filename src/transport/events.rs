//! What the application is told.

use std::time::Duration;

use bytes::Bytes;

use crate::jwt::Verified;
use crate::presence::Gathered;
use crate::protocol::http::Request;
use crate::session::Question;
use crate::transport::client_id::ClientId;
use crate::transport::credit::{Credit, PLACE};

/// Something the application has to hear of. The events of one client come in order, and `Closed` is its last.
#[derive(Debug)]
pub enum Event {
    /// A client has connected. It is the first event of this client.
    Open {
        /// The new client.
        client: ClientId,
        /// Its request.
        opening: Box<Opening>,
    },
    /// A client wants something that only the application can say or do.
    Question {
        /// Who asks.
        client: ClientId,
        /// What it wants.
        question: Question,
        /// Given back when the application has finished with it.
        credit: Credit,
    },
    /// A text message on a websocket path.
    Text {
        /// Who sent it.
        client: ClientId,
        /// The message.
        text: String,
        /// As for a question.
        credit: Credit,
    },
    /// A binary message on a websocket path.
    Binary {
        /// Who sent it.
        client: ClientId,
        /// The message.
        data: Bytes,
        /// As for a question.
        credit: Credit,
    },
    /// The client of a websocket path sends nothing more: it closed, or broke the protocol. The application may still send. The
    /// close frame is sent when the application closes, or after the close timeout.
    Ended {
        /// Who sends nothing more.
        client: ClientId,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
    /// The socket has taken what the application sent on a websocket path.
    Writable {
        /// Whose socket.
        client: ClientId,
    },
    /// A client that was let in is one of its own.
    Begun {
        /// The client.
        client: ClientId,
    },
    /// A client that was let in is another one, which has come back. It is the last event of the former.
    Merged {
        /// The one that was let in.
        client: ClientId,
        /// The one that has come back.
        into: ClientId,
    },
    /// A client has shown other credentials on its connection.
    Renewed {
        /// Which one.
        client: ClientId,
        /// Whom they name: the same subject.
        verified: Box<Verified>,
        /// Given back when Python has taken it.
        credit: Credit,
    },
    /// A client has lost its connection, and may come back.
    Away {
        /// Whose connection.
        client: ClientId,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
    /// A client has come back.
    Back {
        /// Which one.
        client: ClientId,
        /// Its new request.
        opening: Box<Opening>,
    },
    /// A client that was to give way is not away: it has come back, which is an earlier event.
    Stays {
        /// Which one.
        client: ClientId,
    },
    /// A client is gone. It is the last event of this client.
    Closed {
        /// Whose connection.
        client: ClientId,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
    /// What became of a subscription that the application made under this number.
    Subscribed {
        /// It was given by the application.
        number: u64,
        /// `false` when the client has too many subscriptions, or is gone.
        subscribed: bool,
    },
    /// Who came to a channel and who left it, of those whom others see.
    Gathered {
        /// Index of the rule that matches the channel.
        rule: usize,
        /// The values of the parameters of its pattern.
        params: Box<[String]>,
        /// The channel and the members.
        gathered: Box<Gathered>,
    },
    /// There is room in the channel for which somebody waits under this number.
    Room {
        /// It was given by the application.
        number: u64,
    },
    /// A line for the log.
    Log {
        /// How serious it is.
        level: Level,
        /// The line.
        text: String,
        /// Whom it is about, if that is one client.
        about: Option<Box<About>>,
    },
    /// Every shard has ended. It is the last event of all.
    Stopped,
}

/// The request that opened a connection, and what was made of it.
#[derive(Debug)]
pub struct Opening {
    /// The request.
    pub request: Request,
    /// Address of the other end, or `unix`.
    pub peer: String,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// Index of the websocket path that matched; `None` for the Umbel protocol.
    pub route: Option<usize>,
    /// The values of the parameters of that path.
    pub params: Vec<String>,
    /// What the client names itself by in its first message.
    pub token: Option<String>,
    /// Whom its token names, where tokens are verified here.
    pub verified: Option<Verified>,
    /// Whether it is a client of its own comes in another event: [`Event::Begun`] or [`Event::Merged`].
    pub other_credential: bool,
    /// It makes calls over HTTP, and is no client otherwise.
    pub is_caller: bool,
    /// The id that clients and applications see.
    pub public_id: String,
    /// The number of the connection, for the log: no other one has it.
    pub connection: u32,
}

impl Opening {
    /// Of a request that is for no websocket path, and of whose client nothing else is known.
    pub(crate) fn new(
        request: Request,
        peer: String,
        secure: bool,
        public_id: String,
        connection: u32,
    ) -> Self {
        Self {
            request,
            peer,
            secure,
            route: None,
            params: Vec::new(),
            token: None,
            verified: None,
            other_credential: false,
            is_caller: false,
            public_id,
            connection,
        }
    }
}

/// Whom a log line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The id that clients and applications see.
    pub client_id: String,
    /// The number of its connection; of the last one, when it has none. See [`Opening::connection`].
    pub connection: u32,
}

/// How serious a log line is. The numbers are those of Python's `logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for a fault. See [`Shared::trace`](crate::transport::shared::Shared::trace).
    Debug = 10,
    /// What happens in normal operation.
    Info = 20,
    /// Something to look at.
    Warning = 30,
    /// Something does not work.
    Error = 40,
}

impl Event {
    /// Whether a client wants something. A shard asks for room before it reads such a thing. Other events are of clients that are
    /// known, and can't be put off.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Question { .. } | Self::Text { .. } | Self::Binary { .. })
    }

    /// Bytes that this event keeps alive, for the bound of the queue.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Open { opening, .. } | Self::Back { opening, .. } => {
                    let claims = opening.verified.as_ref().map_or(0, |verified| verified.claims.len());
                    opening.request.size() + opening.token.as_ref().map_or(0, String::len) + claims
                }
                Self::Renewed { verified, .. } => verified.claims.len(),
                Self::Question { question, .. } => question.size(),
                Self::Text { text, .. } => text.len(),
                Self::Binary { data, .. } => data.len(),
                Self::Gathered { gathered, .. } => gathered.turns.len() * TURN_BYTES,
                _ => 0,
            }
    }
}

/// What a member takes who came or left: itself, its id and its subject.
const TURN_BYTES: usize = 160;

/// The place that [`Credit`] counts for a message.
const _: () = assert!(size_of::<Event>() <= PLACE);

/// How busy the application is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Events that wait.
    pub events: u64,
    /// Bytes of these events.
    pub bytes: u64,
    /// Since when they wait and none was taken.
    pub age: Duration,
    /// Since when it owes a sign of life ([`Inbox::probe`]).
    pub silent: Duration,
    /// Functions that run.
    pub running: u64,
    /// Functions that have ended since the start.
    pub called: u64,
    /// From the calls of those to their ends.
    pub called_for: Duration,
    /// Time in which events were handled, and functions called, since the start.
    pub busy: Duration,
    /// Log lines that were dropped since the start.
    pub log_lines_dropped: u64,
}

/// What the application says of its functions while somebody looks.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    /// Runs that are not over.
    pub runs: u64,
    /// Those that took most time, the first first.
    pub slowest: Vec<Function>,
}

/// One of them, since somebody began to look.
#[derive(Clone, Debug)]
pub struct Function {
    /// As the log names it.
    pub name: String,
    /// How often it has ended.
    pub calls: u64,
    /// Seconds from the calls to the ends, waiting included.
    pub seconds: f64,
    /// Seconds of the longest of these.
    pub longest: f64,
}

/// Where events go. Shards ask for room before they read from a socket; they never drop an event.
pub trait Inbox: Send + Sync {
    /// Takes an event, always; a log line it may drop and count. Must not block.
    fn push(&self, event: Event);

    /// The same for one of several events that come at once. Whoever calls it calls [`Inbox::wake`] in a moment.
    fn push_of_many(&self, event: Event) {
        self.push(event);
    }

    /// Wakes the application if it does not know yet that events wait.
    fn wake(&self) {}

    /// Whether shards may go on reading. After `false`,
    /// [`Command::RoomForEvents`](crate::transport::commands::Command::RoomForEvents) follows when they may.
    fn has_room(&self) -> bool;

    /// Whether clients may come back to their sessions. An application that does nothing for a while must not keep them out, so
    /// this may be true for longer than [`Inbox::has_room`]: only the bytes of what they say count, not the number of events.
    fn has_room_to_return(&self) -> bool {
        self.has_room()
    }

    /// Whether the application is at work on a batch of events, or one waits for it. At its end it says
    /// [`CommandQueue::batch_over`](crate::transport::commands::CommandQueue::batch_over).
    fn is_busy(&self) -> bool {
        false
    }

    /// How busy the application is.
    fn load(&self) -> Load {
        Load::default()
    }

    /// Says whether somebody looks. While somebody does, the application says how long its functions take.
    fn watch(&self, _somebody_looks: bool) {}

    /// Asks the application for a sign of life, also when no event waits.
    fn probe(&self) {}

    /// What it says of its functions.
    fn functions(&self) -> Functions {
        Functions::default()
    }
}
