//! What a session answers, and what of it is remembered.

use std::sync::Arc;

use super::carrier::{Answer, Carrier, Unpublished};
use super::changes::{publish, repeat_conflict, tell_published};
use super::conversation::Session;
use super::credentials::{Refusal, renewed, somebody, withdrawn};
use super::greeting::tell_established;
use super::memory::{Memory, Recalled, Remembered, UNANSWERED, unanswered};
use super::presence::{end_presence, join};
use super::replies::{LOST, Newcomer, ReplyTo, Terms, sender, tell_ended, tell_subscribed};
use super::requests::{Change, Unconfirmed};
use super::resumable::{Resumable, Subscription, Wanted};
use super::runs::join_run;
use super::subscriptions::{come_back, restore};
use crate::channel::ChannelName;
use crate::error_code::{ErrorCode, Fault};
use crate::position::{Position, Start, Subscribed};
use crate::protocol::message::{Id, ServerMessage, write_result};
use crate::rules::Rules;

impl Session {
    /// Tells the client that it was let in, and as whom. One that has `lost` another session is told why, and subscribed to what it
    /// wants.
    pub fn greet(
        &mut self,
        newcomer: &Newcomer<'_>,
        lost: Option<(&str, Box<Wanted>)>,
        terms: &Terms,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        let Newcomer { client_id, identity, .. } = *newcomer;
        self.identity = somebody(identity);
        self.unanswered = unanswered(terms.under_way) as u16;
        if terms.tell_senders {
            self.requests().sender = Some(sender(client_id, &identity.subject));
        }
        if let Some(resumable) = self.resumable_part() {
            resumable.begin(newcomer, carrier.now());
            self.lasts = resumable.lasts();
        }
        let outcome = lost.as_ref().map(|(reason, _)| Err(*reason));
        tell_established(self, client_id, outcome, terms, carrier);
        if let Some((_, wanted)) = lost {
            restore(self, client_id, wanted, true, rules, carrier);
        }
    }

    /// Goes on with a client that has come back, and wants to be subscribed to these channels. While it has as much under way as it
    /// may have, it may not ask for others than it had.
    pub fn come_back(
        &mut self,
        client_id: &str,
        terms: &Terms,
        wanted: Box<Wanted>,
        may_ask: bool,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        come_back(self, client_id, terms, wanted, may_ask, rules, carrier);
    }

    /// Acts on a request with an `id` if that is not new, and returns what this cost. `None`: the request is to be done.
    pub(super) fn repeat(&mut self, id: Id<'_>, text: &str, carrier: &mut impl Carrier) -> Option<usize> {
        let most = UNANSWERED.max(self.unanswered.into());
        let memory = self.requests().memory.get_or_insert_with(|| Box::new(Memory::new(most)));
        let to = ReplyTo::message(Some(id));
        match memory.recall(id, text) {
            Recalled::New => return None,
            Recalled::Running => {}
            Recalled::Done(Remembered::Answer(answer)) => {
                carrier.reply(|out| out.extend_from_slice(answer));
                return Some(answer.len());
            }
            Recalled::Done(Remembered::Run(channel, start)) => {
                let (channel, start) = (channel.clone(), *start);
                join_run(self, &channel, start, id, carrier);
            }
            Recalled::Done(Remembered::Conflict) => {
                repeat_conflict(self, text, id, carrier);
                return Some(text.len());
            }
            Recalled::Done(Remembered::Lost) => {
                let code = ErrorCode::AnswerLost;
                self.reply_error(code, code.meaning(), None, to, carrier);
            }
            Recalled::Reused => {
                let code = ErrorCode::IdReused;
                self.reply_error(code, code.meaning(), None, to, carrier);
            }
        }
        Some(0)
    }

    /// Subscribes the client and tells it so. When it has too many subscriptions, returns how many it may have.
    pub(super) fn subscribe(
        &mut self,
        channel: &ChannelName,
        start: Start,
        by_server: bool,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) -> Result<(), usize> {
        let subscribed = carrier.subscribe(channel, start);
        if let Some(resumable) = self.resumable_part() {
            resumable.note(channel, subscribed, by_server);
        }
        join(self.identity.as_deref(), channel, subscribed, carrier);
        tell_subscribed(channel, subscribed, id, carrier)
    }

    /// Begins a subscription anew and tells the client so. Returns `false` when there is none.
    pub(super) fn restart(
        &mut self,
        channel: &ChannelName,
        start: Start,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) -> bool {
        let Some(restarted) = carrier.restart(channel.as_str(), start) else { return false };
        if let (Some(resumable), Subscribed::From { position, .. }) = (self.resumable_part(), restarted)
            && let Some(had) = resumable.subscriptions.iter_mut().find(|it| it.channel == *channel)
        {
            had.start = position;
        }
        tell_subscribed(channel, restarted, id, carrier).is_ok()
    }

