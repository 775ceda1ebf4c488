//! The first message to a client that was let in.

use super::carrier::Carrier;
use super::conversation::Session;
use super::replies::Terms;
use crate::protocol::message::{ServerMessage, SessionToken};

/// Tells a client that it was let in, and as whom. `resumed`: what became of the session that it wanted to have again.
pub(super) fn tell_established(
    session: &mut Session,
    client_id: &str,
    resumed: Option<Result<(), &str>>,
    terms: &Terms,
    carrier: &mut impl Carrier,
) {
    let token = session.resumable_part().and_then(|it| it.token(client_id));
    let session_token =
        token.as_deref().map(|token| SessionToken { token, ttl: terms.session_ttl.as_secs_f64() });
    let established = ServerMessage::ConnectionEstablished {
        client_id,
        subject: session.identity.as_ref().map(|identity| &*identity.subject),
        session: session_token,
        resumed: resumed.map(|outcome| outcome.is_ok()),
        reason: resumed.and_then(Result::err),
        heartbeat: terms.heartbeat.as_secs_f64().ceil() as u64,
        tick: terms.tick.as_millis() as u64,
        reconnect_window: terms.reconnect_window.as_millis() as u64,
        max_unanswered: session.unanswered,
        timestamp: carrier.timestamp(),
    };
    carrier.reply(|out| established.write(out));
}
