//! Publications and changes of states by clients, on their way to the broker and back.

use std::sync::Arc;

use crate::broker::{Found, Outcome, PublishError, change_state};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::protocol::message::entry_details;
use crate::publication::Content;
use crate::session::Unpublished;
use crate::transport::client_id::ClientId;
use crate::transport::commands::ClientCommand;
use crate::transport::connections::Connections;

/// Publishes something for a client. `None`: it is told later what became of it.
pub(crate) fn append(
    connections: &mut Connections,
    client: ClientId,
    channel: &ChannelName,
    content: Content<'_>,
    number: u64,
) -> Option<Result<Position, Unpublished>> {
    let (receipt, cost) = change_state(&*connections.shared.broker, channel, content, connections.now());
    connections.work += cost;
    if let Some(outcome) = receipt.outcome() {
        return Some(position_or_code(outcome));
    }
    let commands = Arc::clone(&connections.commands);
    receipt.when_known(move |outcome| {
        commands.push_for(client, ClientCommand::Published(number, position_or_code(outcome)));
    });
    None
}

/// What a client is told of an entry of a state. The value is for those who read the channel.
pub(crate) fn describe(
    connections: &Connections,
    channel: &ChannelName,
    key: &str,
    is_reader: bool,
) -> String {
    let found = connections.shared.broker.entry(channel, key);
    let (epoch, version) = (found.as_ref().map(|found| found.epoch), found.as_ref().and_then(Found::version));
    entry_details(key, epoch, version, found.as_ref().and_then(Found::data).filter(|_| is_reader))
}

fn position_or_code(outcome: Outcome) -> Result<Position, Unpublished> {
    outcome.map_err(|error| match error {
        PublishError::NotPublished(_) => ErrorCode::NotPublished.into(),
        PublishError::MaybePublished(_) => ErrorCode::MaybePublished.into(),
        PublishError::Refused(refusal) => Unpublished::Refused(refusal),
    })
}
