//! Who is in a channel: what connections and sessions tell of it, and what the application is told.

use crate::channel::ChannelName;
use crate::presence::{Advanced, Gathered, Now, Plan, Presented};
use crate::protocol::message::PresenceChange;
use crate::rules::{Presence, Rule};
use crate::session::{Question, Unseen};
use crate::transport::client_id::ClientId;
use crate::transport::connections::Connections;
use crate::transport::events::{Event, Level};
use crate::transport::shared::Shared;

/// A client is subscribed to a channel, or is again. Returns a question if the application has to say who it is for others.
pub(super) fn join(
    shared: &Shared,
    client: ClientId,
    channel: &ChannelName,
    subject: &str,
) -> Option<Question> {
    let (rule, found, _) = shared.rules.find_presence(channel.as_str())?;
    let subject = Some(subject).filter(|_| !found.presence_asks);
    let id = shared.member_id(client);
    let number = shared.presence.join(channel, id, subject, plan_of(found), now(shared))?;
    Some(Question::Presence { number, rule, channel: channel.clone() })
}

/// Somebody is about to read a channel: perhaps that which says who is in another one.
pub(super) fn open(shared: &Shared, channel: &ChannelName) {
    if let Some(watched) = channel.watched()
        && let Some((_, rule, _)) = shared.rules.find_presence(watched)
        && let Ok(watched) = ChannelName::new(watched)
    {
        shared.presence.open(&watched, plan_of(rule), now(shared));
    }
}

/// A client is not subscribed to a channel any more.
pub(super) fn leave(shared: &Shared, client: ClientId, channel: &str) {
    if shared.presence.is_used()
        && let Ok(channel) = ChannelName::new(channel)
    {
        shared.presence.leave(&channel, shared.member_id(client), now(shared));
    }
}

/// A client says something of itself.
pub(super) fn change(
    shared: &Shared,
    client: ClientId,
    channel: &ChannelName,
    change: &PresenceChange,
) -> Result<(), Unseen> {
    if shared.rules.find_presence(channel.as_str()).is_none() {
        return Err(Unseen::NotTold);
    }
    match shared.presence.change(channel, shared.member_id(client), change, now(shared)) {
        Presented::Done => Ok(()),
        Presented::NotHere => Err(Unseen::NotSubscribed),
        Presented::Hidden => Err(Unseen::Hidden),
    }
}

/// A session has lost its connection, and may get another one.
pub(super) fn cut(shared: &Shared, client: ClientId) {
    if shared.presence.is_used() {
        shared.presence.cut(shared.member_id(client), now(shared));
    }
}

/// A session is over.
pub(super) fn end(shared: &Shared, client: ClientId) {
    if shared.presence.is_used() {
        shared.presence.end(shared.member_id(client), now(shared));
    }
}

/// Tells what is due to be told. The first shard does it for all.
pub(super) fn advance(connections: &mut Connections) {
    if connections.index > 0 {
        return;
    }
    let Connections { shared, unlisted, sockets, .. } = connections;
    let Advanced { gathered, counted } = shared.presence.advance(now(shared));
    tell(shared, gathered);
    counted.iter().for_each(|_| unlisted.note());
    if let Some((channel, refusal)) = counted.last()
        && let Some(count) = unlisted.due(sockets.now)
    {
        let name = channel.as_str();
        let text = "channels whose members are counted, because a list of them found no room";
        shared.log(Level::Warning, format!("{text}: {count}, the last one {name:?}: {refusal}"));
    }
}

/// Tells what was not told yet, after the end of all sessions.
pub(super) fn tell_last(shared: &Shared) {
    tell(shared, shared.presence.last());
}

fn tell(shared: &Shared, gathered: Vec<Gathered>) {
    for gathered in gathered {
        if let Some((rule, _, params)) = shared.rules.find_presence(gathered.channel.as_str()) {
            let params = params.into_iter().map(str::to_owned).collect();
            shared.inbox.push(Event::Gathered { rule, params, gathered: Box::new(gathered) });
        }
    }
}

/// The time, as the application's threads ask for it, too.
pub(crate) fn now(shared: &Shared) -> Now {
    Now { moment: shared.clock.now(), millis: shared.clock.unix_millis() }
}

fn plan_of(rule: &Rule) -> Plan {
    Plan { counts: rule.presence == Presence::Count, is_told: rule.presence_told }
}
