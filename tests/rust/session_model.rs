//! A session and a naive model of it, driven by a list of steps. Properties and the fuzzer make up the steps.
//!
//! The model keeps one queue of requests for each channel and works on whatever is in front. Session and model write down what
//! happens. After each step both have written the same, or the client went away in it and the session has written the beginning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use umbel::channel::ChannelName;
use umbel::close::CloseReason;
use umbel::error_code::{ErrorCode, Fault};
use umbel::moment::Moment;
use umbel::position::{Epoch, Position, Subscribed};
use umbel::protocol::message::{Id, MAX_CHANNELS, Timestamp};
use umbel::rules::{Access, Mode, Overrun, Rule, Rules};
use umbel::session::{Carrier, Decision, MAX_PENDING, Question, REMEMBERED_PUBLISHES, Session};

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
pub const IDS: [Option<&str>; 8] =
    [None, Some("1"), Some("\"1\""), Some("2"), Some("3"), Some("\"x\""), Some("-4"), Some("5")];

const EPOCH: Epoch = Epoch::new(1);
const MOST_SUBSCRIPTIONS: usize = 3;

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
        id: usize,
    },
    UnsubscribeForApplication {
        channel: usize,
    },
    OpenPrivate,
    /// The application answers with an error of the client.
    CountError,
    Wait(u64),
    /// The client goes away in the carrier's next call, or so many calls later.
    Disconnect {
        after: u32,
    },
}

#[derive(Clone, Debug)]
enum Action {
    Subscribe { from: Option<u64> },
    Unsubscribe,
    Publish { number: u64 },
}

// ---- the carrier ----

/// Carries one session, and looks at what no session may do.
#[derive(Default)]
struct World {
    now: Moment,
    /// The client went away, or was closed.
    over: bool,
    calls_left: Option<u32>,
    trace: Vec<String>,
    broker: Option<Confirms>,
    tops: BTreeMap<String, u64>,
    /// Up to where each subscription was served.
    subscriptions: BTreeMap<String, u64>,
    /// By channel: the session asks one question at a time about each.
    questions: BTreeMap<String, u64>,
    /// By what was published.
    unconfirmed: BTreeMap<u64, u64>,
    /// Numbers of questions and of publishes that are confirmed later.
    numbers: BTreeSet<u64>,
    /// The last publish of each channel.
    last: BTreeMap<String, u64>,
    /// Answers by `id` and channel.
    answers: BTreeMap<(String, String), i64>,
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
        if let Some(id) = fields.get("id") {
            let channel = fields.get("channel").and_then(Value::as_str).unwrap_or_default().to_owned();
            *self.answers.entry((id.to_string(), channel)).or_default() += 1;
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

    fn subscribe(&mut self, channel: &ChannelName, from: Option<Position>) -> Subscribed {
        let offset = from.map(|from| from.offset);
        self.note(format!("subscribe {channel} {offset:?}"));
        let position = Position { epoch: EPOCH, offset: offset.unwrap_or(*self.top(channel.as_str())) };
        if self.subscriptions.contains_key(channel.as_str()) {
            return Subscribed::Already { position };
        }
        if self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return Subscribed::TooMany { most: MOST_SUBSCRIPTIONS };
        }
        self.subscriptions.insert(channel.to_string(), position.offset);
        Subscribed::From { position, recovered: from.is_some() }
    }

