//! The requests of one client that are not done yet, and the publishes that are remembered.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::channel::ChannelName;
use crate::error_code::ErrorCode;
use crate::position::Position;
use crate::protocol::message::Id;

/// What a client wants of one channel.
#[derive(Debug)]
pub(super) enum Action {
    Subscribe { from: Option<Position> },
    Unsubscribe,
    Publish { data: Bytes, key: Option<Box<str>> },
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Request {
    waits_for: WaitsFor,
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
}

/// Nearly all sessions have none of this most of the time.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last_number: u64,
    waiting: Vec<Request>,
    unconfirmed: Vec<Unconfirmed>,
    remembered: VecDeque<Remembered>,
}

/// A publish that had an `id` and is in the log. A repetition is answered, not published.
#[derive(Debug)]
struct Remembered {
    id: Box<str>,
    channel: ChannelName,
    offset: u64,
}

impl Requests {
    /// Whether the session has as many requests under way as it may have.
    pub fn is_full(&self) -> bool {
        self.waiting.len() + self.unconfirmed.len() >= MAX_PENDING
    }

    /// A number that no other question or publish of this session has.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Whether an earlier request about this channel waits.
    pub fn waits_for(&self, channel: &ChannelName) -> bool {
        self.waiting.iter().any(|request| request.channel == *channel)
    }

    /// Keeps a request until the application has decided about the question of this number.
    pub fn wait_for_decision(
        &mut self,
        number: u64,
        channel: ChannelName,
        action: Action,
        id: Option<Id<'_>>,
    ) {
        self.push(WaitsFor::Decision(number), channel, action, id);
    }

    /// Keeps a request until those before it are done.
    pub fn wait_for_earlier(&mut self, channel: ChannelName, action: Action, id: Option<Id<'_>>) {
        self.push(WaitsFor::EarlierRequest, channel, action, id);
    }

    fn push(&mut self, waits_for: WaitsFor, channel: ChannelName, action: Action, id: Option<Id<'_>>) {
        self.waiting.push(Request { waits_for, id: id.map(|id| id.as_json().into()), channel, action });
    }

    /// Takes out the request whose question has this number.
    pub fn take_decided(&mut self, number: u64) -> Option<Request> {
        let is_it = |request: &Request| request.waits_for == WaitsFor::Decision(number);
        let index = self.waiting.iter().position(is_it)?;
        Some(self.waiting.remove(index))
    }

    /// Takes out, in their order, all requests about a channel.
    pub fn take_channel(&mut self, channel: &ChannelName) -> Vec<Request> {
        self.waiting.extract_if(.., |request| request.channel == *channel).collect()
    }

    /// The offset of an earlier publish with this `id` in this channel.
    pub fn recall(&self, id: Id<'_>, channel: &ChannelName) -> Option<u64> {
        let is_it = |other: &&Remembered| *other.id == *id.as_json() && other.channel == *channel;
        self.remembered.iter().find(is_it).map(|remembered| remembered.offset)
    }

    /// Remembers a publish. The oldest one is forgotten for it.
    pub fn remember(&mut self, id: &str, channel: &ChannelName, offset: u64) {
        if self.remembered.len() >= REMEMBERED_PUBLISHES {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Remembered { id: id.into(), channel: channel.clone(), offset });
    }

    /// Keeps a publish until the broker has confirmed it.
    pub fn wait_for_broker(&mut self, number: u64, channel: &ChannelName, id: Option<Id<'_>>) {
        let id = id.map(|id| id.as_json().into());
        self.unconfirmed.push(Unconfirmed { number, id, channel: channel.clone() });
    }

    /// Lets a publish have the outcome of an unconfirmed one with this `id` in this channel. Returns `false` when there is
    /// none.
    pub fn wait_for_same(&mut self, id: Id<'_>, channel: &ChannelName) -> bool {
        let is_it =
            |other: &&Unconfirmed| other.id.as_deref() == Some(id.as_json()) && other.channel == *channel;
        let number = self.unconfirmed.iter().find(is_it).map(|publish| publish.number);
        number.map(|number| self.wait_for_broker(number, channel, Some(id))).is_some()
    }

    /// Takes out the publish of this number, whose outcome is known now, and its repetitions. One that succeeded is
    /// remembered. One that failed may be tried again.
    pub fn take_published(&mut self, number: u64, outcome: Result<u64, ErrorCode>) -> Vec<Unconfirmed> {
        let taken: Vec<_> = self.unconfirmed.extract_if(.., |publish| publish.number == number).collect();
        if let (Some(Unconfirmed { id: Some(id), channel, .. }), Ok(offset)) = (taken.first(), outcome) {
            self.remember(id, channel, offset);
        }
        taken
    }
}

/// Requests of one session that wait for the application or the broker. With so many, nothing more is read from the client.
pub const MAX_PENDING: usize = 16;

/// Publishes of one session whose `id` is remembered.
pub const REMEMBERED_PUBLISHES: usize = 32;
