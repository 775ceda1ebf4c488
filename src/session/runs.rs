//! Requests that have begun a run.

use super::carrier::Carrier;
use super::conversation::Session;
use super::presence::join;
use super::replies::{ReplyTo, tell_subscribed};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::{Position, Start, Subscribed};
use crate::protocol::message::Id;

/// Answers a repeated request that has begun a run. The client reads the run, from its start unless it does already.
pub(super) fn join_run(
    session: &mut Session,
    channel: &ChannelName,
    start: Position,
    id: Id<'_>,
    carrier: &mut impl Carrier,
) {
    let to = ReplyTo::message(Some(id));
    let mut subscribed = carrier.subscribe(channel, Start::After(start));
    if let Subscribed::From { recovered, .. } = &mut subscribed
        // The client has asked for no position.
        && recovered.take().is_some_and(|outcome| outcome.is_err())
    {
        // Its start is forgotten, or all of it.
        carrier.unsubscribe(channel.as_str());
        return session.reply_error(
            ErrorCode::AnswerLost,
            ErrorCode::AnswerLost.meaning(),
            None,
            to,
            carrier,
        );
    }
    if let Some(resumable) = session.resumable_part() {
        resumable.note(channel, subscribed, true);
    }
    join(session.identity.as_deref(), channel, subscribed, carrier);
    if let Err(most) = tell_subscribed(channel, subscribed, to.id, carrier) {
        session.tell_too_many(most, channel, to, carrier);
    }
}