    fn subscribe_private(&mut self, channel: &ChannelName) -> Position {
        self.note(format!("subscribe {channel}"));
        Position { epoch: EPOCH, offset: 0 }
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        if !self.is_there() {
            return false;
        }
        self.trace.push(format!("unsubscribe {channel}"));
        let position = self.subscriptions.remove(channel);
        let top = *self.top(channel);
        assert!(position.is_none_or(|position| position >= top), "what was published before comes before");
        position.is_some()
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        data: &[u8],
        _: Option<&str>,
        number: u64,
    ) -> Option<Result<u64, ErrorCode>> {
        let name = channel.as_str();
        let publish: u64 = serde_json::from_slice(data).expect("the publish has a number");
        self.note(format!("publish {name} {publish}"));
        let before = self.last.insert(name.to_owned(), publish);
        assert!(before < Some(publish), "what comes later is published later, and once");
        match self.broker {
            None | Some(Confirms::AtOnce) => {
                *self.top(name) += 1;
                Some(Ok(*self.top(name)))
            }
            Some(Confirms::Never) => Some(Err(ErrorCode::NotPublished)),
            Some(Confirms::Later) => {
                let number = self.number(number);
                self.unconfirmed.insert(publish, number);
                None
            }
        }
    }

    fn ask(&mut self, question: Question) {
        let (number, what, channel) = match question {
            Question::Message { id, .. } => return self.note(format!("message {id:?}")),
            Question::Subscribe { number, channel, .. } => (number, "subscribe".to_owned(), channel),
            Question::Publish { number, channel, data, .. } => {
                (number, format!("publish {}", String::from_utf8_lossy(&data)), channel)
            }
        };
        self.note(format!("ask {channel} {what}"));
        let number = self.number(number);
        assert_eq!(self.questions.insert(channel, number), None, "an earlier question is open");
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
    is_asked: bool,
}

/// A publish that the broker has not confirmed, with the `id`s of all requests that it answers.
#[derive(Debug)]
struct Unconfirmed {
    number: u64,
    channel: String,
    ids: Vec<Option<String>>,
}

#[derive(Default)]
struct Model {
    now: Moment,
    closed: bool,
    trace: Vec<String>,
    broker: Option<Confirms>,
    tops: BTreeMap<String, u64>,
    subscriptions: BTreeSet<String>,
    queues: BTreeMap<String, VecDeque<Request>>,
    unconfirmed: Vec<Unconfirmed>,
    remembered: Vec<(String, String, u64)>,
    window: Moment,
    errors: u32,
    /// Answers that are owed, by `id` and channel.
    owed: BTreeMap<(String, String), i64>,
}

impl Model {
    fn waiting(&self) -> usize {
        let requests: usize = self.queues.values().map(VecDeque::len).sum();
        requests + self.unconfirmed.iter().map(|publish| publish.ids.len()).sum::<usize>()
    }

    fn owe(&mut self, id: Option<&str>, channel: &str) {
        if let Some(id) = id {
            *self.owed.entry((id.to_owned(), channel.to_owned())).or_default() += 1;
        }
    }

    fn top(&self, channel: &str) -> u64 {
        self.tops.get(channel).copied().unwrap_or_default()
    }

    fn say(&mut self, mut reply: Value, id: Option<&str>) {
        if let Some(id) = id {
            reply["id"] = serde_json::from_str(id).expect("an id is JSON");
        }
        self.trace.push(reply.to_string());
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
        if code.fault() == Fault::Client {
            self.count_error();
        }
    }

    fn count_error(&mut self) {
        if self.now.since(self.window) > Duration::from_secs(10) {
            (self.window, self.errors) = (self.now, 0);
        }
        self.errors += 1;
        if self.errors > 20 {
            self.trace.push("close TooManyErrors".into());
            self.closed = true;
        }
    }

    fn want(&mut self, channel: usize, action: Action, id: Option<&str>) {
        let (name, _) = CHANNELS[channel];
        if self.closed {
            return;
        }
        self.owe(id, name);
        if name.starts_with('@') {
            return self.error(ErrorCode::BadChannel, Some(name), id);
        }
        let request = Request { action, id: id.map(str::to_owned), is_asked: false };
        self.queues.entry(name.to_owned()).or_default().push_back(request);
        self.work(name);
    }

