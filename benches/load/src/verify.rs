//! The full check, done on a sample of the connections: inflate, parse as JSON, follow every channel's position.

use std::collections::HashMap;

use flate2::{Decompress, FlushDecompress, Status};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    updates: Vec<Update<'a>>,
    count: u64,
}

#[derive(Deserialize)]
struct Update<'a> {
    channel: &'a str,
    offset: u64,
    from: Option<u64>,
    /// `None`: it removes a key.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Timed {
    t: u64,
}

#[derive(Deserialize)]
struct Gap {
    channel: String,
    #[serde(default)]
    epoch: String,
    from: u64,
    to: u64,
}

/// A `subscription_established`. The floor program says no more than the channel and the offset.
#[derive(Deserialize)]
pub struct Subscribed {
    channel: String,
    #[serde(default)]
    pub epoch: String,
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub top: u64,
    pub recovered: Option<bool>,
    #[serde(default)]
    reason: String,
}

/// What a client does not get that comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed {
    Nothing,
    Known(u64),
    Unknown,
}

impl Subscribed {
    pub fn read(message: &[u8]) -> Result<Self, String> {
        parse(message)
    }

    /// What is missing after the offset that was asked for, if one was.
    pub fn missed(&self, asked: Option<u64>) -> Result<Missed, String> {
        match (asked, self.recovered) {
            (None, None) => Ok(Missed::Nothing),
            // All of a state follows.
            (None, Some(false)) if self.reason == "new" => Ok(Missed::Nothing),
            (Some(asked), Some(true)) if self.offset == asked => Ok(Missed::Nothing),
            (Some(asked), Some(false)) => match self.reason.as_str() {
                "trimmed" if self.offset > asked => Ok(Missed::Known(self.offset - asked)),
                "epoch" | "ahead" => Ok(Missed::Unknown),
                _ => Err("not recovered, and the reason does not fit".into()),
            },
            (Some(_), Some(true)) => Err("recovered, but at another offset".into()),
            (None, Some(_)) | (Some(_), None) => Err("`recovered` is no answer to a position".into()),
        }
    }
}

/// Where a reader stands in a channel, and how far the channel reached when it was subscribed.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub epoch: String,
    pub offset: u64,
    pub top: u64,
}

/// Positions of one sampled connection, by channel.
#[derive(Default)]
pub struct Verifier {
    places: HashMap<String, Place>,
}

/// What one message said, once it was found right.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Checked {
    pub updates: u64,
    pub lost: u64,
}

impl Verifier {
    /// Notes where a subscription begins. A client that comes back has named its place.
    pub fn subscribed(&mut self, begun: &Subscribed, comes_back: bool) -> Result<Missed, String> {
        let place = self.places.entry(begun.channel.clone()).or_default();
        let missed = begun.missed(comes_back.then_some(place.offset));
        *place = Place { epoch: begun.epoch.clone(), offset: begun.offset, top: begun.top };
        missed
    }

    pub fn places(&self) -> Vec<(String, Place)> {
        self.places.iter().map(|(channel, place)| (channel.clone(), place.clone())).collect()
    }

    /// Whether all that the channels had when they were subscribed has come.
    pub fn is_at_top(&self) -> bool {
        self.places.values().all(|place| place.offset >= place.top)
    }

    /// Checks that each update continues its channel and hands over the publishing times.
    pub fn batch(&mut self, message: &[u8], mut on_time: impl FnMut(u64)) -> Result<Checked, String> {
        let batch: Batch = parse(message)?;
        if batch.count != batch.updates.len() as u64 {
            return Err("count is not the number of updates".into());
        }
        for update in &batch.updates {
            let before = update.from.unwrap_or(update.offset.wrapping_sub(1));
            let place = self.places.get_mut(update.channel).ok_or("a channel not subscribed to")?;
            let position = std::mem::replace(&mut place.offset, update.offset);
            if position != before {
                let fault = if before > position { "updates missing" } else { "updates repeated" };
                return Err(fault.into());
            }
            if let Some(data) = update.data
                && let Ok(timed) = serde_json::from_str::<Timed>(data.get())
            {
                on_time(timed.t);
            }
        }
        Ok(Checked { updates: batch.count, lost: 0 })
    }

    pub fn gap(&mut self, message: &[u8]) -> Result<Checked, String> {
        let gap: Gap = parse(message)?;
        let place = self.places.get_mut(&gap.channel).ok_or("a gap in a channel not subscribed to")?;
        let lost = gap_size(place.offset, gap.from, gap.to)?;
        (place.epoch, place.offset) = (gap.epoch, gap.to);
        Ok(Checked { updates: 0, lost })
    }
}

/// How many publications a gap announces, counted from the reader's position. `from` may be that position (the range
/// then excludes it, like the `from` of a folded update) or the first publication lost.
pub fn gap_size(position: u64, from: u64, to: u64) -> Result<u64, String> {
    if (from == position || from == position + 1) && to >= position {
        Ok(to - position)
    } else {
        Err(format!(
            "a gap that does not begin at the position ({})",
            if from > position { "later" } else { "earlier" }
        ))
    }
}

fn parse<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(message).map_err(|error| format!("unexpected JSON: {error}"))
}

