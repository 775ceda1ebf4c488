//! What becomes of a publication, or of a change of a state.

use super::carrier::{Carrier, Conflict, FoundEntry, Question, Unpublished};
use super::conversation::Session;
use super::memory::Remembered;
use super::replies::ReplyTo;
use super::requests::{Action, Change};
use super::resolver::Proposal;
use crate::change::{Expected, Op};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::protocol::message::{ClientMessage, Id, Kind, ServerMessage, entry_details, parse};
use crate::publication::{Content, EventName};

/// Publishes for a client, and tells it so now or when that is known. A conflict may be resolved first.
pub(super) fn publish(
    session: &mut Session,
    channel: &ChannelName,
    change: Change,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let sender = session.requests.as_ref().and_then(|requests| requests.sender.clone());
    let conflict = change.conflict.as_deref();
    let event = conflict.map(|_| EventName::RESOLVED).or_else(|| EventName::new(change.event.as_deref()?));
    let content = Content {
        data: &change.data,
        key: change.key.as_deref(),
        sender: sender.as_deref(),
        event,
        op: change.op,
        expected: change.expected,
        conflict,
    };
    let number = session.requests.as_mut().map_or(0, |requests| requests.next_number());
    // Its client builds nothing on what it has sent.
    let resolved = conflict.is_some() || (change.replaced && change.op != Op::Publish);
    match carrier.publish(channel, content, number) {
        Some(Err(error)) if error.code() == ErrorCode::StateConflict && may_be_resolved(&change) => {
            resolve(session, channel, change, id, carrier);
        }
        Some(outcome) => {
            tell_published(session, channel, change.key.as_deref(), resolved, outcome, id, carrier)
        }
        None => session.requests().wait_for_broker(number, channel, change.key, resolved, id),
    }
}

fn may_be_resolved(change: &Change) -> bool {
    change.resolver.as_ref().is_some_and(|resolver| resolver.rounds < MOST_ROUNDS)
}

/// Lets the application resolve a conflict. Later requests about the channel wait for that.
fn resolve(
    session: &mut Session,
    channel: &ChannelName,
    mut change: Change,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let (Some(resolver), Some(key)) = (&mut change.resolver, &change.key) else { return };
    resolver.rounds += 1;
    let proposal = resolver.proposal.get_or_insert_with(|| Proposal {
        data: (change.op != Op::Delete).then(|| change.data.clone()),
        expected: change.expected,
    });
    let base = if let Expected::At(base) = proposal.expected { Some(base) } else { None };
    let (message, number) = (session.acting_for, session.requests().next_number());
    let conflict = Conflict {
        number,
        rule: resolver.rule,
        channel: channel.clone(),
        params: resolver.params.clone(),
        key: key.clone(),
        proposed: proposal.data.clone(),
        expects_nothing: proposal.expected == Expected::Absent,
        found: carrier.entry(channel, key, base),
    };
    session.requests().wait_for_decision(number, channel.clone(), Action::Publish(change), id, message);
    carrier.ask(Question::Resolve(Box::new(conflict)));
}

/// Tells a client what became of it.
pub(super) fn tell_published(
    session: &mut Session,
    channel: &ChannelName,
    key: Option<&str>,
    resolved: bool,
    outcome: Result<Position, Unpublished>,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let (name, to) = (channel.as_str(), ReplyTo::request(id));
    match outcome {
        Ok(Position { epoch, offset }) => {
            let resolved = resolved.then_some(true);
            let published = ServerMessage::Published { channel: name, epoch, key, offset, resolved, id };
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

/// Answers a repeated change with which an entry was not as it had expected: with the entry as it is now.
pub(super) fn repeat_conflict(session: &mut Session, text: &str, id: Id<'_>, carrier: &mut impl Carrier) {
    // It is the same text as then.
    let Ok(ClientMessage { kind: Kind::Publish(change), .. }) = parse(text) else { return };
    let Ok(channel) = ChannelName::new(&change.channel) else { return };
    tell_conflict(session, &channel, change.key.as_deref().unwrap_or_default(), Some(id), carrier);
}

/// Tells a client that an entry is not as it has expected, and how it is.
fn tell_conflict(
    session: &mut Session,
    channel: &ChannelName,
    key: &str,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let FoundEntry { epoch, version, data, is_reader, .. } = carrier.entry(channel, key, None);
    let details = entry_details(key, epoch, version, data.as_deref().filter(|_| is_reader));
    let code = ErrorCode::StateConflict;
    let (channel, to) = (Some(channel.as_str()), ReplyTo::message(id));
    session.say_error(code.name(), code.meaning(), Some(&details), channel, to, carrier);
}

/// How often a conflict about one change is resolved, while others change the entry meanwhile.
const MOST_ROUNDS: u8 = 5;