    /// Does what can be done about a channel now.
    fn work(&mut self, channel: &str) {
        while let Some(request) = self.queues[channel].front().cloned()
            && !request.is_asked
            && !self.closed
        {
            let Request { action, id, .. } = &request;
            let rule = CHANNELS.iter().find(|(name, _)| *name == channel).and_then(|(_, rule)| *rule);
            let access = rule.map(|(subscribe, publish)| match action {
                Action::Publish { .. } => publish,
                _ => subscribe,
            });
            match (action, access) {
                (Action::Unsubscribe, _) => self.unsubscribe(channel, id.as_deref()),
                (Action::Publish { .. }, _) if self.is_repeated(channel, id.as_deref()) => {}
                (_, None) => self.error(ErrorCode::UnknownChannel, Some(channel), id.as_deref()),
                (_, Some(Access::No)) => self.error(ErrorCode::NotAllowed, Some(channel), id.as_deref()),
                (_, Some(Access::Open)) => self.perform(channel, &request),
                (_, Some(Access::Ask)) => {
                    let what = match action {
                        Action::Publish { number } => format!("publish {number}"),
                        _ => "subscribe".into(),
                    };
                    self.trace.push(format!("ask {channel} {what}"));
                    self.queue(channel).front_mut().expect("it is there").is_asked = true;
                    return;
                }
            }
            self.queue(channel).pop_front();
        }
    }

    fn queue(&mut self, channel: &str) -> &mut VecDeque<Request> {
        self.queues.get_mut(channel).expect("somebody wanted something of it")
    }

    fn is_repeated(&mut self, channel: &str, id: Option<&str>) -> bool {
        let Some(id) = id else { return false };
        let is_it = |(other, name, _): &&(String, String, u64)| other == id && name == channel;
        if let Some(&(_, _, offset)) = self.remembered.iter().find(is_it) {
            self.say(json!({"type": "published", "channel": channel, "offset": offset}), Some(id));
            return true;
        }
        let mut same = self.unconfirmed.iter_mut().filter(|publish| publish.channel == channel);
        let same = same.find(|publish| publish.ids[0].as_deref() == Some(id));
        same.map(|publish| publish.ids.push(Some(id.to_owned()))).is_some()
    }

    fn perform(&mut self, channel: &str, request: &Request) {
        match request.action {
            Action::Subscribe { from } => {
                if !self.subscribe(channel, from, request.id.as_deref()) {
                    self.error(ErrorCode::LimitExceeded, Some(channel), request.id.as_deref());
                }
            }
            Action::Unsubscribe => unreachable!("nobody is asked about it"),
            Action::Publish { number } => {
                self.trace.push(format!("publish {channel} {number}"));
                let ids = vec![request.id.clone()];
                self.unconfirmed.push(Unconfirmed { number, channel: channel.to_owned(), ids });
                match self.broker {
                    None | Some(Confirms::AtOnce) => self.confirm(number, Ok(())),
                    Some(Confirms::Never) => self.confirm(number, Err(ErrorCode::NotPublished)),
                    Some(Confirms::Later) => {}
                }
            }
        }
    }

    fn subscribe(&mut self, channel: &str, from: Option<u64>, id: Option<&str>) -> bool {
        self.trace.push(format!("subscribe {channel} {from:?}"));
        let is_new = !self.subscriptions.contains(channel);
        if is_new && self.subscriptions.len() >= MOST_SUBSCRIPTIONS {
            return false;
        }
        self.subscriptions.insert(channel.to_owned());
        let (offset, recovered) = (from.unwrap_or(self.top(channel)), is_new && from.is_some());
        let kind = "subscription_established";
        self.say(json!({"type": kind, "channel": channel, "offset": offset, "recovered": recovered}), id);
        true
    }

    fn unsubscribe(&mut self, channel: &str, id: Option<&str>) {
        self.trace.push(format!("unsubscribe {channel}"));
        if self.subscriptions.remove(channel) {
            let reason = "unsubscribed";
            self.say(json!({"type": "subscription_ended", "channel": channel, "reason": reason}), id);
        } else {
            self.error(ErrorCode::NotSubscribed, Some(channel), id);
        }
    }

