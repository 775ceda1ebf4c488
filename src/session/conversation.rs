//! The conversation itself: what becomes of each message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::access::{Ruling, question, rule_on};
use super::carrier::{Carrier, Decision, Question};
use super::credentials::somebody;
use super::limits::{ErrorLimit, RateLimit};
use super::presence::{end_presence, present, rule_on_presence};
use super::replies::{ReplyTo, tell_ended};
use super::requests::{Action, Request, Requests};
use super::resumable::{Claim, Proof, Resumable, Secret, Verdict};
use crate::change::{Expected, Op};
use crate::channel::{ChannelName, NAME_BYTES};
use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::protocol::message::{Id, Kind, ServerMessage, parse};
use crate::rules::Rules;

/// One client's conversation.
#[derive(Debug, Default)]
pub struct Session {
    pub(super) errors: ErrorLimit,
    rate: RateLimit,
    /// Messages of the client so far.
    heard: u32,
    /// The one that is acted on.
    pub(super) acting_for: u32,
    /// Messages that a message stood for and that were not counted yet.
    more_messages: u32,
    /// Requests that may be unanswered, once the client was greeted.
    pub(super) unanswered: u16,
    /// Its client may come back when its connection has ended.
    pub lasts: bool,
    /// Who its client is. `None`: it is anonymous, or was not let in.
    pub identity: Option<Arc<Identity>>,
    /// The client of a stream wants to see heartbeats.
    pub(super) sees_heartbeats: bool,
    /// Made when the first request has an `id` or has to wait, updates name the client, or the client may come back.
    pub(super) requests: Option<Box<Requests>>,
}

impl Session {
    /// A session that lasts when its connection ends. Until its client is let in, nobody may come back to it.
    ///
    /// `credential` is a hash of the application's token by which the client is let in. Without a secret the session ends with its
    /// connection, too.
    pub fn resumable(secret: Option<Secret>, credential: Option<u64>) -> Self {
        let mut session = Self::default();
        session.requests().resumable = Some(Resumable::new(secret, credential));
        session
    }

    /// Takes the session out of its connection for a while. What stands in for it says only whether the session lasts.
    pub fn lend(&mut self) -> Self {
        let stand_in = Self { lasts: self.lasts, ..Self::default() };
        std::mem::replace(self, stand_in)
    }

    pub(super) fn resumable_part(&mut self) -> Option<&mut Resumable> {
        self.requests.as_mut()?.resumable.as_mut()
    }

    /// Whether its client could come back with its next connection. `true` while it is lent.
    pub fn lives(&self, lifetime: Duration, now: Moment) -> bool {
        let resumable = self.requests.as_ref().and_then(|requests| requests.resumable.as_ref());
        resumable.is_none_or(|it| it.lives(lifetime, now))
    }

    /// Whose session it is, if its client may come back: the subject, or for an anonymous client its address. `None` while it is lent.
    pub fn owner(&self) -> Option<Arc<str>> {
        let resumable = self.requests.as_ref().and_then(|requests| requests.resumable.as_ref());
        resumable.filter(|it| it.lasts()).map(|it| Arc::clone(&it.owner))
    }

    /// What a client is subscribed to that may come back.
    pub fn subscriptions(&self) -> impl Iterator<Item = &ChannelName> {
        let resumable = self.requests.as_ref().and_then(|requests| requests.resumable.as_ref());
        resumable.into_iter().flat_map(|it| &it.subscriptions).map(|it| &it.channel)
    }

    /// Judges a claim to this session. A claim that is accepted counts from then on.
    /// `today` is milliseconds of Unix time.
    pub fn judge(&mut self, claim: &Claim<'_>, lifetime: Duration, now: Moment, today: u64) -> Verdict {
        let (lives, identity) = (self.lives(lifetime, now), self.identity.clone());
        let Some(resumable) = self.resumable_part() else { return Verdict::Unknown };
        let verdict = resumable.judge(claim, identity.as_deref(), lives, today);
        if let (Verdict::Accepted, Proof::Identity { identity: now, .. }) = (verdict, claim.proof) {
            resumable.former = identity;
            self.identity = somebody(now);
        }
        verdict
    }

