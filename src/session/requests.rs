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

/// A publish that had an `id`. A repetition is answered, not published.
#[derive(Debug)]
struct Remembered {
    id: Box<str>,
    channel: ChannelName,
    /// `None` until the broker has confirmed it.
    offset: Option<u64>,
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

    /// What became of an earlier publish with this `id` in this channel: `Some(None)` while nobody knows.
    pub fn recall(&self, id: Id<'_>, channel: &str) -> Option<Option<u64>> {
        let is_it = |other: &&Remembered| *other.id == *id.as_json() && other.channel.as_str() == channel;
        self.remembered.iter().find(is_it).map(|remembered| remembered.offset)
    }

    /// Remembers a publish; `None` as offset while it is not confirmed. The oldest one is forgotten for it.
    pub fn remember(&mut self, id: Id<'_>, channel: &ChannelName, offset: Option<u64>) {
        if self.remembered.len() >= REMEMBERED_PUBLISHES {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Remembered { id: id.as_json().into(), channel: channel.clone(), offset });
    }

    /// Notes a publish that the broker will confirm later.
    pub fn publish_later(&mut self, number: u64, channel: &ChannelName, id: Option<Id<'_>>) {
        if let Some(id) = id {
            self.remember(id, channel, None);
        }
        let id = id.map(|id| id.as_json().into());
        self.unconfirmed.push(Unconfirmed { number, id, channel: channel.clone() });
    }

    /// Takes out the publish of this number, whose outcome is known now. One that failed may be tried again.
    pub fn take_published(&mut self, number: u64, outcome: Result<u64, ErrorCode>) -> Option<Unconfirmed> {
        let index = self.unconfirmed.iter().position(|publish| publish.number == number)?;
        let publish = self.unconfirmed.remove(index);
        let is_it =
            |other: &Remembered| publish.id.as_ref() == Some(&other.id) && other.channel == publish.channel;
        if let Some(place) = self.remembered.iter().position(is_it) {
            match outcome {
                Ok(offset) => self.remembered[place].offset = Some(offset),
                Err(_) => drop(self.remembered.remove(place)),
            }
        }
        Some(publish)
    }
}

/// Requests of one session that wait for the application or the broker. With so many, nothing more is read from the client.
pub const MAX_PENDING: usize = 16;

/// Publishes of one session whose `id` is remembered.
pub const REMEMBERED_PUBLISHES: usize = 32;