    /// The application has decided about the request that is in front.
    fn decide(&mut self, channel: &str, decision: &Decision) {
        let request = self.queue(channel).pop_front().expect("a question is open");
        match decision {
            Decision::Allow => self.perform(channel, &request),
            Decision::Deny { code, .. } => self.error(*code, Some(channel), request.id.as_deref()),
        }
        self.work(channel);
    }

    fn confirm(&mut self, number: u64, outcome: Result<(), ErrorCode>) {
        let index = self.unconfirmed.iter().position(|publish| publish.number == number);
        let Unconfirmed { channel, ids, .. } = self.unconfirmed.remove(index.expect("it waits"));
        if outcome.is_ok() {
            *self.tops.entry(channel.clone()).or_default() += 1;
            if let Some(id) = &ids[0] {
                self.remembered.push((id.clone(), channel.clone(), self.top(&channel)));
                let forgotten = self.remembered.len().saturating_sub(REMEMBERED_PUBLISHES);
                self.remembered.drain(..forgotten);
            }
        }
        let offset = self.top(&channel);
        for id in ids {
            match outcome {
                Ok(()) => self
                    .say(json!({"type": "published", "channel": channel, "offset": offset}), id.as_deref()),
                Err(code) => self.error(code, Some(&channel), id.as_deref()),
            }
        }
    }
}

// ---- both ----

struct Run {
    session: Session,
    world: World,
    model: Model,
    rules: Rules,
    publishes: u64,
}

/// Carries the steps out, and checks what must hold whatever they are.
pub fn check(steps: &[Step]) {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
        run.compare();
        if run.world.over {
            return;
        }
    }
    run.settle();
}

