//! The channels in which most happens. They are found by going through all of them while somebody looks; a publication costs no more for it.

use tokio::task::yield_now;

use crate::broker::{Broker, Sight, Surveyed};
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::transport::clock::Clock;

/// A round through all channels, and what the last one has found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    at: Surveyed,
    began: Option<Moment>,
    /// When the round before began.
    before: Option<Moment>,
    rows: Vec<Row>,
    /// What the last whole round has found: where most was published, then those with most readers.
    pub top: Vec<Row>,
}

/// One of these channels.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub name: ChannelName,
    pub readers: u64,
    /// The offset of its newest publication.
    pub published: u64,
    pub bytes: usize,
    /// Publications per second since the round before. `None`: this was the first one.
    pub rate: Option<f64>,
    news: u32,
}

impl Row {
    fn rank(&self) -> (u32, u64) {
        (self.news, self.readers)
    }
}

impl Survey {
    /// Goes on. Of very many channels, a round takes more than one call.
    pub async fn go_on(&mut self, broker: &dyn Broker, clock: &Clock) {
        let began = *self.began.get_or_insert_with(|| clock.now());
        let (mut seen, is_first) = (0, self.before.is_none());
        while seen < MOST_AT_ONCE {
            let rows = &mut self.rows;
            let next = broker.survey(self.at, &mut |sight| {
                seen += 1;
                note(rows, &sight, is_first);
            });
            let Some(next) = next else { return self.end(began) };
            self.at = next;
            // Others have their turn.
            yield_now().await;
        }
    }

    fn end(&mut self, began: Moment) {
        let seconds = self.before.map(|before| began.since(before).as_secs_f64());
        self.top = std::mem::take(&mut self.rows);
        for row in &mut self.top {
            row.rate = seconds.filter(|seconds| *seconds > 0.0).map(|seconds| f64::from(row.news) / seconds);
        }
        (self.at, self.began, self.before) = (Surveyed::default(), None, Some(began));
    }
}

/// Keeps a channel among those in which most happens. What is new to the first round is not of the last second.
fn note(rows: &mut Vec<Row>, sight: &Sight<'_>, is_first: bool) {
    let Sight { name, readers, published, news, bytes } = *sight;
    let news = if is_first { 0 } else { news };
    if rows.len() == MOST_ROWS && rows.last().is_some_and(|last| last.rank() >= (news, readers)) {
        return;
    }
    if rows.iter().any(|row| row.name == *name) {
        return; // its table has grown meanwhile
    }
    let place = rows.partition_point(|row| row.rank() >= (news, readers));
    rows.insert(place, Row { name: name.clone(), readers, published, bytes, rate: None, news });
    rows.truncate(MOST_ROWS);
}

/// Channels that are shown.
const MOST_ROWS: usize = 20;

/// Channels that are gone through in a second: 10 ms of processor time.
const MOST_AT_ONCE: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::broker::memory::MemoryBroker;
    use crate::channel::Name;
    use crate::publication::Content;
    use crate::rules::Rules;

    #[test]
    fn where_most_was_published_since_the_round_before_comes_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (broker, clock) = (MemoryBroker::new(Arc::<Rules>::default(), 64 << 20), Clock::new());
        let publish = |channel: &str, count: usize| {
            for _ in 0..count {
                let name = Name::new(channel).expect("a legal name");
                let _ = broker.append(name, Content::new(b"1", None), clock.now());
            }
        };
        (0..3000).for_each(|number| publish(&format!("many:{number}"), 1));
        publish("busy", 50);
        let mut survey = Survey::default();
        let mut round = || {
            runtime.block_on(survey.go_on(&broker, &clock));
            survey.top.iter().map(|row| (row.name.to_string(), row.published, row.rate)).collect::<Vec<_>>()
        };
        let first = round();
        assert_eq!(first.len(), 20);
        assert!(first.iter().all(|(_, _, rate)| rate.is_none()));
        publish("new", 3);
        publish("many:7", 2);
        clock.advance(Duration::from_secs(1));
        let second = round();
        assert_eq!([&*second[0].0, &*second[1].0], ["new", "many:7"]);
        assert_eq!([second[0].1, second[1].1], [3, 3]);
        assert!(second[0].2 > Some(0.0) && second[0].2 <= Some(3.0), "{second:?}");
        clock.advance(Duration::from_secs(1));
        assert!(round().iter().all(|(_, _, rate)| *rate == Some(0.0)), "each is new once");
    }
}
