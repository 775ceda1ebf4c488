//! A session and a naive model of it, driven by a list of steps. Properties and the fuzzer make up the steps.
//!
//! The model keeps one queue of requests for each channel and works on whatever is in front. It remembers all requests with an `id`
//! and knows which of them are forgotten. It keeps where each subscription began, for a client that comes back. Session and model write down
//! what happens. After each step both have written the same, or the connection broke in it and the session has written the beginning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use umbel::channel::ChannelName;
use umbel::close::CloseReason;
use umbel::error_code::{ErrorCode, Fault};
use umbel::moment::Moment;
use umbel::position::{Epoch, Position, Start, Subscribed};
use umbel::protocol::message::{Id, MAX_CHANNELS, Timestamp};
use umbel::publication::Content;
use umbel::rules::{Access, Mode, Overrun, Presence, Replay, Rule, Rules};
use umbel::session::{
    ANSWER_BYTES, Answer, Carrier, Decision, FoundEntry, MAX_PENDING, Newcomer, Question, REMEMBERED_ERRORS,
    REMEMBERED_IDS, Secret, Session, Terms, UNANSWERED, Unpublished,
};

/// Names, and who may subscribe and publish. `None`: no rule is about it.
pub const CHANNELS: [(&str, Option<(Access, Access)>); 7] = [
    ("open", Some((Access::Open, Access::Open))),
    ("ask", Some((Access::Ask, Access::Ask))),
    ("guarded", Some((Access::Ask, Access::Open))),
    ("moderated", Some((Access::Open, Access::Ask))),
    ("closed", Some((Access::No, Access::No))),
    ("strange", None),
    ("@private", None),
];

/// JSON texts. Numbers and strings are different `id`s.
const IDS: [Option<&str>; 5] = [None, Some("1"), Some("\"1\""), Some("\"x\""), Some("-4")];

/// Choices of an `id`. Above those of [`IDS`] it is a new one.
pub const ID_CHOICES: usize = 8;

const EPOCH: Epoch = Epoch::new(1);
const MOST_SUBSCRIPTIONS: usize = 3;
const CLIENT: &str = "c7";
const TERMS: Terms = Terms {
    session_ttl: Duration::from_secs(120),
    tell_senders: false,
    reconnect_window: Duration::ZERO,
    heartbeat: Duration::ZERO,
    tick: Duration::ZERO,
    under_way: 0,
};

/// How the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirms {
    AtOnce,
    Later,
    Never,
}

/// What happens next. Channels and ids are indices.
#[derive(Clone, Debug)]
pub enum Step {
    Subscribe {
        channels: Vec<usize>,
        from: Option<u64>,
        restart: bool,
        id: usize,
    },
    Unsubscribe {
        channels: Vec<usize>,
        id: usize,
    },
    Publish {
        channel: usize,
        id: usize,
    },
    Heartbeat {
        id: usize,
    },
    OfTheApplication {
        id: usize,
    },
    /// The client says word for word what it said so many requests ago.
    Repeat {
        back: usize,
    },
    /// So many publishes, each with a new `id`.
    Burst {
        count: usize,
    },
    /// The application answers one of the messages that it was asked, and says it twice.
    Answer {
        which: usize,
        answer: HowAnswered,
    },
    Nonsense,
    /// The application decides about the open question of a channel, if there is one. It says it twice.
    Decide {
        channel: usize,
        decision: Decision,
    },
    /// The application answers a question that was never asked.
    DecideNothing,
    Broker(Confirms),
    /// The broker tells what became of one of the publishes it has not confirmed. It says it twice.
    Confirm {
        which: usize,
        outcome: Result<(), ErrorCode>,
    },
    SubscribeForApplication {
        channel: usize,
    },
    UnsubscribeForApplication {
        channel: usize,
    },
    /// The application answers with an error of the client.
    CountError,
    Wait(u64),
    /// The connection breaks in the carrier's next call, or so many calls later.
    Disconnect {
        after: u32,
    },
    /// The connection breaks while nothing happens.
    Away,
    /// The client comes back, also to a session that has another connection.
    Resume {
        wanted: Vec<(usize, Option<u64>)>,
        /// It has not as much under way as it may have.
        may_ask: bool,
    },
}

/// How the application answers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowAnswered {
    Result,
    Error,
    /// It can't read the message.
    Unreadable,
    /// With a run in a channel.
    Run {
        channel: usize,
    },
}

#[derive(Clone, Debug)]
enum Action {
    Subscribe { start: Start, restart: bool },
    Unsubscribe,
    Publish { number: u64 },
}

/// The offset at which a subscription begins, in a log that drops nothing.
fn begins(start: Start, top: u64) -> u64 {
    match start {
        Start::After(position) | Start::Promised(position) => position.offset,
        Start::Newcomer | Start::Foreign | Start::Unknown => top,
    }
}

// ---- the carrier ----

/// Carries one session, and looks at what no session may do.
#[derive(Default)]
struct World {
    now: Moment,
    /// The connection broke, or was closed.
    over: bool,
    calls_left: Option<u32>,
    /// The session waits for its client: what is said leads nowhere, what is done is done.
    away: bool,
    /// The connection broke in the middle of something, so that the model can't say what comes next.
    is_cut: bool,
    trace: Vec<String>,
    broker: Option<Confirms>,
    tops: BTreeMap<String, u64>,
    /// Up to where each subscription was served.
    subscriptions: BTreeMap<String, u64>,
    /// By channel: the session asks one question at a time about each.
    questions: BTreeMap<String, u64>,
    /// Questions that were open when the client came back. Their answers may be ignored.
    former: Vec<u64>,
    /// By what was published.
    unconfirmed: BTreeMap<u64, u64>,
    /// The `id`s of the messages that the application was asked.
    messages: Vec<Option<String>>,
    /// Numbers of questions and of publishes that are confirmed later.
    numbers: BTreeSet<u64>,
    /// The last publish of each channel.
    last: BTreeMap<String, u64>,
    /// Answers by `id`.
    answers: BTreeMap<String, i64>,
}

