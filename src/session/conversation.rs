//! The conversation itself: what becomes of each message.

use std::time::Duration;

use bytes::Bytes;

use super::carrier::{Carrier, Decision, Question};
use super::limits::{ErrorLimit, RateLimit};
use super::requests::{Action, Request, Requests, Unconfirmed};
use crate::channel::{ChannelName, NAME_BYTES};
use crate::close::CloseReason;
use crate::error_code::{ErrorCode, Fault};
use crate::moment::Moment;
use crate::position::{Position, Subscribed};
use crate::protocol::message::{Id, Kind, ServerMessage, parse};
use crate::rules::{Access, Rule, Rules};

/// One client's conversation.
#[derive(Debug, Default)]
pub struct Session {
    errors: ErrorLimit,
    rate: RateLimit,
    /// Made when the first request has to wait.
    requests: Option<Box<Requests>>,
}

/// What a client is told first.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    /// The id by which the application and the client know the session.
    pub client_id: &'a str,
    /// Silence after which the server pings.
    pub heartbeat: Duration,
    /// The window in which publications gather.
    pub tick: Duration,
}

impl Session {
    /// Tells the client that it was let in.
    pub fn greet(&mut self, greeting: &Greeting<'_>, carrier: &mut impl Carrier) {
        let established = ServerMessage::ConnectionEstablished {
            client_id: greeting.client_id,
            heartbeat: greeting.heartbeat.as_secs_f64().ceil() as u64,
            tick: greeting.tick.as_millis() as u64,
            reconnect_window: RECONNECT_WINDOW,
            timestamp: carrier.timestamp(),
        };
        carrier.reply(|out| established.write(out));
    }

    /// Whether the session wants to hear more of its client.
    pub fn listens(&self) -> bool {
        self.requests.as_ref().is_none_or(|requests| !requests.is_full())
    }

    /// Counts messages and pings. Returns `false` when there are more than `per_second` for longer than a burst.
    pub fn is_in_pace(&mut self, count: u32, per_second: u32, now: Moment) -> bool {
        self.rate.allows(count, per_second, MESSAGES_BURST, now)
    }

    /// Acts on one message of the client.
    pub fn receive(&mut self, text: &str, rules: &Rules, carrier: &mut impl Carrier) {
        let message = match parse(text) {
            Ok(message) => message,
            Err(error) => {
                self.reply_error(error.code(), &error.to_string(), None, error.id(), carrier);
                return;
            }
        };
        let id = message.id;
        match message.kind {
            Kind::Heartbeat => {
                let timestamp = carrier.timestamp();
                carrier.reply(|out| ServerMessage::HeartbeatAck { timestamp, id }.write(out));
            }
            Kind::Subscribe { channels, from } => {
                for channel in channels {
                    self.request(&channel, Action::Subscribe { from }, id, rules, carrier);
                }
            }
            Kind::Unsubscribe { channels } => {
                carrier.catch_up();
                for channel in channels {
                    self.request(&channel, Action::Unsubscribe, id, rules, carrier);
                }
            }
            Kind::Publish { channel, data, key } => {
                let data = Bytes::copy_from_slice(data.as_bytes());
                let action = Action::Publish { data, key: key.map(|key| key.into_owned().into()) };
                self.request(&channel, action, id, rules, carrier);
            }
            Kind::Application { message_type } => carrier.ask(Question::Message {
                message_type: message_type.into_owned(),
                id: id.map(|id| id.as_json().to_owned()),
                text: Bytes::copy_from_slice(text.as_bytes()),
            }),
        }
    }

    /// Acts on the application's decision about the question of this number. A question that is not open is ignored.
    pub fn decide(&mut self, number: u64, decision: Decision, rules: &Rules, carrier: &mut impl Carrier) {
        let decided = self.requests.as_mut().and_then(|requests| requests.take_decided(number));
        let Some(Request { id, channel, action, .. }) = decided else { return };
        let id = id.as_deref().and_then(Id::from_json);
        match decision {
            Decision::Allow => self.perform(&channel, action, id, carrier),
            Decision::Deny { code, message } => {
                self.reply_error(code, &message, Some(channel.as_str()), id, carrier);
            }
        }
        self.go_on(&channel, rules, carrier);
    }

    /// Tells the client what became of a publish that the broker had not confirmed at once.
    pub fn published(&mut self, number: u64, outcome: Result<u64, ErrorCode>, carrier: &mut impl Carrier) {
        let Some(requests) = &mut self.requests else { return };
        for Unconfirmed { id, channel, .. } in requests.take_published(number, outcome) {
            self.tell_published(&channel, outcome, id.as_deref().and_then(Id::from_json), carrier);
        }
    }

