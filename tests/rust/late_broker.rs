//! A broker for tests whose logs are elsewhere. Each log in this process is a copy, which the hub reads.
//!
//! Nothing happens by itself: steps say when a publication arrives there, when it fails, when the copy hears of it, what
//! the other side has dropped by then, and when its tail is lost, so that it goes on in a new epoch.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use umbel::broker::{Act, Broker, Confirmation, Log, Most, Notify, PublishError, Receipt, RoomFor, Watcher};
use umbel::change::StateRefusal;
use umbel::channel::{ChannelName, Name};
use umbel::moment::Moment;
use umbel::position::{Epoch, Position};
use umbel::publication::Content;
use umbel::rules::Rules;
use umbel::stats::Totals;

/// What happens elsewhere, in one channel.
#[derive(Clone, Copy, Debug)]
pub enum Elsewhere {
    /// The publication that waits longest arrives, and is confirmed.
    Arrive,
    /// The publication that waits longest fails: certainly, or perhaps.
    Fail { certain: bool },
    /// The copy, if it was notified, takes what came since. Of that only the newest so many are left.
    Hear { left: usize },
    /// The newest so many publications are lost, and a new epoch begins.
    LoseTail { count: usize },
}

pub struct LateBroker {
    rules: Arc<Rules>,
    channels: Mutex<HashMap<ChannelName, Channel>>,
}

struct Channel {
    number: u64,
    under_way: VecDeque<UnderWay>,
    /// The epochs there, the present one last.
    epochs: Vec<History>,
    copy: Arc<Log>,
    /// The epoch that the copy is in.
    heard: usize,
    readers: usize,
    notified: bool,
}

struct UnderWay {
    entry: Entry,
    confirmation: Confirmation,
}

#[derive(Clone)]
struct Entry {
    data: Vec<u8>,
    key: Option<String>,
    at: Moment,
}

struct History {
    epoch: Epoch,
    /// Up to here it is the epoch before.
    common: u64,
    entries: Vec<Entry>,
}

impl LateBroker {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, channels: Mutex::default() }
    }

    pub fn act(&self, name: &ChannelName, step: Elsewhere) {
        self.with(name, |channel| match step {
            Elsewhere::Arrive => channel.arrive(),
            Elsewhere::Fail { certain } => channel.fail(certain),
            Elsewhere::Hear { left } if channel.notified => channel.hear(left),
            Elsewhere::Hear { .. } => {}
            Elsewhere::LoseTail { count } => channel.lose_tail(count),
        });
    }

    /// Everything arrives, and every copy that was notified hears of it.
    pub fn settle(&self) {
        for channel in self.lock().values_mut() {
            while !channel.under_way.is_empty() {
                channel.arrive();
            }
            if channel.notified {
                channel.hear(usize::MAX);
            }
        }
    }

    /// Where the copy of a channel ends.
    pub fn top(&self, name: &ChannelName) -> Position {
        self.with(name, |channel| channel.copy.position())
    }

    /// Everything that was published, by channel and epoch. An epoch has what is common with the one before it, too.
    pub fn histories(&self) -> HashMap<(String, String), Vec<Value>> {
        let parse = |entry: &Entry| serde_json::from_slice(&entry.data).expect("JSON was published");
        let channels = self.lock();
        let histories = channels.iter().flat_map(|(name, channel)| {
            let name = name.to_string();
            channel.epochs.iter().map(move |history| {
                let entries = history.entries.iter().map(parse).collect();
                ((name.clone(), history.epoch.to_string()), entries)
            })
        });
        histories.collect()
    }

    fn with<T>(&self, name: &ChannelName, act: impl FnOnce(&mut Channel) -> T) -> T {
        let mut channels = self.lock();
        let number = channels.len() as u64;
        let make = || {
            let epoch = Epoch::new(number << 32);
            let log = Log::new(name, Position { epoch, offset: 0 }, self.rules.retention(name));
            Channel {
                number,
                under_way: VecDeque::new(),
                epochs: vec![History { epoch, common: 0, entries: Vec::new() }],
                copy: Arc::new(log),
                heard: 0,
                readers: 0,
                notified: false,
            }
        };
        act(channels.entry(name.clone()).or_insert_with(make))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Channel>> {
        self.channels.lock().expect("no test panics here")
    }
}

impl Channel {
    fn present(&mut self) -> &mut History {
        self.epochs.last_mut().expect("there is always an epoch")
    }

    fn store(&mut self, entry: Entry) -> Position {
        self.notified |= self.readers > 0;
        let present = self.present();
        present.entries.push(entry);
        Position { epoch: present.epoch, offset: present.entries.len() as u64 }
    }

    fn arrive(&mut self) {
        let Some(UnderWay { entry, confirmation }) = self.under_way.pop_front() else { return };
        confirmation.resolve(Ok(self.store(entry)));
    }

