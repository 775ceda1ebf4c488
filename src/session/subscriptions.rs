//! What a client is subscribed to again that comes back.

use std::collections::HashMap;

use super::carrier::Carrier;
use super::conversation::Session;
use super::replies::{ReplyTo, tell_ended, tell_subscribed};
use super::requests::Action;
use super::resumable::{Subscription, Wanted};
use crate::channel::PRIVATE;
use crate::error_code::ErrorCode;
use crate::position::{Position, Start};
use crate::rules::Rules;

/// Subscribes a client that comes back. What its session has, it gets without a question: from the position that it names, or from
/// where the subscription began. What of that it does not name, it has no more, unless the server subscribed it. All else that it
/// names, it asks for.
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
    let mut others = Vec::new();
    for (name, start) in wanted {
        match places.get(&*name).and_then(|place: &usize| had[*place].take()) {
            Some(subscription) => restore_one(session, subscription, start, carrier),
            None => others.push((name, start)),
        }
    }
    for subscription in had.into_iter().flatten().filter(|had| had.by_server) {
        restore_one(session, subscription, None, carrier);
    }
    for (name, start) in others {
        if let Some(owner) = name.strip_prefix(PRIVATE) {
            // Its own channel begins with the first message that is sent to it.
            if owner != client_id {
                tell_ended(&name, "session_lost", None, carrier);
            }
        } else if session.requests.as_ref().is_some_and(|requests| requests.asks_to_subscribe(&name)) {
            // It is told when that is decided.
        } else if !may_ask {
            let text = "too much of this client is under way";
            let code = ErrorCode::LimitExceeded;
            session.reply_error(code, text, Some(&name), ReplyTo::message(None), carrier);
        } else {
            let action = Action::Subscribe { start: start.unwrap_or(Start::Newcomer), restart: false };
            session.request(&name, action, None, rules, carrier);
        }
    }
}

fn restore_one(session: &mut Session, had: Subscription, asked: Option<Start>, carrier: &mut impl Carrier) {
    let start = match asked {
        // It was not let in to what came before.
        Some(Start::After(Position { epoch, offset }))
            if had.by_server && epoch == had.start.epoch && offset < had.start.offset =>
        {
            None
        }
        asked => asked,
    };
    let subscribed = carrier.subscribe(&had.channel, start.unwrap_or(Start::Promised(had.start)));
    if !carrier.is_live() {
        return;
    }
    match tell_subscribed(&had.channel, subscribed, None, carrier) {
        Ok(()) => session.resumable_part().into_iter().for_each(|it| it.subscriptions.push(had.clone())),
        Err(most) => session.tell_too_many(most, &had.channel, ReplyTo::message(None), carrier),
    }
}

#[cfg(test)]
mod tests;