    /// Subscribes the client for the application. If there are too many subscriptions, that is not the client's fault.
    pub fn subscribe_for_application(
        &mut self,
        channel: &ChannelName,
        from: Position,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        subscribe(channel, Some(from), id, carrier);
    }

    /// Ends a subscription for the application.
    pub fn unsubscribe_for_application(&mut self, channel: &str, reason: &str, carrier: &mut impl Carrier) {
        carrier.catch_up();
        if carrier.unsubscribe(channel) {
            carrier.reply(|out| ServerMessage::SubscriptionEnded { channel, reason, id: None }.write(out));
        }
    }

    /// Lets the client read its private channel from the beginning, so that it gets the publication that opened it.
    pub fn open_private(&mut self, channel: &ChannelName, carrier: &mut impl Carrier) {
        let position = carrier.subscribe_private(channel);
        tell_subscribed(channel, position, false, None, carrier);
    }

    /// Tells the client an error, and counts it if it is the client's fault.
    pub fn reply_error(
        &mut self,
        code: ErrorCode,
        text: &str,
        channel: Option<&str>,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        tell_error(code, text, channel, id, carrier);
        if code.fault() == Fault::Client {
            self.count_error(carrier);
        }
    }

    /// Counts an error that the client was told. Too many end the conversation.
    pub fn count_error(&mut self, carrier: &mut impl Carrier) {
        if carrier.is_live() && !self.errors.allows(carrier.now()) {
            carrier.close(CloseReason::TooManyErrors);
        }
    }

    /// Carries out a request about one channel, after all earlier requests about it. Otherwise a publication could overtake
    /// the subscription that is to get it, while the application decides about that subscription.
    fn request(
        &mut self,
        channel: &str,
        action: Action,
        id: Option<Id<'_>>,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        if !carrier.is_live() {
            return;
        }
        let name = match ChannelName::new(channel) {
            Ok(name) => name,
            Err(error) => {
                let channel = (channel.len() <= NAME_BYTES).then_some(channel);
                return self.reply_error(ErrorCode::BadChannel, &error.to_string(), channel, id, carrier);
            }
        };
        if let Some(requests) = self.requests.as_mut().filter(|requests| requests.waits_for(&name)) {
            return requests.wait_for_earlier(name, action, id);
        }
        match action {
            Action::Unsubscribe => self.perform(&name, action, id, carrier),
            Action::Publish { .. } if self.is_repeated(&name, id, carrier) => {}
            _ => self.request_access(name, action, id, rules, carrier),
        }
    }

    /// Carries out a request that everybody may make, refuses one that nobody may make, or asks the application.
    fn request_access(
        &mut self,
        name: ChannelName,
        action: Action,
        id: Option<Id<'_>>,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        let channel = name.as_str();
        let Some((rule, found, params)) = rules.find(channel) else {
            let text = "there is no such channel here";
            return self.reply_error(ErrorCode::UnknownChannel, text, Some(channel), id, carrier);
        };
        match access(found, &action) {
            Access::Open => self.perform(&name, action, id, carrier),
            Access::No => {
                let text = match action {
                    Action::Publish { .. } => "clients may not publish to this channel",
                    _ => "nobody may subscribe to this channel",
                };
                self.reply_error(ErrorCode::NotAllowed, text, Some(channel), id, carrier);
            }
            Access::Ask => {
                let params = params.into_iter().map(str::to_owned).collect();
                let channel = channel.to_owned();
                let requests = self.requests();
                let number = requests.next_number();
                let question = match &action {
                    Action::Publish { data, key } => {
                        let (data, key) = (data.clone(), key.as_deref().map(str::to_owned));
                        Question::Publish { number, rule, channel, params, data, key }
                    }
                    _ => Question::Subscribe { number, rule, channel, params },
                };
                requests.wait_for_decision(number, name, action, id);
                carrier.ask(question);
            }
        }
    }

    /// Whether a publish was made before. Then it gets the same answer, now or when that is known.
    fn is_repeated(&mut self, channel: &ChannelName, id: Option<Id<'_>>, carrier: &mut impl Carrier) -> bool {
        let Some((id, requests)) = id.zip(self.requests.as_mut()) else { return false };
        let Some(offset) = requests.recall(id, channel) else { return requests.wait_for_same(id, channel) };
        let published = ServerMessage::Published { channel: channel.as_str(), offset, id: Some(id) };
        carrier.reply(|out| published.write(out));
        true
    }

    /// Does what was allowed. The caller lets a client catch up before it unsubscribes.
    fn perform(
        &mut self,
        channel: &ChannelName,
        action: Action,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        let name = channel.as_str();
        match action {
            Action::Subscribe { from } => {
                if !subscribe(channel, from, id, carrier) {
                    self.count_error(carrier);
                }
            }
            Action::Unsubscribe if carrier.unsubscribe(name) => {
                let ended = ServerMessage::SubscriptionEnded { channel: name, reason: "unsubscribed", id };
                carrier.reply(|out| ended.write(out));
            }
            Action::Unsubscribe => {
                let text = "you are not subscribed to this channel";
                self.reply_error(ErrorCode::NotSubscribed, text, Some(name), id, carrier);
            }
            Action::Publish { data, key } => self.publish(channel, &data, key.as_deref(), id, carrier),
        }
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        data: &[u8],
        key: Option<&str>,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        let number = self.requests.as_mut().map_or(0, |requests| requests.next_number());
        match carrier.publish(channel, data, key, number) {
            Some(outcome) => {
                if let (Some(id), Ok(offset)) = (id, outcome) {
                    self.requests().remember(id.as_json(), channel, offset);
                }
                self.tell_published(channel, outcome, id, carrier);
            }
            None => self.requests().wait_for_broker(number, channel, id),
        }
    }

    fn tell_published(
        &mut self,
        channel: &ChannelName,
        outcome: Result<u64, ErrorCode>,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        let channel = channel.as_str();
        match outcome {
            Ok(offset) => carrier.reply(|out| ServerMessage::Published { channel, offset, id }.write(out)),
            Err(code) => self.reply_error(code, code.meaning(), Some(channel), id, carrier),
        }
    }

    /// Carries out the requests that waited for a decision about a channel, up to the next one that needs a decision.
    fn go_on(&mut self, channel: &ChannelName, rules: &Rules, carrier: &mut impl Carrier) {
        let Some(requests) = &mut self.requests else { return };
        // Those after it wait again.
        for Request { id, action, .. } in requests.take_channel(channel) {
            if matches!(action, Action::Unsubscribe) {
                // It gets what the requests before this one have published.
                carrier.catch_up();
            }
            self.request(channel.as_str(), action, id.as_deref().and_then(Id::from_json), rules, carrier);
        }
    }

    fn requests(&mut self) -> &mut Requests {
        self.requests.get_or_insert_default()
    }
}

