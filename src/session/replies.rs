//! What a session tells its client about itself and about subscriptions.

use std::sync::Arc;
use std::time::Duration;

use super::carrier::Carrier;
use crate::channel::ChannelName;
use crate::identity::Identity;
use crate::position::{Position, Subscribed, Unrecovered};
use crate::protocol::message::{Id, ServerMessage};

/// A client that was let in.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The id by which the application and the client know the session.
    pub client_id: &'a str,
    /// Who the client is.
    pub identity: &'a Arc<Identity>,
    /// Where it comes from. It says whose session it is when the client is anonymous.
    pub address: &'a str,
}

/// What all clients of a server are told first.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Time for which a session waits for its client.
    pub session_ttl: Duration,
    /// Some updates say who published them.
    pub tell_senders: bool,
    /// Time within which a client should come back that loses its connection.
    pub reconnect_window: Duration,
    /// Silence after which the server pings.
    pub heartbeat: Duration,
    /// The window in which publications gather.
    pub tick: Duration,
    /// Messages of a client that the application may have under way.
    pub under_way: usize,
}

/// A client as updates name it: JSON text.
pub(super) fn sender(client_id: &str, subject: &str) -> Arc<str> {
    let subject = Some(subject).filter(|subject| !subject.is_empty());
    serde_json::json!({ "clientId": client_id, "subject": subject }).to_string().into()
}

/// What a reply belongs to.
#[derive(Clone, Copy)]
pub(super) struct ReplyTo<'a> {
    /// The `id` of a message.
    pub id: Option<Id<'a>>,
    /// That message is done once: the session remembers this reply to it.
    pub is_remembered: bool,
}

impl<'a> ReplyTo<'a> {
    /// A message that may be done again, and one without an `id`.
    pub fn message(id: Option<Id<'a>>) -> Self {
        Self { id, is_remembered: false }
    }

    /// A message that the session has accepted.
    pub fn request(id: Option<Id<'a>>) -> Self {
        Self { id, is_remembered: true }
    }
}

/// Tells a client whose messages have to wait that the server is there: perhaps a heartbeat is among them.
pub fn tell_presence(carrier: &mut impl Carrier) {
    let timestamp = carrier.timestamp();
    carrier.reply(|out| ServerMessage::HeartbeatAck { timestamp, id: None }.write(out));
}

/// Why a client does not have again what was its own.
pub(super) const LOST: &str = "session_lost";

/// Tells the client that it is not subscribed, or not any more.
pub(super) fn tell_ended(channel: &str, reason: &str, id: Option<Id<'_>>, carrier: &mut impl Carrier) {
    carrier.reply(|out| ServerMessage::SubscriptionEnded { channel, reason, id }.write(out));
}

/// Tells the client what became of its subscription. When it has too many, nothing is said, and how many it may have is returned.
pub(super) fn tell_subscribed(
    channel: &ChannelName,
    subscribed: Subscribed,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) -> Result<(), usize> {
    let channel = channel.as_str();
    let (Position { epoch, offset }, top, recovered, existing, state) = match subscribed {
        Subscribed::From { position, top, recovered, is_state } => (position, top, recovered, None, is_state),
        Subscribed::Existing { position, top, is_state } => (position, top, None, Some(true), is_state),
        Subscribed::TooMany { most } => return Err(most),
    };
    let reason = recovered.and_then(Result::err).map(Unrecovered::name);
    let recovered = recovered.map(|outcome| outcome.is_ok());
    let established = ServerMessage::SubscriptionEstablished {
        channel,
        epoch,
        offset,
        top,
        existing,
        recovered,
        reason,
        state: state.then_some(true),
        id,
    };
    carrier.reply(|out| established.write(out));
    Ok(())
}
