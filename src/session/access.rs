//! Who may do what in a channel: everybody, nobody, or the application is asked.

use super::carrier::Question;
use super::requests::{Action, Change};
use super::resolver::Resolver;
use crate::change::{Expected, Op};
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::rules::{Access, Mode, Rule, Rules};

/// What the rules say of a request.
pub(super) enum Ruling {
    /// It is done.
    Allowed,
    /// It is refused, with this text.
    Refused(ErrorCode, &'static str),
    /// The application says it.
    Asked {
        /// Index of the rule that matched.
        rule: usize,
        /// The values of the parameters of its pattern.
        params: Box<[String]>,
    },
}

/// Looks for the rule of a channel, and what it says of this client.
pub(super) fn rule_on(
    channel: &ChannelName,
    action: &mut Action,
    client: Option<&Identity>,
    rules: &Rules,
) -> Ruling {
    let Some((rule, found, params)) = rules.find(channel.as_str()) else {
        return Ruling::Refused(ErrorCode::UnknownChannel, "there is no such channel here");
    };
    if let Action::Publish(change) = action
        && let Some(text) = misfit(change, found)
    {
        return Ruling::Refused(ErrorCode::BadMessage, text);
    }
    if let Action::Publish(change) = action
        && found.resolves
        && change.resolve
        && change.op != Op::Patch
    {
        let params = params.iter().map(|&param| param.to_owned()).collect();
        change.resolver = Some(Box::new(Resolver { rule, params, rounds: 0, proposal: None }));
    }
    match found.access(action.wish(), channel.as_str(), client) {
        Access::Open => Ruling::Allowed,
        Access::No => {
            let text = match action {
                _ if found.claims => "the claims of this client do not name this channel",
                Action::Publish(_) => "clients may not publish to this channel",
                _ => "nobody may subscribe to this channel",
            };
            Ruling::Refused(ErrorCode::NotAllowed, text)
        }
        Access::Ask => Ruling::Asked { rule, params: params.into_iter().map(str::to_owned).collect() },
    }
}

/// Why something can't be published in a channel of this rule, whoever wants to.
fn misfit(change: &Change, rule: &Rule) -> Option<&'static str> {
    let Change { op, key, expected, .. } = change;
    if rule.mode != Mode::State {
        let is_plain = *op == Op::Publish && *expected == Expected::Any;
        return (!is_plain).then_some("this channel has no state: it has no entries and no versions");
    }
    match expected {
        _ if key.is_none() => Some("what is published to a state channel has a key"),
        Expected::Any if (rule.versions || rule.resolves) && *op != Op::Patch => {
            Some("in this channel a change names the version that it replaces: ifVersion, 0 where nothing is")
        }
        _ => None,
    }
}

/// What the application is asked about a request.
pub(super) fn question(
    number: u64,
    rule: usize,
    params: Box<[String]>,
    channel: ChannelName,
    action: &Action,
) -> Question {
    match action {
        Action::Publish(Change { op, data, key, elements, .. }) => {
            let (op, data, key, elements) = (*op, data.clone(), key.clone(), *elements);
            Question::Publish { number, rule, channel, params, op, data, key, elements }
        }
        _ => Question::Subscribe { number, rule, channel, params },
    }
}
