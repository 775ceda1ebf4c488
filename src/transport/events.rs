//! What the application is told.

use bytes::Bytes;

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
    },
    /// A text message on a websocket path.
    Text {
        /// Who sent it.
        client: ClientId,
        /// The message.
        text: String,
        /// Given back when the application has taken the message.
        credit: Credit,
    },
    /// A binary message on a websocket path.
    Binary {
        /// Who sent it.
        client: ClientId,
        /// The message.
        data: Bytes,
        /// Given back when the application has taken the message.
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
    /// A connection has ended. It is the last event of this client.
    Closed {
        /// Whose connection.
        client: ClientId,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
    /// A line for the log.
    Log {
        /// How serious it is.
        level: Level,
        /// The line.
        text: String,
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
    /// The id that clients and applications see.
    pub public_id: String,
}

/// How serious a log line is. The numbers are those of Python's `logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something to look at.
    Warning = 30,
    /// Something does not work.
    Error = 40,
}

impl Event {
    /// Bytes that this event keeps alive, for the bound of the queue.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Open { opening, .. } => opening.request.size(),
                Self::Question { question, .. } => question.size(),
                Self::Text { text, .. } => text.len(),
                Self::Binary { data, .. } => data.len(),
                _ => 0,
            }
    }
}

/// The place that [`Credit`] counts for a message.
const _: () = assert!(size_of::<Event>() <= PLACE);

/// Where events go. Shards ask for room before they read from a socket; they never drop an event.
pub trait Inbox: Send + Sync {
    /// Takes an event, always; a log line it may drop and count. Must not block.
    fn push(&self, event: Event);

    /// Whether shards may go on reading. After `false`,
    /// [`Command::RoomForEvents`](crate::transport::commands::Command::RoomForEvents) follows when they may.
    fn has_room(&self) -> bool;
}
