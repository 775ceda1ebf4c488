//! What a client is subscribed to again that comes back.

use std::collections::HashMap;

use super::carrier::Carrier;
use super::conversation::{Session, begin_message};
use super::greeting::tell_established;
use super::replies::{LOST, ReplyTo, Terms, tell_ended};
use super::requests::Action;
use super::resumable::{Subscription, Wanted};
use crate::channel::PRIVATE;
use crate::error_code::ErrorCode;
use crate::position::Start;
use crate::rules::Rules;

/// As [`Session::come_back`].
pub(super) fn come_back(
    session: &mut Session,
    client_id: &str,
    terms: &Terms,
    wanted: Box<Wanted>,
    may_ask: bool,
    rules: &Rules,
    carrier: &mut impl Carrier,
) {
    // What it wants now counts. A question that is open is answered once, for what it wants now.
    let mut starts: HashMap<_, _> = wanted.iter().map(|(name, start)| (&**name, *start)).collect();
    let identity = session.identity.clone();
    if let Some(resumable) = session.resumable_part() {
        if let Some(former) = resumable.former.take() {
            let is_lost = |had: &mut Subscription| {
                let name = had.channel.watched().unwrap_or_else(|| had.channel.as_str());
                !had.by_server && rules.withdraw(name, &former, identity.as_deref())
            };
            for lost in resumable.subscriptions.extract_if(.., is_lost) {
                carrier.left(lost.channel.as_str());
            }
        }
        for had in &resumable.subscriptions {
            starts.remove(had.channel.as_str());
        }
    }
    let mut released = Vec::new();
    if let Some(requests) = &mut session.requests {
        released = requests.drop_subscribing(&starts, |channel| carrier.left(channel.as_str()));
    }
    tell_established(session, client_id, Some(Ok(())), terms, carrier);
    for channel in released {
        session.go_on(&channel, rules, carrier);
    }
    begin_message(session);
    restore(session, client_id, wanted, may_ask, rules, carrier);
}

/// Subscribes a client that comes back. What its session has, it gets without a question (unless the channel wants one): from the
/// position that it names, or from where the subscription began. What of that it does not name, it has no more, unless the server
/// subscribed it. All else that it names, it asks for.
pub(super) fn restore(
    session: &mut Session,
    client_id: &str,
    wanted: Box<Wanted>,
    may_ask: bool,
    rules: &Rules,
    carrier: &mut impl Carrier,
) {
    let Some(resumable) = session.resumable_part() else { return };
    let mut had: Vec<_> = std::mem::take(&mut resumable.subscriptions).into_iter().map(Some).collect();
    let places: HashMap<_, _> = had.iter().flatten().map(|it| it.channel.clone()).zip(0..).collect();
    let asked = session.requests().subscribing();
    let mut restored = Vec::new();
    let mut others = Vec::new();
    // Who is in a channel is wanted after the channel.
    let (channels, presence): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(name, _)| !name.starts_with('$'));
    for (name, start) in channels.into_iter().chain(presence) {
        match places.get(&*name).and_then(|place: &usize| had[*place].take()) {
            Some(subscription) => restored.push((subscription, start)),
            // It is told when that is decided.
            None if asked.contains(&*name) => {}
            None => others.push((name, start)),
        }
    }
    for left in had.iter().flatten().filter(|had| !had.by_server) {
        carrier.left(left.channel.as_str());
    }
    restored.extend(had.into_iter().flatten().filter(|had| had.by_server).zip(std::iter::repeat(None)));
    let (presence, restored): (Vec<_>, Vec<_>) =
        restored.into_iter().partition(|(had, _)| had.channel.watched().is_some());
    for (had, start) in restored {
        if rules.rechecks(&had.channel) {
            // However much is under way: no session has more of these questions than subscriptions.
            let channel = had.channel.clone();
            let action = Action::Restore { had, start };
            session.request(channel.as_str(), action, None, rules, carrier);
        } else {
            session.restore_one(had, start, carrier);
        }
    }
    for (name, start) in others {
        if let Some(owner) = name.strip_prefix(PRIVATE) {
            // Its own channel begins with the first message that is sent to it.
            if owner != client_id {
                tell_ended(&name, LOST, None, carrier);
            }
        } else {
            let action = Action::Subscribe { start: start.unwrap_or(Start::Newcomer), restart: false };
            ask(session, &name, action, may_ask, rules, carrier);
        }
    }
    for (had, start) in presence {
        // It waits for the decision about its channel, if there is one.
        let channel = had.channel.clone();
        session.request(channel.as_str(), Action::Restore { had, start }, None, rules, carrier);
    }
}

fn ask(
    session: &mut Session,
    channel: &str,
    action: Action,
    may_ask: bool,
    rules: &Rules,
    carrier: &mut impl Carrier,
) {
    if may_ask {
        return session.request(channel, action, None, rules, carrier);
    }
    let text = "too much of this client is under way";
    session.reply_error(ErrorCode::LimitExceeded, text, Some(channel), ReplyTo::message(None), carrier);
}

#[cfg(test)]
mod tests;