impl World {
    /// Every call of the carrier passes here. Returns `false` when nobody is there any more.
    fn is_there(&mut self) -> bool {
        let was_there = !self.over;
        match &mut self.calls_left {
            Some(0) => self.over = true,
            Some(left) => *left -= 1,
            None => {}
        }
        was_there
    }

    fn top(&mut self, channel: &str) -> &mut u64 {
        self.tops.entry(channel.to_owned()).or_default()
    }

    fn begin(&mut self, channel: &str, start: Start) -> Subscribed {
        let top = *self.top(channel);
        let offset = begins(start, top);
        self.subscriptions.insert(channel.to_owned(), offset);
        let recovered = matches!(start, Start::After(_)).then_some(Ok(()));
        Subscribed::From { position: Position { epoch: EPOCH, offset }, top, recovered, is_state: false }
    }

    fn note(&mut self, text: String) {
        assert!(self.is_there(), "after the end: {text}");
        self.trace.push(text);
    }

    fn number(&mut self, number: u64) -> u64 {
        assert!(self.numbers.insert(number), "the number {number} is used twice");
        number
    }
}

impl Carrier for World {
    fn now(&self) -> Moment {
        self.now
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix_millis(0)
    }

    fn is_live(&self) -> bool {
        !self.over
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::new();
        write(&mut text);
        if !self.is_there() {
            return;
        }
        let mut reply: Value = serde_json::from_slice(&text).expect("a reply is JSON");
        let fields = reply.as_object_mut().expect("a reply is an object");
        for field in ["timestamp", "message", "epoch"] {
            fields.remove(field);
        }
        if fields["type"] == "connection_established" {
            fields.retain(|field, _| field == "type" || field == "resumed");
        }
        if self.away {
            return;
        }
        if fields.contains_key("existing") {
            let offset = fields.remove("offset").and_then(|offset| offset.as_u64());
            assert_eq!(offset, self.subscriptions.get(fields["channel"].as_str().expect("a name")).copied());
        }
        if let Some(id) = fields.get("id") {
            *self.answers.entry(id.to_string()).or_default() += 1;
        }
        self.trace.push(reply.to_string());
    }

    fn catch_up(&mut self) {
        if self.is_there() {
            for (channel, position) in &mut self.subscriptions {
                *position = self.tops.get(channel).copied().unwrap_or_default();
            }
        }
    }

    fn subscribe(&mut self, channel: &ChannelName, start: Start) -> Subscribed {
        self.note(format!("subscribe {channel} {start:?}"));
        let top = *self.top(channel.as_str());
        if let Some(&offset) = self.subscriptions.get(channel.as_str()) {
            return Subscribed::Existing {
                position: Position { epoch: EPOCH, offset },
                top,
                is_state: false,
            };
        }
        if self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return Subscribed::TooMany { most: MOST_SUBSCRIPTIONS };
        }
        self.begin(channel.as_str(), start)
    }

    fn restart(&mut self, channel: &str, start: Start) -> Option<Subscribed> {
        (self.subscriptions.contains_key(channel) && !self.away).then(|| {
            self.note(format!("restart {channel} {start:?}"));
            self.begin(channel, start)
        })
    }

    fn reads(&self, channel: &str) -> bool {
        self.subscriptions.contains_key(channel)
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        if !self.is_there() {
            return false;
        }
        self.trace.push(format!("unsubscribe {channel}"));
        let position = self.subscriptions.remove(channel);
        let top = *self.top(channel);
        let is_caught_up = self.away || position.is_none_or(|position| position >= top);
        assert!(is_caught_up, "what was published before comes before");
        self.away || position.is_some()
    }

    fn entry(&mut self, _: &ChannelName, _: &str, _: Option<Position>) -> FoundEntry {
        unreachable!("no channel here has a state")
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        content: Content<'_>,
        number: u64,
    ) -> Option<Result<Position, Unpublished>> {
        let name = channel.as_str();
        let publish: u64 = serde_json::from_slice(content.data).expect("the publish has a number");
        self.note(format!("publish {name} {publish}"));
        let before = self.last.insert(name.to_owned(), publish);
        assert!(before < Some(publish), "what comes later is published later, and once");
        match self.broker {
            None | Some(Confirms::AtOnce) => {
                *self.top(name) += 1;
                Some(Ok(Position { epoch: EPOCH, offset: *self.top(name) }))
            }
            Some(Confirms::Never) => Some(Err(ErrorCode::NotPublished.into())),
            Some(Confirms::Later) => {
                let number = self.number(number);
                self.unconfirmed.insert(publish, number);
                None
            }
        }
    }

    fn ask(&mut self, question: Question) {
        let (number, what, channel) = match question {
            Question::Message { id, .. } => {
                self.note(format!("message {id:?}"));
                return self.messages.push(id);
            }
            Question::Subscribe { number, channel, .. } => (number, "subscribe".to_owned(), channel),
            Question::Presence { .. } => unreachable!("the transport asks that"),
            Question::Publish { number, channel, data, .. } => {
                (number, format!("publish {}", String::from_utf8_lossy(&data)), channel)
            }
            Question::Resolve(_) => unreachable!("no channel here has a state"),
        };
        self.note(format!("ask {channel} {what}"));
        let number = self.number(number);
        let open = self.questions.insert(channel.to_string(), number);
        assert!(open.is_none() || self.is_cut, "an earlier question is open");
        self.former.extend(open);
    }

    fn close(&mut self, reason: CloseReason) {
        self.note(format!("close {reason:?}"));
        self.over = true;
    }
}

// ---- the model ----

/// A request that is not done.
#[derive(Clone, Debug)]
struct Request {
    action: Action,
    id: Option<String>,
    message: u32,
    is_asked: bool,
    /// Which question of the session it is.
    number: u64,
}

