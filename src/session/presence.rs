//! Who is in a channel: what a client may read of that, and what it says of itself.

use super::access::Ruling;
use super::carrier::{Carrier, Unseen};
use super::replies::tell_ended;
use super::resumable::Resumable;
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::position::Subscribed;
use crate::protocol::message::{Id, PresenceChange, ServerMessage};
use crate::rules::Rules;

/// What the rules say of a client that wants to read who is in a channel. The channel itself was decided before, so nobody is asked.
pub(super) fn rule_on_presence(watched: &str, rules: &Rules, carrier: &impl Carrier) -> Ruling {
    if rules.find_presence(watched).is_none() {
        return Ruling::Refused(ErrorCode::UnknownChannel, "this channel does not tell who is in it");
    }
    if !carrier.reads(watched) {
        return Ruling::Refused(ErrorCode::NotSubscribed, "subscribe to the channel itself first");
    }
    Ruling::Allowed
}

/// Takes over what a client says of itself.
pub(super) fn present(
    channel: &ChannelName,
    change: &PresenceChange,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) -> Result<(), Unseen> {
    carrier.present(channel, change)?;
    if let Some(id) = id {
        let channel = channel.as_str();
        carrier.reply(|out| ServerMessage::PresenceUpdated { channel, id }.write(out));
    }
    Ok(())
}

/// The client is a member of a channel, if it was subscribed just now.
pub(super) fn join(
    client: Option<&Identity>,
    channel: &ChannelName,
    subscribed: Subscribed,
    carrier: &mut impl Carrier,
) {
    if let Subscribed::From { .. } = subscribed
        && channel.watched().is_none()
    {
        carrier.join(channel, client.map_or("", |client| &client.subject));
    }
}

/// Who is in a channel is read no longer than the channel.
pub(super) fn end_presence(
    resumable: Option<&mut Resumable>,
    channel: &ChannelName,
    reason: &str,
    carrier: &mut impl Carrier,
) {
    let presence = ChannelName::presence_of(channel);
    if !carrier.reads(presence.as_str()) {
        return;
    }
    if let Some(resumable) = resumable {
        resumable.subscriptions.retain(|it| it.channel != presence);
    }
    if carrier.unsubscribe(presence.as_str()) {
        tell_ended(presence.as_str(), reason, None, carrier);
    }
}

#[cfg(test)]
mod tests;
