//! The requests of one client that are not done yet.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::memory::Memory;
use super::replies::ReplyTo;
use super::resolver::Resolver;
use super::resumable::{Resumable, Subscription};
use crate::change::{Expected, Op};
use crate::channel::ChannelName;
use crate::position::{Position, Start};
use crate::protocol::message::{Id, PresenceChange, Publish};
use crate::rights::Wish;

/// The channels that an event stream wants, and from where on.
pub type StreamChannels = Box<[(Box<str>, Start)]>;

/// What a client wants of one channel.
#[derive(Debug)]
pub(super) enum Action {
    Subscribe {
        start: Start,
        restart: bool,
    },
    /// To have again what the session had.
    Restore {
        had: Subscription,
        start: Option<Start>,
    },
    Unsubscribe,
    Publish(Change),
    /// To be seen otherwise.
    Present(PresenceChange),
    /// What the channel still has.
    History {
        after: Option<Position>,
        most: usize,
    },
}

/// What a client publishes, or does to an entry of a state.
#[derive(Debug)]
pub(super) struct Change {
    pub op: Op,
    pub data: Bytes,
    pub key: Option<Box<str>>,
    pub event: Option<Box<str>>,
    pub expected: Expected,
    pub elements: u32,
    /// The client lets the application resolve a conflict.
    pub resolve: bool,
    /// What resolves it.
    pub resolver: Option<Box<Resolver>>,
    /// How it was resolved: JSON text.
    pub conflict: Option<Box<str>>,
    /// The application has put something else in the place of the value.
    pub replaced: bool,
}

impl Request {
    /// Whether the application is asked about it. Then nothing before it waits.
    pub fn is_asked(&self) -> bool {
        self.waits_for != WaitsFor::EarlierRequest
    }
}

impl Action {
    /// What a message asks to publish.
    pub fn publish(publish: Publish<'_>, elements: u32) -> Self {
        let Publish { op, data, key, event, expected, resolve, .. } = publish;
        let own = |text: Cow<'_, str>| text.into_owned().into_boxed_str();
        let data = Bytes::copy_from_slice(data.as_bytes());
        let (key, event) = (key.map(own), event.map(own));
        Self::Publish(Change {
            op,
            data,
            key,
            event,
            expected,
            elements,
            resolve,
            resolver: None,
            conflict: None,
            replaced: false,
        })
    }

    /// What it does with its channel.
    pub fn wish(&self) -> Wish {
        if let Self::Publish(_) = self { Wish::Publish } else { Wish::Subscribe }
    }

    /// Where what is said about it belongs. A publish is done once.
    pub fn reply_to<'a>(&self, id: Option<Id<'a>>) -> ReplyTo<'a> {
        if let Self::Publish(_) = self { ReplyTo::request(id) } else { ReplyTo::message(id) }
    }

    /// Bytes that it keeps.
    fn size(&self) -> usize {
        match self {
            Self::Publish(Change { data, resolver, .. }) => {
                data.len() + resolver.as_ref().map_or(0, |resolver| resolver.size())
            }
            Self::Present(change) => change.size(),
            _ => 0,
        }
    }
}

/// What a request waits for: those about the same name are done one after another. Who is in a channel is decided with the channel.
fn order_of(channel: &ChannelName) -> &str {
    channel.watched().unwrap_or_else(|| channel.as_str())
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Request {
    waits_for: WaitsFor,
    /// The number of the message that it came with.
    pub message: u32,
    pub id: Option<Box<str>>,
    pub channel: ChannelName,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitsFor {
    /// The application's decision on the question of this number.
    Decision(u64),
    /// An earlier request about the same channel.
    EarlierRequest,
}

/// A publish that the broker has not confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    number: u64,
    pub id: Option<Box<str>>,
    pub channel: ChannelName,
    pub key: Option<Box<str>>,
    /// A conflict was resolved by it.
    pub resolved: bool,
}

/// A message with credentials.
#[derive(Debug)]
pub(super) struct Renewal {
    pub token: Option<Box<str>>,
    pub id: Option<Box<str>>,
    /// The number of the message.
    pub message: u32,
}

/// Nearly all sessions have none of this most of the time.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last_number: u64,
    waiting: Vec<Request>,
    /// How many of them are about each channel. A client that comes back may ask for thousands at once.
    waiting_about: HashMap<Box<str>, u32>,
    /// That these keep.
    waiting_bytes: usize,
    unconfirmed: Vec<Unconfirmed>,
    /// Made when the first request with an `id` comes.
    pub memory: Option<Box<Memory>>,
    /// The client, as updates name it: JSON text. `None` when no channel does that.
    pub sender: Option<Arc<str>>,
    /// Of a client that may come back.
    pub resumable: Option<Resumable>,
    /// What an event stream is to begin with, until it does.
    pub stream: Option<StreamChannels>,
    /// Credentials that wait to be judged.
    pub renewal: Option<Renewal>,
    /// Numbers of the last messages that counted as errors.
    blamed: VecDeque<u32>,
}