fn access(rule: &Rule, action: &Action) -> Access {
    if matches!(action, Action::Publish { .. }) { rule.publish } else { rule.subscribe }
}

/// Subscribes the client and tells it so. Returns `false` when it has too many subscriptions.
fn subscribe(
    channel: &ChannelName,
    from: Option<Position>,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) -> bool {
    match carrier.subscribe(channel, from) {
        Subscribed::From { position, recovered } => {
            tell_subscribed(channel, position, recovered, id, carrier);
        }
        Subscribed::Already { position } => tell_subscribed(channel, position, false, id, carrier),
        Subscribed::TooMany { most } => {
            let text = format!("at most {most} subscriptions");
            tell_error(ErrorCode::LimitExceeded, &text, Some(channel.as_str()), id, carrier);
            return false;
        }
    }
    true
}

fn tell_subscribed(
    channel: &ChannelName,
    position: Position,
    recovered: bool,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let (channel, Position { epoch, offset }) = (channel.as_str(), position);
    let established = ServerMessage::SubscriptionEstablished { channel, epoch, offset, recovered, id };
    carrier.reply(|out| established.write(out));
}

/// Tells the client an error without counting it.
fn tell_error(
    code: ErrorCode,
    text: &str,
    channel: Option<&str>,
    id: Option<Id<'_>>,
    carrier: &mut impl Carrier,
) {
    let timestamp = carrier.timestamp();
    let error = ServerMessage::Error { code: code.name(), message: text, channel, id, timestamp };
    carrier.reply(|out| error.write(out));
}

/// What a client may say at once is what it may say in this time.
const MESSAGES_BURST: Duration = Duration::from_secs(5);

/// In milliseconds. A client that loses its connection without a word should come back at a random moment within this time.
const RECONNECT_WINDOW: u64 = 2000;

#[cfg(test)]
mod tests;
