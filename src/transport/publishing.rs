//! Publications and changes of states by clients, on their way to the broker and back.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::{Outcome, PublishError, change_state};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::publication::{Content, Publication};
use crate::session::{FoundEntry, Unpublished};
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
    let (receipt, cost) =
        change_state(&*connections.shared.broker, channel.as_name(), content, connections.now());
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

/// What is found for a key of a state. A short message may ask for a long entry, so that counts as work.
pub(crate) fn find_entry(
    connections: &mut Connections,
    channel: &ChannelName,
    key: &str,
    base: Option<Position>,
    is_reader: bool,
) -> FoundEntry {
    let Some(found) = connections.shared.broker.entry(channel.as_name(), key, base) else {
        return FoundEntry::default();
    };
    connections.work += found.data().map_or(0, <[u8]>::len) + found.base.as_ref().map_or(0, Bytes::len);
    let bytes = |text: Option<&[u8]>| text.map(Bytes::copy_from_slice);
    FoundEntry {
        epoch: Some(found.epoch),
        version: found.version(),
        data: bytes(found.data()),
        sender: bytes(found.entry.as_ref().and_then(Publication::sender)),
        base: found.base,
        is_reader,
    }
}

fn position_or_code(outcome: Outcome) -> Result<Position, Unpublished> {
    outcome.map_err(|error| match error {
        PublishError::NotPublished(_) => ErrorCode::NotPublished.into(),
        PublishError::MaybePublished(_) => ErrorCode::MaybePublished.into(),
        PublishError::Refused(refusal) => Unpublished::Refused(refusal),
    })
}
