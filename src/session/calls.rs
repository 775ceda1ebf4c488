//! What a program wants that speaks HTTP: one thing after another, and each gets one reply.

use super::carrier::Carrier;
use super::conversation::{COST_OF_AN_ELEMENT, Session, begin_message};
use super::credentials::somebody;
use super::replies::{Newcomer, ReplyTo, Terms, sender};
use super::requests::Action;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::protocol::message::{Publish, parse_publication};
use crate::rights::Wish;
use crate::rules::{Access, Rule, Rules};

/// One thing that a program wants.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// To publish what this JSON text says.
    Publish(&'a str),
    /// To know what a channel still has after a position, or its newest publications.
    History {
        /// Its name, which was not checked.
        channel: &'a str,
        /// Where the program stands.
        after: Option<Position>,
        /// Publications at most.
        most: usize,
    },
}

/// Begins the session of a program that was let in. It is told nothing of that.
pub fn begin_calls(session: &mut Session, newcomer: &Newcomer<'_>, terms: &Terms) {
    session.identity = somebody(newcomer.identity);
    if terms.tell_senders {
        session.requests().sender = Some(sender(newcomer.client_id, &newcomer.identity.subject));
    }
}

/// Whether a program may certainly not publish what this JSON text says, as things are now.
pub fn is_refused(session: &Session, text: &str, rules: &Rules) -> bool {
    let Ok((Publish { channel, .. }, _)) = parse_publication(text) else { return false };
    let access = |(_, rule, _): (usize, &Rule, Vec<&str>)| {
        rule.access(Wish::Publish, &channel, session.identity.as_deref())
    };
    rules.find(&channel).is_some_and(|found| access(found) == Access::No)
}

/// Does what a program wants, or asks the application. The reply may come later: the caller waits for it. Returns what that cost, in
/// bytes that could have been read.
///
/// Errors are not counted: a program that is told one has waited for it, and asks again with another request.
pub fn make_call(session: &mut Session, call: Call<'_>, rules: &Rules, carrier: &mut impl Carrier) -> usize {
    begin_message(session);
    let mut cost = 0;
    let (channel, action) = match call {
        Call::Publish(text) => match parse_publication(text) {
            Ok((publish, elements)) => {
                cost = text.len() + elements as usize * COST_OF_AN_ELEMENT;
                (publish.channel.clone(), Action::publish(publish, elements))
            }
            Err(error) => {
                let (code, to) = (ErrorCode::BadMessage.name(), ReplyTo::message(None));
                session.say_error(code, &error.to_string(), None, None, to, carrier);
                return text.len();
            }
        },
        Call::History { channel, after, most } => (channel.into(), Action::History { after, most }),
    };
    session.request(&channel, action, None, rules, carrier);
    cost
}