/// A publish that the broker has not confirmed.
#[derive(Debug)]
struct Unconfirmed {
    number: u64,
    channel: String,
    id: Option<String>,
}

/// A request with an `id` that was accepted.
#[derive(Debug)]
struct Accepted {
    id: String,
    text: String,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
enum Outcome {
    /// The answer is forgotten.
    Lost,
    Running,
    Said(String),
    Run {
        channel: String,
        from: Position,
    },
}

/// A request as the client said it.
#[derive(Clone, Debug)]
struct Said {
    id: Option<String>,
    message: Value,
    /// What it publishes: the index of a channel, and a number. Otherwise it is for the application.
    publish: Option<(usize, u64)>,
}

impl Request {
    /// The `id`, if the answer is remembered.
    fn answered(&self) -> Option<&str> {
        self.id.as_deref().filter(|_| matches!(self.action, Action::Publish { .. }))
    }
}

/// A channel that the client has, or will have again when it comes back.
#[derive(Clone, Debug)]
struct Had {
    channel: String,
    /// Where the subscription began.
    offset: u64,
    by_server: bool,
}

#[derive(Default)]
struct Model {
    now: Moment,
    closed: bool,
    away: bool,
    trace: Vec<String>,
    /// What was said last, also when nobody was there.
    said: String,
    broker: Option<Confirms>,
    tops: BTreeMap<String, u64>,
    /// In the order in which they were made.
    subscriptions: Vec<Had>,
    queues: BTreeMap<String, VecDeque<Request>>,
    unconfirmed: Vec<Unconfirmed>,
    running: Vec<Accepted>,
    /// In the order of the answers.
    done: Vec<Accepted>,
    /// Messages that the application was asked, with their `id`s.
    asked: Vec<Option<String>>,
    /// Up to when the errors are paid for.
    paid: Moment,
    heard: u32,
    asks: u64,
    acting_for: u32,
    blamed: Vec<u32>,
    /// Answers that are owed, by `id`.
    owed: BTreeMap<String, i64>,
}

impl Model {
    fn waiting(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum::<usize>() + self.unconfirmed.len()
    }

    fn owe(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            *self.owed.entry(id.to_owned()).or_default() += 1;
        }
    }