impl Run {
    fn new() -> Self {
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
        };
        let rules: Vec<_> =
            CHANNELS.iter().filter_map(|&(pattern, access)| Some(rule(pattern, access?))).collect();
        Self {
            session: Session::default(),
            world: World::default(),
            model: Model::default(),
            rules: Rules::new(&rules).expect("the rules are legal"),
            publishes: 0,
        }
    }

    fn compare(&self) {
        let (world, model) = (&self.world, &self.model);
        let done = if world.over { world.trace.len().min(model.trace.len()) } else { model.trace.len() };
        assert_eq!(world.trace, model.trace[..done]);
        if !world.over {
            let waiting = model.waiting();
            assert_eq!(self.session.listens(), waiting < MAX_PENDING);
            assert!(waiting < MAX_PENDING + MAX_CHANNELS, "what waits is bounded");
            assert!(!model.closed);
        }
    }

    fn hear(&mut self, message: &mut Value, id: usize) {
        if let Some(id) = IDS[id] {
            message["id"] = serde_json::from_str(id).expect("an id is JSON");
        }
        self.session.receive(&message.to_string(), &self.rules, &mut self.world);
    }

    fn step(&mut self, step: &Step) {
        if self.session.listens() {
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
                session.published(u64::MAX, Ok(1), world);
            }),
            Step::Broker(confirms) => {
                (self.world.broker, self.model.broker) = (Some(*confirms), Some(*confirms));
            }
            Step::Confirm { which, outcome } if !self.model.unconfirmed.is_empty() => {
                self.confirm(which % self.model.unconfirmed.len(), *outcome);
            }
            Step::SubscribeForApplication { channel, id } if *channel < CHANNELS.len() - 1 => {
                self.subscribe_for_application(CHANNELS[*channel].0, IDS[*id]);
            }
            Step::UnsubscribeForApplication { channel } => {
                let (channel, _) = CHANNELS[*channel];
                self.model.trace.push(format!("unsubscribe {channel}"));
                if self.model.subscriptions.remove(channel) {
                    let reason = "moved";
                    let ended = json!({"type": "subscription_ended", "channel": channel, "reason": reason});
                    self.model.say(ended, None);
                }
                self.session.unsubscribe_for_application(channel, "moved", &mut self.world);
            }
            Step::OpenPrivate => {
                self.model.trace.push("subscribe @c".into());
                let kind = "subscription_established";
                self.model.say(json!({"type": kind, "channel": "@c", "offset": 0, "recovered": false}), None);
                self.session.open_private(&ChannelName::private("c"), &mut self.world);
            }
            Step::CountError => {
                self.model.count_error();
                self.session.count_error(&mut self.world);
            }
            Step::Wait(seconds) => {
                self.world.now = self.world.now + Duration::from_secs(*seconds);
                self.model.now = self.world.now;
            }
            Step::Disconnect { after } => self.world.calls_left = Some(*after),
            _ => {}
        }
    }

    /// What the client says.
    fn client_step(&mut self, step: &Step) {
        let names =
            |channels: &[usize]| channels.iter().map(|channel| CHANNELS[*channel].0).collect::<Vec<_>>();
        match step {
            Step::Subscribe { channels, from, id } => {
                for &channel in channels {
                    self.model.want(channel, Action::Subscribe { from: *from }, IDS[*id]);
                }
                let mut message = json!({"type": "subscribe_updates", "channels": names(channels)});
                if let Some(from) = from {
                    (message["epoch"], message["offset"]) = (EPOCH.to_string().into(), (*from).into());
                }
                self.hear(&mut message, *id);
            }
            Step::Unsubscribe { channels, id } => {
                for &channel in channels {
                    self.model.want(channel, Action::Unsubscribe, IDS[*id]);
                }
                self.hear(&mut json!({"type": "unsubscribe_updates", "channels": names(channels)}), *id);
            }
            Step::Publish { channel, id } => {
                self.publishes += 1;
                let number = self.publishes;
                self.model.want(*channel, Action::Publish { number }, IDS[*id]);
                let (name, _) = CHANNELS[*channel];
                self.hear(&mut json!({"type": "publish", "channel": name, "data": number}), *id);
            }
            Step::Heartbeat { id } => {
                self.model.owe(IDS[*id], "");
                self.model.say(json!({"type": "heartbeat_ack"}), IDS[*id]);
                self.hear(&mut json!({"type": "heartbeat"}), *id);
            }
            Step::OfTheApplication { id } => {
                self.model.trace.push(format!("message {:?}", IDS[*id]));
                self.hear(&mut json!({"type": "chat"}), *id);
            }
            Step::Nonsense => {
                self.model.error(ErrorCode::BadMessage, None, None);
                self.hear(&mut json!([]), 0);
            }
            _ => {}
        }
    }

    fn subscribe_for_application(&mut self, channel: &str, id: Option<&str>) {
        self.model.owe(id, channel);
        let from = Position { epoch: EPOCH, offset: self.model.top(channel) };
        if !self.model.subscribe(channel, Some(from.offset), id) {
            self.model.say_error(ErrorCode::LimitExceeded, Some(channel), id);
        }
        let (channel, id) = (ChannelName::new(channel).expect("legal"), id.and_then(Id::from_json));
        self.session.subscribe_for_application(&channel, from, id, &mut self.world);
    }

    fn confirm(&mut self, which: usize, outcome: Result<(), ErrorCode>) {
        let Unconfirmed { number: publish, channel, .. } = &self.model.unconfirmed[which];
        let (publish, channel) = (*publish, channel.clone());
        let number = self.world.unconfirmed.remove(&publish).expect("the broker has it too");
        self.model.confirm(publish, outcome);
        let outcome = outcome.map(|()| {
            *self.world.top(&channel) += 1;
            *self.world.top(&channel)
        });
        self.session.published(number, outcome, &mut self.world);
        self.repeat(|session, _, world| session.published(number, outcome, world));
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
        assert_eq!(self.model.waiting(), 0);
        assert_eq!(self.world.answers, self.model.owed);
    }
}