    fn fail(&mut self, certain: bool) {
        let Some(UnderWay { entry, confirmation }) = self.under_way.pop_front() else { return };
        if certain {
            confirmation.resolve(Err(PublishError::NotPublished("refused".into())));
        } else if entry.data.len().is_multiple_of(2) {
            self.store(entry);
        }
    }

    fn lose_tail(&mut self, count: usize) {
        self.notified |= self.readers > 0;
        let number = self.epochs.len() as u64;
        let mut entries = self.present().entries.clone();
        entries.truncate(entries.len().saturating_sub(count));
        self.epochs.push(History {
            epoch: Epoch::new(self.number << 32 | number),
            common: entries.len() as u64,
            entries,
        });
    }

    fn hear(&mut self, left: usize) {
        self.notified = false;
        for histories in self.epochs[self.heard..].windows(2) {
            self.copy.begin(Position { epoch: histories[1].epoch, offset: histories[1].common });
            // An answer that was under way when the epoch changed: the copy does not take it.
            self.copy_from(&histories[0], 0);
        }
        self.heard = self.epochs.len() - 1;
        let present = &self.epochs[self.heard];
        self.copy_from(present, present.entries.len().saturating_sub(left.max(1)));
    }

    fn copy_from(&self, History { epoch, entries, .. }: &History, first: usize) {
        let first = first.max(self.copy.position().offset as usize);
        for (index, entry) in entries.iter().enumerate().skip(first) {
            let position = Position { epoch: *epoch, offset: index as u64 + 1 };
            self.copy.extend(position, &Content::new(&entry.data, entry.key.as_deref()), entry.at);
        }
    }
}

impl Broker for LateBroker {
    fn append(&self, channel: Name<'_>, content: Content<'_>, now: Moment) -> Receipt {
        let (receipt, confirmation) = Receipt::pending();
        let entry = Entry { data: content.data.into(), key: content.key.map(str::to_owned), at: now };
        self.with(&channel.to_channel(), |channel| {
            channel.under_way.push_back(UnderWay { entry, confirmation })
        });
        receipt
    }

    fn append_all(
        &self,
        channel: &ChannelName,
        contents: &[Content<'_>],
        now: Moment,
    ) -> Result<(), StateRefusal> {
        for content in contents {
            let _ = self.append(channel.as_name(), *content, now);
        }
        Ok(())
    }

    fn reset_state(&self, channel: &ChannelName, only: Content<'_>, now: Moment) {
        let _ = self.append(channel.as_name(), only, now);
    }

    fn promise(&self, channel: &ChannelName, now: Moment) -> Position {
        self.with(channel, |channel| {
            channel.hear(usize::MAX);
            channel.copy.promise(now)
        })
    }

    fn watch(&self, channel: &ChannelName, notify: Arc<dyn Notify>) -> (Arc<Log>, Arc<Watcher>) {
        self.with(channel, |channel| {
            // First the interest is noted, then the copy is filled: what arrives between the two is notified.
            channel.readers += 1;
            channel.arrive();
            channel.hear(usize::MAX);
            (Arc::clone(&channel.copy), channel.copy.watch(notify).0)
        })
    }

    fn trim(&self, channel: &ChannelName, now: Moment) {
        self.with(channel, |channel| channel.copy.trim(now));
    }

    fn when_room(&self, channel: &ChannelName, who: RoomFor, act: Act) -> bool {
        self.with(channel, |channel| channel.copy.when_room(who, act))
    }

    fn history(&self, channel: &ChannelName, after: Option<Position>, most: Most) -> umbel::broker::History {
        self.with(channel, |channel| channel.copy.history(after, most))
    }

    fn entry(&self, channel: Name<'_>, key: &str, base: Option<Position>) -> Option<umbel::broker::Found> {
        self.with(&channel.to_channel(), |channel| Some(channel.copy.find(key, base)))
    }

    fn state_after(
        &self,
        channel: &ChannelName,
        offset: u64,
        most: Most,
    ) -> Option<umbel::broker::StatePart> {
        self.with(channel, |channel| Some(channel.copy.state_after(offset, most)))
    }

    fn readers(&self, channel: &ChannelName) -> u64 {
        self.with(channel, |channel| channel.copy.readers())
    }

    fn is_over(&self, channel: &ChannelName, position: Position) -> bool {
        self.with(channel, |channel| channel.copy.is_finished() && channel.copy.position() == position)
    }

    fn finish(&self, channel: &ChannelName) {
        self.with(channel, |channel| channel.copy.finish());
    }

    fn forget(&self, _: &ChannelName, _: Moment) {}

    fn unwatch(&self, channel: &ChannelName, watcher: &Arc<Watcher>) {
        self.with(channel, |channel| {
            channel.readers -= 1;
            channel.copy.unwatch(watcher);
        });
    }

    fn tidy(&self, _: Moment) -> bool {
        false
    }

    fn totals(&self) -> Totals {
        Totals { channels: self.lock().len() as u64, published: 0, trimmed: 0, log_bytes: 0 }
    }
}
