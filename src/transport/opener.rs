//! A client that has not been let in, and what it says first.

use crate::config::Config;
use crate::protocol::http::Request;
use crate::session::{Secret, Wanted};
use crate::transport::client_id::ClientId;
use crate::transport::on_stream::OnStream;

/// A client that has not been let in: its request, and what it says first.
#[derive(Debug)]
pub(crate) struct Opener {
    /// `None` when the application has it.
    pub request: Option<Request>,
    pub said: Option<First>,
    /// The application says whether it is the same client.
    pub other_credential: bool,
    /// `None`: it is a WebSocket.
    pub stream: Option<Box<OnStream>>,
}

/// A first message.
#[derive(Debug)]
pub(crate) struct First {
    /// What the application knows the client by.
    pub token: Option<String>,
    pub returning: Option<Returning>,
    /// Which part of a stream that comes in parts it wants.
    pub part: Option<u64>,
    /// Length of the message.
    pub bytes: usize,
}

/// What a client says that comes back.
#[derive(Debug)]
pub(crate) struct Returning {
    /// The client that had the session, and what it has to know for it. `None`: the token is none of this server.
    pub session: Option<(ClientId, Secret)>,
    pub attempt: u64,
    pub wanted: Box<Wanted>,
}

impl Opener {
    pub fn new(request: Request) -> Self {
        Self { request: Some(request), said: None, other_credential: false, stream: None }
    }

    /// Whether there is a first message, and nobody was asked about it.
    pub fn goes_on(&self) -> bool {
        self.said.is_some() && self.request.is_some()
    }

    /// Whether the first message is still to come.
    pub fn listens(&self) -> bool {
        self.said.is_none()
    }

    /// Bytes that wait to be acted on.
    pub fn held(&self) -> usize {
        self.said.as_ref().map_or(0, |first| first.bytes)
    }
}

/// Longest first message.
pub(crate) fn first_message_limit(config: &Config) -> usize {
    ENVELOPE + config.max_subscriptions.saturating_mul(BYTES_PER_CHANNEL)
}

/// Bytes of a first message beside its channels: tokens of some systems have more than 8 KiB.
const ENVELOPE: usize = 16 * 1024;

/// Bytes of a channel in a first message: a name of 255 bytes, its position, and some of the name as escapes.
const BYTES_PER_CHANNEL: usize = 512;
