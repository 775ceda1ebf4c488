//! How far the protocol of a connection has come, and who its client speaks with.

use crate::close::CloseReason;
use crate::protocol::close_wait::CloseWait;
use crate::protocol::websocket::WebSocket;
use crate::protocol::wire::Wire;
use crate::session::Session;
use crate::transport::asked::Asked;
use crate::transport::caller::Caller;
use crate::transport::excess::Excess;
use crate::transport::head::Head;
use crate::transport::opener::Opener;
use crate::transport::route::Route;

#[derive(Debug)]
pub(crate) enum Phase {
    /// The request head is being read.
    Head(Box<Head>),
    /// Calls are made on it.
    Calls(Box<Caller>),
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

/// What is spoken after the upgrade, or sent as a stream.
#[derive(Debug)]
pub(crate) struct Upgraded {
    /// Reads frames. A stream has none.
    pub websocket: WebSocket,
    /// Writes messages.
    pub wire: Wire,
    pub endpoint: Endpoint,
}

impl Upgraded {
    /// Why the client has ended, while the application may still say something.
    pub fn ending(&self) -> Option<&CloseReason> {
        match &self.endpoint {
            Endpoint::First(_) | Endpoint::Asked(_) | Endpoint::Umbel(_) => None,
            Endpoint::Route(route) => route.ending.as_ref(),
        }
    }

    pub fn client_has_ended(&self) -> bool {
        self.ending().is_some()
    }
}

/// Who the client speaks with.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// The Umbel protocol, before the client has said who it is.
    First(Box<Opener>),
    /// An event stream, before its client was let in.
    Asked(Box<Asked>),
    /// The Umbel protocol.
    Umbel(Session),
    /// A websocket path of the application.
    Route(Box<Route>),
}

/// The place of a connection in this phase, if it is beyond a limit.
pub(crate) fn excess_of(phase: &mut Phase) -> Option<&mut Option<Excess>> {
    match phase {
        Phase::Head(head) => Some(&mut head.excess),
        Phase::Calls(caller) => Some(&mut caller.head.excess),
        Phase::Deciding(Upgraded { endpoint: Endpoint::First(opener), .. }) => {
            opener.stream.as_mut().map(|stream| &mut stream.excess)
        }
        Phase::Deciding(_) | Phase::Open(_) | Phase::Closing { .. } => None,
    }
}

/// The session of a connection in this phase.
pub(crate) fn session_of(phase: &mut Phase) -> Option<&mut Session> {
    match phase {
        Phase::Calls(caller) => Some(&mut caller.session),
        Phase::Deciding(upgraded) | Phase::Open(upgraded) => match &mut upgraded.endpoint {
            Endpoint::Umbel(session) => Some(session),
            Endpoint::First(_) | Endpoint::Asked(_) | Endpoint::Route(_) => None,
        },
        Phase::Head(_) | Phase::Closing { .. } => None,
    }
}