    /// Subscribes the client again to what its session had, from the position that it names.
    pub(super) fn restore_one(
        &mut self,
        had: Subscription,
        start: Option<Start>,
        carrier: &mut impl Carrier,
    ) {
        let start = match start {
            // It was not let in to what came before.
            Some(Start::After(Position { epoch, offset }))
                if had.by_server && epoch == had.start.epoch && offset < had.start.offset =>
            {
                None
            }
            start => start,
        };
        let subscribed = carrier.subscribe(&had.channel, start.unwrap_or(Start::Promised(had.start)));
        if !carrier.is_live() {
            return;
        }
        if had.by_server
            && had.channel.is_run()
            && let Subscribed::From { position, .. } = subscribed
            && position.epoch != had.start.epoch
        {
            // It was forgotten meanwhile. Nothing will ever come in what has its name now.
            carrier.unsubscribe(had.channel.as_str());
            return tell_ended(had.channel.as_str(), LOST, None, carrier);
        }
        join(self.identity.as_deref(), &had.channel, subscribed, carrier);
        match tell_subscribed(&had.channel, subscribed, None, carrier) {
            Ok(()) => self.resumable_part().into_iter().for_each(|it| it.subscriptions.push(had.clone())),
            Err(most) => {
                carrier.left(had.channel.as_str());
                self.tell_too_many(most, &had.channel, ReplyTo::message(None), carrier);
            }
        }
    }

    /// Subscribes the client for the application, from a position on that was promised. Returns `false` when it has too many
    /// subscriptions, which is not its fault. With an `id` this is the answer to a request that begins a run.
    pub fn subscribe_for_application(
        &mut self,
        channel: &ChannelName,
        from: Position,
        id: Option<Id<'_>>,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) -> bool {
        let restore = self.requests.as_mut().and_then(|requests| requests.take_restore(channel));
        if let Some(request) = restore {
            // That is the decision. What the client gets begins where it stands.
            let is_asked = request.is_asked();
            self.perform(channel, request.action, None, carrier);
            if is_asked {
                self.go_on(channel, rules, carrier);
            }
        }
        if rules.use_claims() {
            // What the server has made is noted, because no renewal of credentials ends it.
            self.requests().resumable.get_or_insert_with(|| Resumable::new(None, None));
        }
        if let Err(most) = self.subscribe(channel, Start::Promised(from), true, id, carrier) {
            self.tell_too_many(most, channel, ReplyTo::request(id), carrier);
            return false;
        }
        if let Some((memory, id)) = self.memory_of(ReplyTo::request(id))
            && let Some(request) = memory.end(id)
        {
            memory.remember(request, Remembered::Run(channel.clone(), from));
        }
        true
    }

    /// Ends a subscription for the application.
    pub fn unsubscribe_for_application(
        &mut self,
        channel: &ChannelName,
        reason: &str,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        carrier.catch_up();
        let restore = self.requests.as_mut().and_then(|requests| requests.take_restore(channel));
        if self.unsubscribe(channel.as_str(), carrier) || restore.is_some() {
            tell_ended(channel.as_str(), reason, None, carrier);
            end_presence(self.resumable_part(), channel, reason, carrier);
        }
        if restore.is_some_and(|request| request.is_asked()) {
            self.go_on(channel, rules, carrier);
        }
    }

    /// Ends a subscription. Returns `false` when there was none.
    pub(super) fn unsubscribe(&mut self, channel: &str, carrier: &mut impl Carrier) -> bool {
        if let Some(resumable) = self.resumable_part() {
            resumable.subscriptions.retain(|it| it.channel.as_str() != channel);
        }
        carrier.unsubscribe(channel)
    }

    /// Tells the client what the application says.
    pub fn answer(&mut self, answer: &Answer, id: Option<Id<'_>>, carrier: &mut impl Carrier) {
        let to = ReplyTo::request(id);
        match answer {
            Answer::Result { message_type, data } => {
                let timestamp = carrier.timestamp();
                self.say(to, carrier, |out| write_result(message_type, id, data, timestamp, out));
            }
            Answer::Error { code, message, details, is_fault } => {
                self.say_error(code, message, details.as_deref(), None, to, carrier);
                if *is_fault {
                    self.errors.count(carrier.now());
                }
            }
        }
    }