    /// An answer that is owed will not come.
    fn forgive(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            *self.owed.get_mut(id).expect("it was owed") -= 1;
        }
    }

    fn has(&self, channel: &str) -> bool {
        self.subscriptions.iter().any(|had| had.channel == channel)
    }

    /// Whether a request is to be done, because it is new.
    fn accepts(&mut self, id: Option<&str>, text: &str) -> bool {
        let Some(id) = id else { return true };
        self.owe(Some(id));
        let is_it = |accepted: &Accepted| accepted.id == id;
        let index = self.done.iter().position(is_it);
        let before = self.running.iter().find(|accepted| is_it(accepted));
        let Some(before) = before.or_else(|| index.map(|index| &self.done[index])) else {
            let (id, text) = (id.to_owned(), text.to_owned());
            self.running.push(Accepted { id, text, outcome: Outcome::Running });
            return true;
        };
        let mut outcome = before.outcome.clone();
        if before.text != text {
            self.error(ErrorCode::IdReused, None, Some(id));
        } else {
            if let Some(index) = index {
                if self.done.len() - index > 2 * UNANSWERED {
                    outcome = Outcome::Lost;
                }
                // It is the newest again.
                let accepted = self.done.remove(index);
                self.done.push(Accepted { outcome: outcome.clone(), ..accepted });
            }
            match outcome {
                Outcome::Lost => self.error(ErrorCode::AnswerLost, None, Some(id)),
                // One answer for both.
                Outcome::Running => *self.owed.get_mut(id).expect("the first one is owed") -= 1,
                Outcome::Said(reply) => {
                    self.said.clone_from(&reply);
                    self.trace.push(reply);
                }
                Outcome::Run { channel, from } => {
                    // Nothing is said of the position, because the client did not ask for one.
                    let (start, told) = (Start::After(from), Start::Promised(from));
                    if !self.subscribe_and_tell(&channel, start, told, true, Some(id)) {
                        self.say_error(ErrorCode::LimitExceeded, Some(&channel), Some(id));
                    }
                }
            }
        }
        false
    }

    /// A request has its outcome. By default that is what was said last.
    fn conclude(&mut self, id: Option<&str>, outcome: Option<Outcome>) {
        let index = id.and_then(|id| self.running.iter().position(|accepted| accepted.id == id));
        let Some(index) = index else { return };
        let mut accepted = self.running.remove(index);
        let said = || Outcome::Said(self.said.clone());
        accepted.outcome = outcome.unwrap_or_else(said);
        self.done.push(accepted);
        let forgotten = self.done.len().saturating_sub(REMEMBERED_IDS);
        self.done.drain(..forgotten);
    }

    /// The application answers a message.
    fn answer(&mut self, id: Option<&str>, answer: HowAnswered) {
        match answer {
            HowAnswered::Result => {
                self.say(json!({"type": "chat_result", "data": 1}), id);
                self.conclude(id, None);
            }
            HowAnswered::Error => {
                self.say_error(ErrorCode::Timeout, None, id);
                self.conclude(id, None);
            }
            HowAnswered::Unreadable => {
                self.say_error(ErrorCode::BadMessage, None, id);
                self.running.retain(|accepted| Some(accepted.id.as_str()) != id);
            }
            HowAnswered::Run { channel } => {
                let (channel, _) = CHANNELS[channel];
                let from = Position { epoch: EPOCH, offset: self.top(channel) };
                if self.subscribe(channel, Start::Promised(from), true, id) {
                    self.conclude(id, Some(Outcome::Run { channel: channel.to_owned(), from }));
                } else {
                    self.say_error(ErrorCode::LimitExceeded, Some(channel), id);
                    self.conclude(id, None);
                }
            }
        }
    }

    fn top(&self, channel: &str) -> u64 {
        self.tops.get(channel).copied().unwrap_or_default()
    }

    fn say(&mut self, mut reply: Value, id: Option<&str>) {
        if let Some(id) = id {
            reply["id"] = serde_json::from_str(id).expect("an id is JSON");
        }
        self.said = reply.to_string();
        if self.away {
            // If it is remembered, it comes when the client repeats the request.
            self.forgive(id);
        } else {
            self.trace.push(self.said.clone());
        }
    }

    fn say_error(&mut self, code: ErrorCode, channel: Option<&str>, id: Option<&str>) {
        let mut reply = json!({"type": "error", "code": code.name()});
        if let Some(channel) = channel {
            reply["channel"] = channel.into();
        }
        self.say(reply, id);
    }

    fn error(&mut self, code: ErrorCode, channel: Option<&str>, id: Option<&str>) {
        self.say_error(code, channel, id);
        if code.fault() == Fault::Client && !self.blamed.contains(&self.acting_for) {
            self.blamed.push(self.acting_for);
            let forgotten = self.blamed.len().saturating_sub(REMEMBERED_ERRORS);
            self.blamed.drain(..forgotten);
            self.count_error();
            if code == ErrorCode::BadMessage && !self.is_patient() {
                self.trace.push("close TooManyErrors".into());
                self.closed = true;
            }
        }
    }

    fn count_error(&mut self) {
        let paid = self.paid.max(self.now) + Duration::from_millis(500);
        // Nobody is not heard for longer than five seconds.
        self.paid = paid.min(self.now + Duration::from_secs(15));
    }

    /// It has not heard too many errors.
    fn is_patient(&self) -> bool {
        self.paid.since(self.now) <= Duration::from_secs(10)
    }

    fn begin_message(&mut self) {
        self.heard += 1;
        self.acting_for = self.heard;
    }

    fn want(&mut self, channel: usize, action: Action, id: Option<&str>) {
        let (name, _) = CHANNELS[channel];
        if self.closed {
            return;
        }
        let is_publish = matches!(action, Action::Publish { .. });
        if !is_publish {
            self.owe(id);
        }
        if name.starts_with('@') {
            self.error(ErrorCode::BadChannel, Some(name), id);
            return self.conclude(id.filter(|_| is_publish), None);
        }
        let request = Request {
            action,
            id: id.map(str::to_owned),
            message: self.acting_for,
            is_asked: false,
            number: 0,
        };
        self.queues.entry(name.to_owned()).or_default().push_back(request);
        self.work(name);
    }

    /// Does what can be done about a channel now.
    fn work(&mut self, channel: &str) {
        while let Some(request) = self.queues[channel].front().cloned()
            && !request.is_asked
            && !self.closed
        {
            let Request { action, id, message, .. } = &request;
            self.acting_for = *message;
            let rule = CHANNELS.iter().find(|(name, _)| *name == channel).and_then(|(_, rule)| *rule);
            let access = rule.map(|(subscribe, publish)| match action {
                Action::Publish { .. } => publish,
                _ => subscribe,
            });
            match (action, access) {
                (Action::Unsubscribe, _) => self.unsubscribe(channel, id.as_deref()),
                (Action::Subscribe { start, restart: true }, _) if self.has(channel) && !self.away => {
                    self.restart(channel, *start, id.as_deref());
                }
                (_, None) => self.refuse(ErrorCode::UnknownChannel, channel, &request),
                (_, Some(Access::No)) => self.refuse(ErrorCode::NotAllowed, channel, &request),
                (_, Some(Access::Open)) => self.perform(channel, &request),
                (_, Some(Access::Ask)) => {
                    let what = match action {
                        Action::Publish { number } => format!("publish {number}"),
                        _ => "subscribe".into(),
                    };
                    self.trace.push(format!("ask {channel} {what}"));
                    self.asks += 1;
                    let number = self.asks;
                    let request = self.queue(channel).front_mut().expect("it is there");
                    (request.is_asked, request.number) = (true, number);
                    return;
                }
            }
            self.queue(channel).pop_front();
        }
    }

    fn queue(&mut self, channel: &str) -> &mut VecDeque<Request> {
        self.queues.get_mut(channel).expect("somebody wanted something of it")
    }

    fn refuse(&mut self, code: ErrorCode, channel: &str, request: &Request) {
        self.error(code, Some(channel), request.id.as_deref());
        self.conclude(request.answered(), None);
    }

    fn perform(&mut self, channel: &str, request: &Request) {
        match request.action {
            Action::Subscribe { start, restart: true } if self.has(channel) && !self.away => {
                self.restart(channel, start, request.id.as_deref());
            }
            Action::Subscribe { start, .. } => {
                if !self.subscribe(channel, start, false, request.id.as_deref()) {
                    self.error(ErrorCode::LimitExceeded, Some(channel), request.id.as_deref());
                }
            }
            Action::Unsubscribe => unreachable!("nobody is asked about it"),
            Action::Publish { number } => {
                self.trace.push(format!("publish {channel} {number}"));
                let (channel, id) = (channel.to_owned(), request.id.clone());
                self.unconfirmed.push(Unconfirmed { number, channel, id });
                match self.broker {
                    None | Some(Confirms::AtOnce) => self.confirm(number, Ok(())),
                    Some(Confirms::Never) => self.confirm(number, Err(ErrorCode::NotPublished)),
                    Some(Confirms::Later) => {}
                }
            }
        }
    }

    fn subscribe(&mut self, channel: &str, start: Start, by_server: bool, id: Option<&str>) -> bool {
        self.subscribe_and_tell(channel, start, start, by_server, id)
    }

    fn subscribe_and_tell(
        &mut self,
        channel: &str,
        start: Start,
        told: Start,
        by_server: bool,
        id: Option<&str>,
    ) -> bool {
        self.trace.push(format!("subscribe {channel} {start:?}"));
        if self.has(channel) {
            let (kind, top) = ("subscription_established", self.top(channel));
            self.say(json!({"type": kind, "channel": channel, "top": top, "existing": true}), id);
            return true;
        }
        if self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return false;
        }
        let offset = begins(start, self.top(channel));
        self.subscriptions.push(Had { channel: channel.to_owned(), offset, by_server });
        self.say_begun(channel, told, id);
        true
    }

    fn restart(&mut self, channel: &str, start: Start, id: Option<&str>) {
        self.trace.push(format!("restart {channel} {start:?}"));
        let offset = begins(start, self.top(channel));
        self.subscriptions
            .iter_mut()
            .filter(|had| had.channel == channel)
            .for_each(|had| had.offset = offset);
        self.say_begun(channel, start, id);
    }

    fn say_begun(&mut self, channel: &str, start: Start, id: Option<&str>) {
        let top = self.top(channel);
        let (kind, offset) = ("subscription_established", begins(start, top));
        let mut reply = json!({"type": kind, "channel": channel, "offset": offset, "top": top});
        if matches!(start, Start::After(_)) {
            reply["recovered"] = true.into();
        }
        self.say(reply, id);
    }

    fn unsubscribe(&mut self, channel: &str, id: Option<&str>) {
        self.trace.push(format!("unsubscribe {channel}"));
        if self.leave(channel) {
            let reason = "unsubscribed";
            self.say(json!({"type": "subscription_ended", "channel": channel, "reason": reason}), id);
        } else {
            self.say_error(ErrorCode::NotSubscribed, Some(channel), id);
        }
    }

    /// Ends a subscription, if there is one.
    fn leave(&mut self, channel: &str) -> bool {
        let had = self.has(channel);
        self.subscriptions.retain(|it| it.channel != channel);
        had
    }

    /// The client has another connection.
    /// Returns the channels in which nobody waits for the open question any more.
    fn resume(&mut self, wanted: &[(usize, Option<u64>)], may_ask: bool) -> Vec<String> {
        let wanted: Vec<_> = wanted.iter().map(|&(channel, offset)| (CHANNELS[channel].0, offset)).collect();
        let start = |offset: u64| Start::After(Position { epoch: EPOCH, offset });
        let others: BTreeMap<_, _> =
            wanted.iter().copied().filter(|(channel, _)| !self.has(channel)).collect();
        // What it asked for about subscriptions does not count any more. A question that is open is about what it wants now.
        let mut asked = Vec::new();
        let (mut begun, mut dropped) = (Vec::new(), Vec::new());
        let channels: Vec<_> = self.queues.keys().cloned().collect();
        for channel in channels {
            let queue = std::mem::take(self.queue(&channel));
            let is_asked = |queue: &VecDeque<Request>| queue.front().is_some_and(|first| first.is_asked);
            let was_asked = is_asked(&queue);
            let number = queue.front().map_or(0, |first| first.number);
            for mut request in queue {
                match (&request.action, others.get(channel.as_str())) {
                    (Action::Publish { .. }, _) => self.queue(&channel).push_back(request),
                    (Action::Subscribe { .. }, Some(offset)) if request.is_asked => {
                        let start = offset.map_or(Start::Newcomer, start);
                        self.forgive(request.id.take().as_deref());
                        request.action = Action::Subscribe { start, restart: false };
                        self.queue(&channel).push_back(request);
                        asked.push(channel.clone());
                    }
                    _ => self.forgive(request.id.as_deref()),
                }
            }
            if was_asked && !is_asked(self.queue(&channel)) {
                dropped.push(channel.clone());
                if !self.queue(&channel).is_empty() {
                    begun.push((number, channel));
                }
            }
        }
        self.away = false;
        self.say(json!({"type": "connection_established", "resumed": true}), None);
        // They go on in the order of the questions.
        begun.sort();
        for (_, channel) in begun {
            self.work(&channel);
        }
        self.begin_message();
        let mut had = std::mem::take(&mut self.subscriptions);
        let mut restored = Vec::new();
        let mut rest = Vec::new();
        for (channel, offset) in wanted {
            match had.iter().position(|had| had.channel == channel) {
                Some(index) => restored.push((had.remove(index), offset)),
                None if asked.iter().any(|asked| asked == channel) => {}
                None => rest.push((channel, offset)),
            }
        }
        restored.extend(had.into_iter().filter(|had| had.by_server).map(|had| (had, None)));
        for (had, offset) in restored {
            let offset = offset.filter(|&offset| !had.by_server || offset >= had.offset);
            let begun = Start::Promised(Position { epoch: EPOCH, offset: had.offset });
            let start = offset.map_or(begun, start);
            self.trace.push(format!("subscribe {} {start:?}", had.channel));
            self.say_begun(&had.channel, start, None);
            self.subscriptions.push(had);
        }
        for (channel, offset) in rest {
            let index = CHANNELS.iter().position(|(name, _)| *name == channel).expect("one of them");
            if channel.starts_with('@') {
                let (kind, reason) = ("subscription_ended", "session_lost");
                self.say(json!({"type": kind, "channel": channel, "reason": reason}), None);
            } else if may_ask {
                let start = offset.map_or(Start::Newcomer, start);
                self.want(index, Action::Subscribe { start, restart: false }, None);
            } else {
                self.error(ErrorCode::LimitExceeded, Some(channel), None);
            }
        }
        dropped
    }

    /// The application has decided about the request that is in front.
    fn decide(&mut self, channel: &str, decision: &Decision) {
        let request = self.queue(channel).pop_front().expect("a question is open");
        self.acting_for = request.message;
        match decision {
            Decision::Allow => self.perform(channel, &request),
            Decision::Publish(data) => {
                let mut request = request;
                if let Action::Publish { number } = &mut request.action {
                    *number = serde_json::from_slice(data).expect("a number");
                }
                self.perform(channel, &request);
            }
            Decision::Resolve { .. } => unreachable!("no channel here has a state"),
            Decision::Reject { code, .. } => {
                let reply = json!({"type": "error", "code": code, "channel": channel, "details": [1]});
                self.say(reply, request.id.as_deref());
                self.conclude(request.answered(), None);
            }
            Decision::Deny { code, .. } => self.refuse(*code, channel, &request),
        }
        self.work(channel);
    }

    fn confirm(&mut self, number: u64, outcome: Result<(), ErrorCode>) {
        let index = self.unconfirmed.iter().position(|publish| publish.number == number);
        let Unconfirmed { channel, id, .. } = self.unconfirmed.remove(index.expect("it waits"));
        let id = id.as_deref();
        match outcome {
            Ok(()) => {
                let offset = self.tops.entry(channel.clone()).or_default();
                *offset += 1;
                let reply = json!({"type": "published", "channel": channel, "offset": *offset});
                self.say(reply, id);
            }
            Err(code) => self.error(code, Some(&channel), id),
        }
        self.conclude(id, None);
    }
}