impl Requests {
    /// Whether the session has as many requests under way as it may have, or one that all others come after.
    pub fn is_full(&self) -> bool {
        self.renewal.is_some()
            || self.waiting.len() + self.unconfirmed.len() >= MAX_PENDING
            || self.memory.as_ref().is_some_and(|memory| memory.is_full())
    }

    /// A number that no other question or publish of this session has.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Whether an earlier request about this channel waits.
    pub fn waits_for(&self, channel: &ChannelName) -> bool {
        self.waiting_about.contains_key(order_of(channel))
    }

    /// Whether the application decides about a request about this channel, or about one that is before it.
    pub fn is_asked_about(&self, channel: &ChannelName) -> bool {
        let is_it = |it: &Request| it.is_asked() && order_of(&it.channel) == order_of(channel);
        self.waits_for(channel) && self.waiting.iter().any(is_it)
    }

    /// Keeps a request until the application has decided about the question of this number.
    pub fn wait_for_decision(
        &mut self,
        number: u64,
        channel: ChannelName,
        action: Action,
        id: Option<Id<'_>>,
        message: u32,
    ) {
        self.push(WaitsFor::Decision(number), channel, action, id, message);
    }

    /// Keeps a request until those before it are done.
    pub fn wait_for_earlier(
        &mut self,
        channel: ChannelName,
        action: Action,
        id: Option<Id<'_>>,
        message: u32,
    ) {
        self.push(WaitsFor::EarlierRequest, channel, action, id, message);
    }

    fn push(
        &mut self,
        waits_for: WaitsFor,
        channel: ChannelName,
        action: Action,
        id: Option<Id<'_>>,
        message: u32,
    ) {
        let id = id.map(|id| id.as_json().into());
        self.waiting_bytes += action.size();
        *self.waiting_about.entry(order_of(&channel).into()).or_default() += 1;
        self.waiting.push(Request { waits_for, message, id, channel, action });
    }

    /// Notes that a message counts as an error. Returns `false` when it did before.
    pub fn note_blamed(&mut self, message: u32) -> bool {
        if self.blamed.contains(&message) {
            return false;
        }
        if self.blamed.len() >= REMEMBERED_ERRORS {
            self.blamed.pop_front();
        }
        self.blamed.push_back(message);
        true
    }

    /// Takes out the request whose question has this number.
    pub fn take_decided(&mut self, number: u64) -> Option<Request> {
        let is_it = |request: &Request| request.waits_for == WaitsFor::Decision(number);
        let index = self.waiting.iter().position(is_it)?;
        Some(self.take(index))
    }

    /// Bytes that requests keep that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes out, in their order, all requests about a channel and about who is in it.
    pub fn take_channel(&mut self, channel: &ChannelName) -> Vec<Request> {
        if !self.waits_for(channel) {
            return Vec::new();
        }
        let is_it = |request: &mut Request| order_of(&request.channel) == order_of(channel);
        let taken: Vec<_> = self.waiting.extract_if(.., is_it).collect();
        taken.iter().for_each(|request| self.note_taken(request));
        taken
    }