    /// Whether the session wants to hear more of its client.
    pub fn listens(&self, now: Moment) -> bool {
        self.requests.as_ref().is_none_or(|requests| !requests.is_full()) && self.quiet_until() <= now
    }

    /// Until when the session does not want to hear more, because the client has made too many errors. That may be over.
    pub fn quiet_until(&self) -> Moment {
        self.errors.quiet_until()
    }

    /// Bytes that are kept of the client's messages for requests that wait, and bytes of the answers that are remembered.
    pub fn kept_bytes(&self) -> (usize, usize) {
        let Some(requests) = &self.requests else { return (0, 0) };
        let remembered = requests.memory.as_ref().map_or(0, |memory| memory.bytes());
        (requests.waiting_bytes(), remembered)
    }

    /// Forgets all answers. Requests that are repeated are still not done again.
    pub fn forget_answers(&mut self) {
        if let Some(memory) = self.requests.as_mut().and_then(|requests| requests.memory.as_mut()) {
            memory.forget_answers();
        }
    }

    /// Counts messages and pings. A message about several channels counts as one for each. Returns `false` when there are more than
    /// `per_second` for longer than a burst.
    pub fn is_in_pace(&mut self, count: u32, per_second: u32, now: Moment) -> bool {
        let count = count.saturating_add(std::mem::take(&mut self.more_messages));
        self.rate.allows(count, per_second, MESSAGES_BURST, now)
    }

    /// Acts on one message of the client. Returns what that cost, beside reading the text, in bytes that could have been read.
    pub fn receive(&mut self, text: &str, rules: &Rules, carrier: &mut impl Carrier) -> usize {
        begin_message(self);
        let message = match parse(text) {
            Ok(message) => message,
            Err(error) => {
                let to = ReplyTo::message(error.id());
                self.reply_error(error.code(), &error.to_string(), None, to, carrier);
                // It may have been read to its end.
                return text.len();
            }
        };
        let (id, elements) = (message.id, message.elements);
        let mut cost = elements as usize * COST_OF_AN_ELEMENT;
        if matches!(message.kind, Kind::Publish(_) | Kind::Application { .. })
            && let Some(more) = id.and_then(|id| self.repeat(id, text, carrier))
        {
            return cost + more;
        }
        match message.kind {
            Kind::Heartbeat => {
                let timestamp = carrier.timestamp();
                carrier.reply(|out| ServerMessage::HeartbeatAck { timestamp, id }.write(out));
            }
            Kind::Subscribe { channels, start, restart } => {
                cost += count_channels(channels.len(), &mut self.more_messages);
                for channel in channels {
                    self.request(&channel, Action::Subscribe { start, restart }, id, rules, carrier);
                }
            }
            Kind::Unsubscribe { channels } => {
                cost += count_channels(channels.len(), &mut self.more_messages);
                carrier.catch_up();
                for channel in channels {
                    self.request(&channel, Action::Unsubscribe, id, rules, carrier);
                }
            }
            Kind::Publish(publish) => {
                let channel = publish.channel.clone();
                self.request(&channel, Action::publish(publish, elements), id, rules, carrier);
            }
            Kind::Presence { channel, change } => {
                self.request(&channel, Action::Present(change), id, rules, carrier);
            }
            Kind::Authenticate { token, .. } => self.renew(token.as_deref(), id, rules, carrier),
            Kind::Resume(_) => {
                let text = "only the first message can be resume (subprotocol umbel.v1.first)";
                self.reply_error(ErrorCode::BadMessage, text, None, ReplyTo::message(id), carrier);
            }
            Kind::Application { message_type } => carrier.ask(Question::Message {
                message_type: message_type.into_owned(),
                id: id.map(|id| id.as_json().to_owned()),
                text: Bytes::copy_from_slice(text.as_bytes()),
                elements,
            }),
        }
        cost
    }

