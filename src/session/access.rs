//! Who may do what in a channel: everybody, nobody, or the application is asked.

use super::carrier::Question;
use super::requests::Action;
use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::rules::{Access, Mode, Rules};

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
    action: &Action,
    client: Option<&Identity>,
    rules: &Rules,
) -> Ruling {
    let Some((rule, found, params)) = rules.find(channel.as_str()) else {
        return Ruling::Refused(ErrorCode::UnknownChannel, "there is no such channel here");
    };
    if found.mode == Mode::State && matches!(action, Action::Publish { key: None, .. }) {
        return Ruling::Refused(ErrorCode::BadMessage, "what is published to a state channel has a key");
    }
    match found.access(action.wish(), channel.as_str(), client) {
        Access::Open => Ruling::Allowed,
        Access::No => {
            let text = match action {
                _ if found.claims => "the claims of this client do not name this channel",
                Action::Publish { .. } => "clients may not publish to this channel",
                _ => "nobody may subscribe to this channel",
            };
            Ruling::Refused(ErrorCode::NotAllowed, text)
        }
        Access::Ask => Ruling::Asked { rule, params: params.into_iter().map(str::to_owned).collect() },
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
        Action::Publish { data, key, elements, .. } => {
            let (data, key, elements) = (data.clone(), key.clone(), *elements);
            Question::Publish { number, rule, channel, params, data, key, elements }
        }
        _ => Question::Subscribe { number, rule, channel, params },
    }
}