    /// Drops the requests that are about being subscribed, except for questions about these channels, and about those that the
    /// server had subscribed: when they are decided, the client begins here. `left` is called for those that the session had. Returns
    /// the channels in which others wait for nothing any more.
    pub fn drop_subscribing(
        &mut self,
        kept: &HashMap<&str, Option<Start>>,
        mut left: impl FnMut(&ChannelName),
    ) -> Vec<ChannelName> {
        let is_over = |Request { action, id, channel, waits_for, .. }: &mut Request| {
            let wanted = kept.get(channel.as_str()).copied();
            match (action, *waits_for) {
                (Action::Publish(_) | Action::History { .. } | Action::Present(_), _) => false,
                (Action::Subscribe { start, restart }, WaitsFor::Decision(_)) => {
                    (*start, *restart, *id) = (wanted.flatten().unwrap_or(Start::Newcomer), false, None);
                    wanted.is_none()
                }
                (Action::Restore { had, start }, _) => {
                    *start = wanted.flatten();
                    wanted.is_none() && !had.by_server
                }
                _ => true,
            }
        };
        // None of them keeps bytes.
        let dropped: Vec<_> = self.waiting.extract_if(.., is_over).collect();
        dropped.iter().for_each(|request| self.note_taken(request));
        let had = dropped.iter().filter(|request| matches!(request.action, Action::Restore { .. }));
        had.for_each(|request| left(&request.channel));
        let mut channels: Vec<_> = dropped.into_iter().map(|request| request.channel).collect();
        let mut seen = HashSet::new();
        channels.retain(|channel| {
            // Once each: otherwise the application is asked again about what has just gone on.
            if !seen.insert(order_of(channel).to_owned()) {
                return false;
            }
            let first = self.waiting.iter().find(|request| order_of(&request.channel) == order_of(channel));
            first.is_some_and(|request| request.waits_for == WaitsFor::EarlierRequest)
        });
        channels
    }

    /// The channels to which the client will be subscribed, if the application says so.
    pub fn subscribing(&self) -> HashSet<&str> {
        let is_one = |request: &&Request| match request.action {
            Action::Subscribe { .. } => request.is_asked(),
            Action::Restore { .. } => true,
            Action::Unsubscribe | Action::Publish(_) | Action::History { .. } | Action::Present(_) => false,
        };
        self.waiting.iter().filter(is_one).map(|request| request.channel.as_str()).collect()
    }

    /// Takes out what would restore the subscription to a channel.
    pub fn take_restore(&mut self, channel: &ChannelName) -> Option<Request> {
        let is_it = |request: &Request| {
            matches!(request.action, Action::Restore { .. }) && request.channel == *channel
        };
        let index = self.waiting.iter().position(is_it)?;
        Some(self.take(index))
    }

    fn take(&mut self, index: usize) -> Request {
        let request = self.waiting.remove(index);
        self.note_taken(&request);
        request
    }

    fn note_taken(&mut self, request: &Request) {
        self.waiting_bytes -= request.action.size();
        if let Entry::Occupied(mut count) = self.waiting_about.entry(order_of(&request.channel).into()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Keeps a publish until the broker has confirmed it.
    pub fn wait_for_broker(
        &mut self,
        number: u64,
        channel: &ChannelName,
        key: Option<Box<str>>,
        resolved: bool,
        id: Option<Id<'_>>,
    ) {
        let id = id.map(|id| id.as_json().into());
        self.unconfirmed.push(Unconfirmed { number, id, channel: channel.clone(), key, resolved });
    }

    /// Keeps credentials until they can be judged.
    pub fn wait_to_renew(&mut self, token: Option<&str>, id: Option<Id<'_>>, message: u32) {
        let id = id.map(|id| id.as_json().into());
        self.renewal = Some(Renewal { token: token.map(Into::into), id, message });
    }

    /// Takes out the publish of this number, whose outcome is known now.
    pub fn take_published(&mut self, number: u64) -> Option<Unconfirmed> {
        let index = self.unconfirmed.iter().position(|publish| publish.number == number)?;
        Some(self.unconfirmed.remove(index))
    }
}

/// Requests of one session that wait for the application or the broker. With so many, nothing more is read from the client.
pub const MAX_PENDING: usize = 16;

/// Messages that are remembered to count once. Requests that wait belong to fewer.
pub const REMEMBERED_ERRORS: usize = 32;