    /// Acts on the application's decision about the question of this number. A question that is not open is ignored.
    pub fn decide(&mut self, number: u64, decision: Decision, rules: &Rules, carrier: &mut impl Carrier) {
        let decided = self.requests.as_mut().and_then(|requests| requests.take_decided(number));
        let Some(Request { id, channel, mut action, message, .. }) = decided else { return };
        self.acting_for = message;
        let id = id.as_deref().and_then(Id::from_json);
        match decision {
            Decision::Deny { .. } | Decision::Reject { .. } if matches!(action, Action::Restore { .. }) => {
                tell_ended(channel.as_str(), "not_allowed", None, carrier);
                carrier.left(channel.as_str());
            }
            Decision::Allow => self.perform(&channel, action, id, carrier),
            Decision::Publish(data) => {
                if let Action::Publish(change) = &mut action {
                    (change.data, change.replaced) = (data, true);
                }
                self.perform(&channel, action, id, carrier);
            }
            Decision::Resolve { version, data, conflict } => {
                if let Action::Publish(change) = &mut action {
                    change.op = if data.is_some() { Op::Set } else { Op::Delete };
                    change.data = data.unwrap_or_default();
                    change.expected = version.map_or(Expected::Absent, Expected::At);
                    change.conflict = Some(conflict);
                }
                self.perform(&channel, action, id, carrier);
            }
            Decision::Reject { code, message, details } => {
                let (channel, to) = (Some(channel.as_str()), action.reply_to(id));
                self.say_error(&code, &message, details.as_deref(), channel, to, carrier);
            }
            Decision::Deny { code, message } => {
                self.reply_error(code, &message, Some(channel.as_str()), action.reply_to(id), carrier);
            }
        }
        self.go_on(&channel, rules, carrier);
    }

    /// Counts the message that is acted on, once, however many errors it leads to. Too many that can't be read end the
    /// conversation: their client does not speak this protocol.
    pub(super) fn blame(&mut self, code: ErrorCode, carrier: &mut impl Carrier) {
        let message = self.acting_for;
        if !carrier.is_live() || !self.requests().note_blamed(message) {
            return;
        }
        let now = carrier.now();
        self.errors.count(now);
        if code == ErrorCode::BadMessage && self.quiet_until() > now {
            carrier.close(CloseReason::TooManyErrors);
        }
    }