// ---- both ----

struct Run {
    session: Session,
    world: World,
    model: Model,
    rules: Rules,
    publishes: u64,
    /// New `id`s so far.
    new_ids: u64,
    said: Vec<Said>,
}

/// Carries the steps out, and checks what must hold whatever they are.
pub fn check(steps: &[Step]) {
    let lasts = steps.iter().any(|step| matches!(step, Step::Away | Step::Resume { .. }));
    let mut run = Run::new(lasts);
    for step in steps {
        run.step(step);
        run.compare();
        if run.world.over {
            if lasts && run.world.calls_left == Some(0) {
                run.come_back_after_a_cut();
            }
            return;
        }
    }
    run.settle();
}

impl Run {
    /// A session that `lasts` when its connection is broken, or ends with it.
    fn new(lasts: bool) -> Self {
        let rule = |pattern: &str, (subscribe, publish)| Rule {
            pattern: pattern.into(),
            subscribe,
            publish,
            history: 10,
            history_bytes: 1000,
            history_seconds: Duration::from_secs(60),
            mode: Mode::All,
            overrun: Overrun::Gap,
            compress: true,
            sender: false,
            replay: Replay::Head,
            recheck: false,
            claims: false,
            versions: false,
            resolves: false,
            max_keys: 100,
            state_bytes: 1 << 20,
            presence: Presence::No,
            presence_asks: false,
            presence_told: false,
        };
        let rules: Vec<_> =
            CHANNELS.iter().filter_map(|&(pattern, access)| Some(rule(pattern, access?))).collect();
        let mut run = Self {
            session: Session::default(),
            world: World::default(),
            model: Model::default(),
            rules: Rules::new(&rules).expect("the rules are legal"),
            publishes: 0,
            new_ids: 0,
            said: Vec::new(),
        };
        if lasts {
            run.session = Session::resumable(Some(Secret::new([7; 16])), None);
            let newcomer = Newcomer { client_id: CLIENT, identity: &Arc::default(), address: "192.0.2.1" };
            run.session.greet(&newcomer, None, &TERMS, &run.rules, &mut run.world);
            run.model.say(json!({"type": "connection_established"}), None);
        }
        run
    }