    /// Takes the credentials that the client shows on an open connection. Those that do not count change nothing.
    pub(super) fn renew(
        &mut self,
        token: Option<&str>,
        id: Option<Id<'_>>,
        rules: &Rules,
        carrier: &mut impl Carrier,
    ) {
        let (identity, expires_in) = match renewed(carrier.judge_token(token, self.identity.as_ref())) {
            Ok(renewed) => renewed,
            Err(None) => {
                let message = self.acting_for;
                return self.requests().wait_to_renew(token, id, message);
            }
            Err(Some(Refusal { code, text, details, ends })) => {
                self.say_error(code.name(), text, details.as_deref(), None, ReplyTo::message(id), carrier);
                self.blame(code, carrier);
                return ends.into_iter().for_each(|reason| carrier.close(reason));
            }
        };
        let former = self.identity.replace(Arc::clone(&identity));
        let (subject, timestamp) = (&*identity.subject, carrier.timestamp());
        carrier.reply(|out| ServerMessage::Authenticated { subject, expires_in, timestamp, id }.write(out));
        let Some(former) = former else { return };
        let seats = self.resumable_part().map_or(&[][..], |it| &it.subscriptions);
        for channel in withdrawn(&former, &identity, seats, rules, carrier) {
            self.unsubscribe_for_application(&channel, "not_allowed", rules, carrier);
        }
    }

    /// Tells the client why it is not let in.
    pub fn refuse(&mut self, code: ErrorCode, text: &str, id: Option<Id<'_>>, carrier: &mut impl Carrier) {
        self.reply_error(code, text, None, ReplyTo::message(id), carrier);
    }

    /// Tells the client an error, and counts it if it is the client's fault.
    pub(super) fn reply_error(
        &mut self,
        code: ErrorCode,
        text: &str,
        channel: Option<&str>,
        to: ReplyTo<'_>,
        carrier: &mut impl Carrier,
    ) {
        self.say_error(code.name(), text, None, channel, to, carrier);
        if code.fault() == Fault::Client {
            self.blame(code, carrier);
        }
    }

    pub(super) fn tell_too_many(
        &mut self,
        most: usize,
        channel: &ChannelName,
        to: ReplyTo<'_>,
        carrier: &mut impl Carrier,
    ) {
        let text = format!("at most {most} subscriptions (max_subscriptions)");
        let code = ErrorCode::LimitExceeded.name();
        self.say_error(code, &text, None, Some(channel.as_str()), to, carrier);
    }

    /// Publishes for the client, and tells it so now or when that is known.
    pub(super) fn publish(
        &mut self,
        channel: &ChannelName,
        change: Change,
        id: Option<Id<'_>>,
        carrier: &mut impl Carrier,
    ) {
        publish(self, channel, change, id, carrier);
    }

    /// Tells the client what became of a publish that the broker had not confirmed at once.
    pub fn published(
        &mut self,
        number: u64,
        outcome: Result<Position, Unpublished>,
        carrier: &mut impl Carrier,
    ) {
        let publish = self.requests.as_mut().and_then(|requests| requests.take_published(number));
        let Some(Unconfirmed { id, channel, key, resolved, .. }) = publish else { return };
        let id = id.as_deref().and_then(Id::from_json);
        tell_published(self, &channel, key.as_deref(), resolved, outcome, id, carrier);
    }

    /// Tells the client an error without counting it. Details are one JSON text.
    pub(super) fn say_error(
        &mut self,
        code: &str,
        message: &str,
        details: Option<&str>,
        channel: Option<&str>,
        mut to: ReplyTo<'_>,
        carrier: &mut impl Carrier,
    ) {
        if code == ErrorCode::BadMessage.name()
            && let Some((memory, id)) = self.memory_of(to)
        {
            // It was accepted, and can't be read after all: the client may say it better.
            to.is_remembered = memory.end(id).is_none();
        }
        let details = details.and_then(|text| serde_json::from_str(text).ok());
        let (id, timestamp) = (to.id, carrier.timestamp());
        let error = ServerMessage::Error { code, message, channel, details, id, timestamp };
        self.say(to, carrier, |out| error.write(out));
    }

    /// Tells the client one message. What is remembered is said once: a second answer to the same request is not.
    pub(super) fn say(
        &mut self,
        to: ReplyTo<'_>,
        carrier: &mut impl Carrier,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some((memory, id)) = self.memory_of(to) else { return carrier.reply(write) };
        let Some(request) = memory.end(id) else { return };
        carrier.reply(|out| {
            let start = out.len();
            write(out);
            memory.remember(request, Remembered::Answer(out[start..].into()));
        });
    }

    /// Where the answer to a request is remembered.
    pub(super) fn memory_of<'a>(&mut self, to: ReplyTo<'a>) -> Option<(&mut Memory, Id<'a>)> {
        let id = to.id.filter(|_| to.is_remembered)?;
        Some((self.requests.as_mut()?.memory.as_deref_mut()?, id))
    }
}
