//! What becomes of a publication, or of a change of a state.

use super::carrier::{Carrier, Unpublished};
use super::conversation::Session;
use super::memory::Remembered;
use super::replies::ReplyTo;
use super::requests::Change;
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::protocol::message::{ClientMessage, Id, Kind, ServerMessage, parse};
use crate::publication::{Content, EventName};

/// Publishes for a client, and tells it so now or when that is known.
pub(super) fn publish(
    session: &mut Session,
    channel: &ChannelName,
    change: Change,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let Change { op, data, key, event, expected, .. } = change;
    let sender = session.requests.as_ref().and_then(|requests| requests.sender.clone());
    let event = event.as_deref().and_then(EventName::new);
    let content =
        Content { data: &data, key: key.as_deref(), sender: sender.as_deref(), event, op, expected };
    let number = session.requests.as_mut().map_or(0, |requests| requests.next_number());
    match carrier.publish(channel, content, number) {
        Some(outcome) => tell_published(session, channel, key.as_deref(), outcome, id, carrier),
        None => session.requests().wait_for_broker(number, channel, key, id),
    }
}

/// Tells a client what became of it.
pub(super) fn tell_published(
    session: &mut Session,
    channel: &ChannelName,
    key: Option<&str>,
    outcome: Result<Position, Unpublished>,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let (name, to) = (channel.as_str(), ReplyTo::request(id));
    match outcome {
        Ok(Position { epoch, offset }) => {
            let published = ServerMessage::Published { channel: name, epoch, key, offset, id };
            session.say(to, carrier, |out| published.write(out));
        }
        Err(error) if error.code() == ErrorCode::StateConflict => {
            if let Some((memory, id)) = session.memory_of(to) {
                let Some(request) = memory.end(id) else { return };
                memory.remember(request, Remembered::Conflict);
            }
            tell_conflict(session, channel, key.unwrap_or_default(), id, carrier);
        }
        Err(error) => session.reply_error(error.code(), &error.to_string(), Some(name), to, carrier),
    }
}

/// Answers a repeated change with which an entry was not as it had expected: with the entry as it is now. Returns what that cost.
pub(super) fn repeat_conflict(
    session: &mut Session,
    text: &str,
    id: Id<'_>,
    carrier: &mut impl Carrier,
) -> usize {
    // It is the same text as then.
    let Ok(ClientMessage { kind: Kind::Publish(change), .. }) = parse(text) else { return text.len() };
    let Ok(channel) = ChannelName::new(&change.channel) else { return text.len() };
    let key = change.key.as_deref().unwrap_or_default();
    text.len() + tell_conflict(session, &channel, key, Some(id), carrier)
}

/// Tells a client that an entry is not as it has expected, and how it is. Returns what that cost.
fn tell_conflict(
    session: &mut Session,
    channel: &ChannelName,
    key: &str,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) -> usize {
    let (code, details) = (ErrorCode::StateConflict, carrier.describe_entry(channel, key));
    let (channel, to) = (Some(channel.as_str()), ReplyTo::message(id));
    session.say_error(code.name(), code.meaning(), Some(&details), channel, to, carrier);
    details.len()
}