    fn come_back(&mut self, wanted: &[(usize, Option<u64>)], may_ask: bool) {
        let start = |offset| Start::After(Position { epoch: EPOCH, offset });
        let wanted = wanted.iter().map(|&(channel, offset)| (CHANNELS[channel].0.into(), offset.map(start)));
        self.world.away = false;
        self.world.subscriptions.clear();
        let wanted = wanted.collect();
        self.session.come_back(CLIENT, &TERMS, wanted, may_ask, &self.rules, &mut self.world);
    }

    /// The connection broke in the middle of something. The client comes back, the application and the broker say what they owe, and
    /// then nothing waits.
    fn come_back_after_a_cut(&mut self) {
        let world = &mut self.world;
        (world.over, world.calls_left, world.is_cut) = (false, None, true);
        let said = world.trace.len();
        self.come_back(&[(0, None), (1, Some(1)), (4, None)], true);
        let greeting = self.world.trace.get(said).expect("something is said");
        assert!(greeting.contains("connection_established"));
        self.world.broker = Some(Confirms::AtOnce);
        let answer = Answer::Result { message_type: "chat".into(), data: "1".into() };
        while !self.world.over {
            let questions = std::mem::take(&mut self.world.questions).into_values();
            let numbers: Vec<_> = questions.chain(std::mem::take(&mut self.world.former)).collect();
            for &number in &numbers {
                self.session.decide(number, Decision::Allow, &self.rules, &mut self.world);
            }
            let unconfirmed = std::mem::take(&mut self.world.unconfirmed);
            for &number in unconfirmed.values() {
                self.session.published(number, Ok(Position { epoch: EPOCH, offset: 1 }), &mut self.world);
            }
            if numbers.is_empty() && unconfirmed.is_empty() {
                break;
            }
        }
        for id in self.world.messages.clone() {
            self.session.answer(&answer, id.as_deref().and_then(Id::from_json), &mut self.world);
        }
        if !self.world.over {
            let quiet = self.world.now.max(self.session.quiet_until());
            assert!(self.session.listens(quiet), "nothing waits any more");
            let mut has: Vec<_> = self.session.subscriptions().map(ToString::to_string).collect();
            has.sort();
            assert!(has.iter().eq(self.world.subscriptions.keys()), "{has:?} {:?}", self.world.subscriptions);
        }
    }

    fn compare(&self) {
        let (world, model) = (&self.world, &self.model);
        let done = if world.over { world.trace.len().min(model.trace.len()) } else { model.trace.len() };
        assert_eq!(world.trace, model.trace[..done]);
        if !world.over {
            let (waiting, running) = (model.waiting(), model.running.len());
            let has_room = waiting < MAX_PENDING && running < UNANSWERED;
            assert_eq!(self.session.listens(world.now), has_room && model.is_patient());
            assert!(running <= UNANSWERED && self.session.kept_bytes().1 <= ANSWER_BYTES);
            assert!(waiting < MAX_PENDING + MAX_CHANNELS, "what waits is bounded");
            assert!(!model.closed);
        }
    }