    /// Carries out a request about one channel, after all earlier requests about it. Otherwise a publication could overtake
    /// the subscription that is to get it, while the application decides about that subscription.
    pub(super) fn request(
        &mut self,
        channel: &str,
        mut action: Action,
        id: Option<Id<'_>>,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        if !carrier.is_live() {
            return;
        }
        let named = match action {
            Action::Publish { .. } | Action::History { .. } | Action::Present(_) => ChannelName::new(channel),
            Action::Subscribe { .. } | Action::Restore { .. } | Action::Unsubscribe => {
                ChannelName::readable(channel)
            }
        };
        let name = match named {
            Ok(name) => name,
            Err(error) => {
                let channel = (channel.len() <= NAME_BYTES).then_some(channel);
                let to = action.reply_to(id);
                return self.reply_error(ErrorCode::BadChannel, &error.to_string(), channel, to, carrier);
            }
        };
        if let Some(requests) = self.requests.as_mut().filter(|requests| requests.waits_for(&name)) {
            return requests.wait_for_earlier(name, action, id, self.acting_for);
        }
        match action {
            Action::Unsubscribe | Action::Present(_) => self.perform(&name, action, id, carrier),
            Action::Subscribe { start, restart: true } if self.restart(&name, start, id, carrier) => {}
            _ => match name.watched().map_or_else(
                || rule_on(&name, &mut action, self.identity.as_deref(), rules),
                |watched| rule_on_presence(watched, rules, carrier),
            ) {
                Ruling::Allowed => self.perform(&name, action, id, carrier),
                Ruling::Refused(..) if matches!(action, Action::Restore { .. }) => {
                    tell_ended(channel, "not_allowed", None, carrier);
                }
                Ruling::Refused(code, text) => {
                    self.reply_error(code, text, Some(name.as_str()), action.reply_to(id), carrier);
                }
                Ruling::Asked { rule, params } => {
                    let message = self.acting_for;
                    let number = self.requests().next_number();
                    let question = question(number, rule, params, name.clone(), &action);
                    self.requests().wait_for_decision(number, name, action, id, message);
                    carrier.ask(question);
                }
            },
        }
    }

    /// Does what was allowed. The caller lets a client catch up before it unsubscribes.
    pub(super) fn perform(
        &mut self,
        channel: &ChannelName,
        action: Action,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        let name = channel.as_str();
        match action {
            // The application may have subscribed the client while it was asked.
            Action::Subscribe { start, restart: true } if self.restart(channel, start, id, carrier) => {}
            Action::Subscribe { start, .. } => {
                if let Err(most) = self.subscribe(channel, start, false, id, carrier) {
                    self.tell_too_many(most, channel, ReplyTo::message(id), carrier);
                    self.blame(ErrorCode::LimitExceeded, carrier);
                }
            }
            Action::Restore { had, start } => self.restore_one(had, start, carrier),
            Action::Unsubscribe if self.unsubscribe(name, carrier) => {
                tell_ended(name, "unsubscribed", id, carrier);
                end_presence(self.resumable_part(), channel, "unsubscribed", carrier);
            }
            Action::Present(change) => {
                if let Err(unseen) = present(channel, &change, id, carrier) {
                    let to = ReplyTo::message(id);
                    self.reply_error(unseen.code(), &unseen.to_string(), Some(name), to, carrier);
                }
            }
            Action::Unsubscribe => {
                let text = "you are not subscribed to this channel";
                self.reply_error(ErrorCode::NotSubscribed, text, Some(name), ReplyTo::message(id), carrier);
            }
            Action::Publish(change) => self.publish(channel, change, id, carrier),
            Action::History { after, most } => carrier.tell_history(channel, after, most),
        }
    }

    /// Carries out the requests that waited for a decision about a channel, up to the next one that needs a decision.
    pub(super) fn go_on(&mut self, channel: &ChannelName, rules: &Rules, carrier: &mut impl Carrier) {
        let Some(requests) = &mut self.requests else { return };
        if requests.is_asked_about(channel) {
            return; // a conflict is to be resolved first
        }
        // Those after it wait again.
        for Request { id, action, message, channel, .. } in requests.take_channel(channel) {
            self.acting_for = message;
            if matches!(action, Action::Unsubscribe) {
                // It gets what the requests before this one have published.
                carrier.catch_up();
            }
            self.request(channel.as_str(), action, id.as_deref().and_then(Id::from_json), rules, carrier);
        }
    }

    pub(super) fn requests(&mut self) -> &mut Requests {
        self.requests.get_or_insert_default()
    }
}

/// What is done next is done for another message of the client.
pub(super) fn begin_message(session: &mut Session) {
    session.heard = session.heard.wrapping_add(1);
    session.acting_for = session.heard;
}

/// Counts the channels of one message as messages. Returns what they cost.
fn count_channels(count: usize, more_messages: &mut u32) -> usize {
    *more_messages = more_messages.saturating_add(count as u32 - 1);
    count * COST_OF_A_CHANNEL
}

/// What a client may say at once is what it may say in this time.
const MESSAGES_BURST: Duration = Duration::from_secs(5);

/// What a value or key of JSON costs, in bytes that are read: 4 ns, and 1 ns for a byte, measured with `{}` × 349,000.
pub(super) const COST_OF_AN_ELEMENT: usize = 4;

/// What a subscription or its end costs, in bytes that are read.
const COST_OF_A_CHANNEL: usize = 2048;

#[cfg(test)]
pub(super) mod tests;
