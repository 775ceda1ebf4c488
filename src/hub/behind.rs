//! Readers whose sockets take nothing, for an operator who looks. Nothing of it is counted while frames are delivered.

use crate::broker::Most;
use crate::channel::ChannelName;
use crate::hub::keys::ReaderKey;
use crate::hub::subscriptions::Hub;
use crate::moment::Moment;

/// A reader that is blocked.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'a> {
    /// Which one.
    pub reader: ReaderKey,
    /// The channel in which it is furthest behind.
    pub channel: &'a ChannelName,
    /// In how many channels it is behind.
    pub channels: usize,
    /// How many publications of that channel it was not offered yet.
    pub lag: u64,
}

/// Shows some of the readers that are blocked, and returns where to go on. `None`: there are no others.
pub fn see_blocked(hub: &Hub, from: usize, mut see: impl FnMut(Behind<'_>)) -> Option<usize> {
    if hub.counters.blocked.load() == 0 {
        return None;
    }
    let mut work = 0;
    for (index, state) in hub.readers.iter().enumerate().skip(from) {
        if work >= AT_ONCE {
            return Some(index);
        }
        work += 1;
        if !state.blocked {
            continue;
        }
        work += state.cursors.len() * A_CHANNEL;
        let lags = state.cursors.iter().map(|cursor| {
            let feed = &hub.feeds[cursor.feed as usize];
            (feed.log.top().offset().saturating_sub(cursor.place.offset()), &feed.name)
        });
        let channels = lags.clone().filter(|(lag, _)| *lag > 0).count();
        if let Some((lag, channel)) = lags.max_by_key(|(lag, _)| *lag) {
            see(Behind { reader: index as ReaderKey, channel, channels, lag });
        }
    }
    None
}

/// When the oldest publication came that a reader was not offered. `None`: it was offered all of the channel, or the channel has it no more.
pub fn waits_since(hub: &Hub, reader: ReaderKey, channel: &str) -> Option<Moment> {
    let cursor = hub.readers.get(reader as usize)?.cursors.get(hub.cursor(reader, channel)?)?;
    let log = &hub.feeds[cursor.feed as usize].log;
    let oldest = log.history(Some(log.position_of(cursor.place)), Most { count: 1, bytes: 0 });
    oldest.entries.first().map(|entry| entry.appended)
}

/// Readers that are looked at between two looks at the sockets: some 20 µs.
const AT_ONCE: usize = 4096;

/// What a channel of a blocked reader costs of that.
const A_CHANNEL: usize = 16;