    fn hear(&mut self, message: &mut Value, id: Option<&str>) {
        if let Some(id) = id {
            message["id"] = serde_json::from_str(id).expect("an id is JSON");
        }
        self.session.receive(&message.to_string(), &self.rules, &mut self.world);
    }

    fn id(&mut self, choice: usize) -> Option<String> {
        if let Some(id) = IDS.get(choice) {
            return id.map(str::to_owned);
        }
        self.new_ids += 1;
        Some((1000 + self.new_ids).to_string())
    }

    fn publish(&mut self, channel: usize, id: Option<String>) {
        self.publishes += 1;
        let (name, _) = CHANNELS[channel];
        let message = json!({"type": "publish", "channel": name, "data": self.publishes});
        self.request(Said { id, message, publish: Some((channel, self.publishes)) });
    }

    /// The client makes a request that is done once.
    fn request(&mut self, said: Said) {
        let Said { id, message, publish } = &said;
        let refused = self.model.trace.len();
        if self.model.accepts(id.as_deref(), &message.to_string()) {
            match *publish {
                Some((channel, number)) => {
                    self.model.want(channel, Action::Publish { number }, id.as_deref())
                }
                None => {
                    self.model.trace.push(format!("message {:?}", id.as_deref()));
                    self.model.asked.push(id.clone());
                }
            }
        }
        self.hear(&mut message.clone(), id.as_deref());
        // What was refused might be new when it is said again, and published after what was said later.
        if !self.model.trace[refused..].iter().any(|line| line.contains(ErrorCode::IdReused.name())) {
            self.said.push(said);
        }
    }

    fn step(&mut self, step: &Step) {
        if self.session.listens(self.world.now) && !self.world.away {
            self.client_step(step);
        }
        match step {
            Step::Decide { channel, decision } => {
                let (name, _) = CHANNELS[*channel];
                let Some(number) = self.world.questions.remove(name) else { return };
                self.model.decide(name, decision);
                self.session.decide(number, decision.clone(), &self.rules, &mut self.world);
                self.repeat(|session, rules, world| session.decide(number, decision.clone(), rules, world));
            }
            Step::DecideNothing => self.repeat(|session, rules, world| {
                session.decide(u64::MAX, Decision::Allow, rules, world);
                session.published(u64::MAX, Ok(Position { epoch: EPOCH, offset: 1 }), world);
            }),
            Step::Broker(confirms) => {
                (self.world.broker, self.model.broker) = (Some(*confirms), Some(*confirms));
            }
            Step::Confirm { which, outcome } if !self.model.unconfirmed.is_empty() => {
                self.confirm(which % self.model.unconfirmed.len(), *outcome);
            }
            Step::SubscribeForApplication { channel } if *channel < CHANNELS.len() - 1 => {
                let (channel, _) = CHANNELS[*channel];
                let from = Position { epoch: EPOCH, offset: self.model.top(channel) };
                if !self.model.subscribe(channel, Start::Promised(from), true, None) {
                    self.model.say_error(ErrorCode::LimitExceeded, Some(channel), None);
                }
                self.subscribe_for_application(channel, None);
            }
            Step::Answer { which, answer } if !self.model.asked.is_empty() => {
                let id = self.model.asked.remove(which % self.model.asked.len());
                self.answer(id.as_deref(), *answer);
            }
            Step::UnsubscribeForApplication { channel } => {
                let (channel, _) = CHANNELS[*channel];
                // The binding refuses what is not the name of a channel.
                let Ok(name) = ChannelName::new(channel) else { return };
                self.model.trace.push(format!("unsubscribe {channel}"));
                if self.model.leave(channel) {
                    let reason = "moved";
                    let ended = json!({"type": "subscription_ended", "channel": channel, "reason": reason});
                    self.model.say(ended, None);
                }
                self.session.unsubscribe_for_application(&name, "moved", &self.rules, &mut self.world);
            }
            Step::CountError => {
                self.model.say_error(ErrorCode::UnknownType, None, None);
                self.model.count_error();
                let (code, message) = (ErrorCode::UnknownType.name().into(), "no handler".into());
                let error = Answer::Error { code, message, details: None, is_fault: true };
                self.session.answer(&error, None, &mut self.world);
            }
            Step::Wait(seconds) => {
                self.world.now = self.world.now + Duration::from_secs(*seconds);
                self.model.now = self.world.now;
            }
            Step::Disconnect { after } if !self.world.away => self.world.calls_left = Some(*after),
            Step::Away => {
                (self.world.away, self.model.away) = (true, true);
                self.world.calls_left = None;
            }
            Step::Resume { wanted, may_ask } => {
                self.world.calls_left = None;
                let dropped = self.model.resume(wanted, *may_ask);
                for channel in dropped {
                    let number = self.world.questions.remove(&channel).expect("it was asked");
                    self.world.former.push(number);
                }
                self.come_back(wanted, *may_ask);
                for number in std::mem::take(&mut self.world.former) {
                    self.repeat(|session, rules, world| {
                        session.decide(number, Decision::Allow, rules, world);
                    });
                }
            }
            _ => {}
        }
    }