/// Inflates single messages. Servers are asked for no context takeover, so one serves all connections.
pub struct Inflater {
    decompress: Decompress,
    pub output: Vec<u8>,
}

impl Inflater {
    pub fn new() -> Self {
        Self { decompress: Decompress::new(false), output: Vec::with_capacity(1 << 16) }
    }

    /// Inflates into `output`.
    pub fn inflate(&mut self, payload: &[u8]) -> Result<(), String> {
        self.decompress.reset(false);
        self.output.clear();
        // RFC 7692 section 7.2.2: the sender took these four bytes off the end of the message.
        for part in [payload, &[0, 0, 0xff, 0xff]] {
            let start = self.decompress.total_in();
            while ((self.decompress.total_in() - start) as usize) < part.len() {
                self.output.reserve(1 << 14);
                let rest = &part[(self.decompress.total_in() - start) as usize..];
                let status = self
                    .decompress
                    .decompress_vec(rest, &mut self.output, FlushDecompress::Sync)
                    .map_err(|error| format!("deflate: {error}"))?;
                if status == Status::StreamEnd {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(rest: &str) -> Subscribed {
        let message =
            format!(r#"{{"type":"subscription_established","channel":"c","epoch":"e","top":6,{rest}}}"#);
        Subscribed::read(message.as_bytes()).unwrap()
    }

    fn subscribed() -> Verifier {
        let mut verifier = Verifier::default();
        assert_eq!(verifier.subscribed(&begun(r#""offset":4"#), false), Ok(Missed::Nothing));
        verifier
    }

    #[test]
    fn who_comes_back_goes_on_at_its_place_or_is_told_what_it_missed() {
        let answers = [
            (r#""offset":4,"recovered":true"#, Ok(Missed::Nothing)),
            (r#""offset":6,"recovered":false,"reason":"trimmed""#, Ok(Missed::Known(2))),
            (r#""offset":6,"recovered":false,"reason":"epoch""#, Ok(Missed::Unknown)),
        ];
        for (answer, missed) in answers {
            assert_eq!(subscribed().subscribed(&begun(answer), true), missed, "{answer}");
        }
        for wrong in [
            r#""offset":5,"recovered":true"#,
            r#""offset":3,"recovered":true"#,
            r#""offset":4,"recovered":false,"reason":"trimmed""#,
            r#""offset":6,"recovered":false"#,
            r#""offset":4"#,
        ] {
            assert!(subscribed().subscribed(&begun(wrong), true).is_err(), "{wrong}");
        }
        assert!(subscribed().subscribed(&begun(r#""offset":4,"recovered":true"#), false).is_err());
        let state = begun(r#""offset":0,"state":true,"recovered":false,"reason":"new""#);
        assert_eq!(Verifier::default().subscribed(&state, false), Ok(Missed::Nothing));
    }

    #[test]
    fn who_has_come_back_is_at_the_top_with_the_last_update() {
        let mut verifier = subscribed();
        verifier.subscribed(&begun(r#""offset":4,"recovered":true"#), true).unwrap();
        for (offset, there) in [(5, false), (6, true)] {
            let message = format!(
                r#"{{"type":"batched_updates","updates":[{{"channel":"c","offset":{offset},"data":{{}}}}],"count":1}}"#
            );
            verifier.batch(message.as_bytes(), |_| ()).unwrap();
            assert_eq!(verifier.is_at_top(), there);
        }
        assert_eq!(verifier.places()[0].1.offset, 6);
    }

    #[test]
    fn contiguous_updates_pass_and_give_their_times() {
        let mut times = Vec::new();
        let message = br#"{"type":"batched_updates","updates":[{"channel":"c","offset":5,"data":{"t":1}},{"channel":"c","offset":8,"from":5,"data":{"t":2}}],"count":2}"#;
        assert_eq!(subscribed().batch(message, |time| times.push(time)).unwrap().updates, 2);
        assert_eq!(times, [1, 2]);
    }

    #[test]
    fn a_hole_without_a_gap_is_found_and_one_with_a_gap_is_counted() {
        let message =
            br#"{"type":"batched_updates","updates":[{"channel":"c","offset":9,"data":{}}],"count":1}"#;
        assert!(subscribed().batch(message, |_| ()).is_err());
        let mut verifier = subscribed();
        let gap = br#"{"type":"gap","channel":"c","epoch":"e","from":4,"to":8,"reason":"overrun"}"#;
        assert_eq!(verifier.gap(gap).unwrap().lost, 4);
        assert!(verifier.batch(message, |_| ()).is_ok());
    }

    #[test]
    fn inflates_what_a_server_without_context_takeover_sends() {
        let text = b"umbel umbel umbel".repeat(5000);
        let mut compress = flate2::Compress::new(flate2::Compression::fast(), false);
        let mut packed = Vec::with_capacity(1 << 16);
        compress.compress_vec(&text, &mut packed, flate2::FlushCompress::Sync).unwrap();
        assert_eq!(packed.split_off(packed.len() - 4), [0, 0, 0xff, 0xff]);
        let mut inflater = Inflater::new();
        for _ in 0..2 {
            inflater.inflate(&packed).unwrap();
            assert_eq!(inflater.output, text);
        }
    }
}