    /// What the client says.
    fn client_step(&mut self, step: &Step) {
        let names =
            |channels: &[usize]| channels.iter().map(|channel| CHANNELS[*channel].0).collect::<Vec<_>>();
        if is_said(step) {
            self.model.begin_message();
        }
        match step {
            Step::Subscribe { channels, from, restart, id } => {
                let id = self.id(*id);
                let position = from.map(|offset| Position { epoch: EPOCH, offset });
                let start = position.map_or(Start::Newcomer, Start::After);
                if from.is_some() && channels.len() > 1 {
                    self.model.owe(id.as_deref());
                    self.model.error(ErrorCode::BadMessage, None, id.as_deref());
                } else {
                    for &channel in channels {
                        let action = Action::Subscribe { start, restart: *restart };
                        self.model.want(channel, action, id.as_deref());
                    }
                }
                let names = names(channels);
                let mut message = json!({"type": "subscribe_updates", "channels": names, "restart": restart});
                if let Some(from) = from {
                    (message["epoch"], message["offset"]) = (EPOCH.to_string().into(), (*from).into());
                }
                self.hear(&mut message, id.as_deref());
            }
            Step::Unsubscribe { channels, id } => {
                let id = self.id(*id);
                for &channel in channels {
                    self.model.want(channel, Action::Unsubscribe, id.as_deref());
                }
                let mut message = json!({"type": "unsubscribe_updates", "channels": names(channels)});
                self.hear(&mut message, id.as_deref());
            }
            Step::Publish { channel, id } => {
                let id = self.id(*id);
                self.publish(*channel, id);
            }
            Step::Burst { count } => {
                for _ in 0..*count {
                    if self.session.listens(self.world.now) && !self.world.over {
                        self.model.begin_message();
                        let id = self.id(ID_CHOICES);
                        self.publish(0, id);
                        self.compare();
                    }
                }
            }
            Step::Heartbeat { id } => {
                let id = self.id(*id);
                self.model.owe(id.as_deref());
                self.model.say(json!({"type": "heartbeat_ack"}), id.as_deref());
                self.hear(&mut json!({"type": "heartbeat"}), id.as_deref());
            }
            Step::OfTheApplication { id } => {
                let id = self.id(*id);
                self.request(Said { id, message: json!({"type": "chat"}), publish: None });
            }
            Step::Repeat { back } => {
                let said = self.said.iter().rev().nth(*back).cloned();
                if let Some(said) = said.filter(|said| said.id.is_some()) {
                    self.model.begin_message();
                    self.request(said);
                }
            }
            Step::Nonsense => {
                self.model.error(ErrorCode::BadMessage, None, None);
                self.hear(&mut json!([]), None);
            }
            _ => {}
        }
    }

    fn subscribe_for_application(&mut self, channel: &str, id: Option<&str>) {
        let from = Position { epoch: EPOCH, offset: self.model.top(channel) };
        let (channel, id) = (ChannelName::new(channel).expect("legal"), id.and_then(Id::from_json));
        self.session.subscribe_for_application(&channel, from, id, &self.rules, &mut self.world);
    }

    /// The application answers a message. What it says after that to the same `id` is ignored.
    fn answer(&mut self, id: Option<&str>, answer: HowAnswered) {
        self.model.answer(id, answer);
        let error = |code: ErrorCode| {
            let (code, message) = (code.name().into(), String::new());
            Answer::Error { code, message, details: None, is_fault: false }
        };
        let result = Answer::Result { message_type: "chat".into(), data: "1".into() };
        let said = match answer {
            HowAnswered::Result => &result,
            HowAnswered::Error => &error(ErrorCode::Timeout),
            HowAnswered::Unreadable => &error(ErrorCode::BadMessage),
            HowAnswered::Run { channel } => return self.subscribe_for_application(CHANNELS[channel].0, id),
        };
        let id = id.and_then(Id::from_json);
        self.session.answer(said, id, &mut self.world);
        if id.is_some() && answer != HowAnswered::Unreadable {
            self.repeat(|session, _, world| session.answer(&result, id, world));
        }
    }

    fn confirm(&mut self, which: usize, outcome: Result<(), ErrorCode>) {
        let Unconfirmed { number: publish, channel, .. } = &self.model.unconfirmed[which];
        let (publish, channel) = (*publish, channel.clone());
        let number = self.world.unconfirmed.remove(&publish).expect("the broker has it too");
        self.model.confirm(publish, outcome);
        let outcome = outcome.map(|()| {
            *self.world.top(&channel) += 1;
            Position { epoch: EPOCH, offset: *self.world.top(&channel) }
        });
        self.session.published(number, outcome.map_err(Into::into), &mut self.world);
        self.repeat(|session, _, world| session.published(number, outcome.map_err(Into::into), world));
    }

    /// Says something that must not change anything.
    fn repeat(&mut self, say: impl FnOnce(&mut Session, &Rules, &mut World)) {
        if !self.world.over {
            let before = self.world.trace.len();
            say(&mut self.session, &self.rules, &mut self.world);
            assert_eq!(self.world.trace.len(), before, "what nobody waits for is ignored");
        }
    }

    /// Everything is decided and confirmed. Then nothing waits, and every request has its answer.
    fn settle(&mut self) {
        self.world.calls_left = None;
        if self.world.away {
            self.step(&Step::Resume { wanted: vec![(0, None), (1, Some(0))], may_ask: true });
            self.compare();
            if self.world.over {
                return;
            }
        }
        self.step(&Step::Broker(Confirms::AtOnce));
        while let Some(name) = self.world.questions.keys().next().cloned() {
            let channel = CHANNELS.iter().position(|(other, _)| **other == name).expect("one of them");
            self.step(&Step::Decide { channel, decision: Decision::Allow });
            self.compare();
            if self.world.over {
                return;
            }
        }
        while !self.model.unconfirmed.is_empty() {
            self.confirm(0, Ok(()));
            self.compare();
        }
        while let Some(id) = self.model.asked.pop() {
            self.answer(id.as_deref(), HowAnswered::Result);
            self.compare();
        }
        assert_eq!((self.model.waiting(), self.model.running.len()), (0, 0));
        self.model.owed.retain(|_, count| *count > 0);
        assert_eq!(self.world.answers, self.model.owed);
    }
}

/// Whether a step is a message of the client.
fn is_said(step: &Step) -> bool {
    matches!(
        step,
        Step::Subscribe { .. }
            | Step::Unsubscribe { .. }
            | Step::Publish { .. }
            | Step::Heartbeat { .. }
            | Step::OfTheApplication { .. }
            | Step::Nonsense
    )
}
