//! What the dashboard is told: figures as one JSON text that stays small, whatever names there are.

use std::time::Duration;

use crate::close::CloseReason;
use crate::json::{push_number, push_string};
use crate::printable::shown;
use crate::refusal::Refusal;
use crate::stats::{Counters, Distribution, Snapshot, Totals};
use crate::transport::events::{Functions, Load};
use crate::transport::process::Process;
use crate::transport::shared::Shared;
use crate::transport::sights::{MOST_SLOW, ShardSight, SlowReader};
use crate::transport::survey::Row;

/// What was found out for one snapshot.
pub(crate) struct Figures<'a> {
    pub shared: &'a Shared,
    /// Unix time of the start, in milliseconds, and the time since then.
    pub started: u64,
    pub uptime: Duration,
    pub process: &'a Process,
    /// What each shard said last, and since when it owes an answer.
    pub shards: &'a [(Option<ShardSight>, Duration)],
    pub channels: &'a [Row],
}

impl Figures<'_> {
    /// Writes them.
    pub fn to_json(&self) -> Vec<u8> {
        let it = Snapshot::of(self.shared.counters.iter().map(|counters| &**counters));
        let (load, functions) = (self.shared.inbox.load(), self.shared.inbox.functions());
        let mut json = Json::default();
        for most in LETTERS {
            json = Json { most, ..Json::default() };
            json.out.push(b'{');
            self.server(&mut json);
            self.connections(&it, &mut json);
            self.deliveries(&it, &mut json);
            self.process(&mut json);
            python(&mut json, &load, &functions);
            self.channels(&mut json);
            self.slow(&mut json);
            if json.out.len() <= MOST_BYTES - FOR_SHARDS {
                break;
            }
        }
        self.shards(&mut json);
        json.out.push(b'}');
        json.out
    }

    fn server(&self, json: &mut Json) {
        let clock = &self.shared.clock;
        json.text("version", env!("CARGO_PKG_VERSION"));
        json.number("time", clock.unix_millis());
        json.number("started", self.started);
        json.decimal("uptimeSeconds", self.uptime.as_secs_f64());
        json.number("pid", std::process::id().into());
        json.key("draining");
        json.out.extend_from_slice(if self.shared.is_draining() { b"true" } else { b"false" });
    }

    fn connections(&self, it: &Snapshot, json: &mut Json) {
        let config = &self.shared.config;
        json.number("connections", it.connections);
        json.number("mostConnections", config.max_connections as u64);
        let away: usize = self.sights().map(|sight| sight.away).sum();
        json.number("sessionsAway", away as u64);
        json.number("maxAway", config.max_away.unwrap_or(config.max_connections) as u64);
        json.number("accepted", it.accepted);
        json.counts("refused", Refusal::LABELS.iter().zip(it.refusals));
        json.counts("closed", CloseReason::labels().zip(it.closed));
        json.number("blocked", it.blocked);
        json.number("subscriptions", it.subscriptions);
        json.number("recovered", it.recovered);
        json.number("unrecovered", it.unrecovered);
        json.number("received", it.received);
    }

    fn deliveries(&self, it: &Snapshot, json: &mut Json) {
        let Totals { channels, published, trimmed, log_bytes } = self.shared.broker.totals();
        let (config, budget) = (&self.shared.config, &self.shared.budget);
        json.number("publications", published);
        json.number("delivered", it.delivered);
        json.number("frames", it.frames);
        json.number("payloadSent", it.payload_sent);
        json.number("bytesSent", it.bytes_sent);
        json.number("payloadReceived", it.payload_received);
        json.number("bytesReceived", it.bytes_received);
        json.histogram("lateness", &it.lateness);
        json.histogram("tickLag", &it.tick_lag);
        json.histogram("tickDuration", &it.tick_duration);
        json.object("gaps", |json| {
            it.gaps_by_reason().iter().for_each(|(name, count)| json.number(name, *count))
        });
        json.number("lost", it.lost);
        json.number("trimmed", trimmed);
        json.number("logs", channels);
        json.number("logBytes", log_bytes);
        json.number("maxLogBytes", config.max_log_bytes as u64);
        json.number("heldBytes", budget.unfinished.bytes() as u64);
        json.number("maxHeldBytes", config.max_held_bytes as u64);
        json.number("panics", it.panics);
    }

    fn process(&self, json: &mut Json) {
        let it = self.process;
        json.object("process", |json| {
            if let Some(seconds) = it.cpu {
                json.decimal("cpuSeconds", seconds);
            }
            let known =
                [("residentBytes", it.resident_bytes), ("openFiles", it.files), ("maxFiles", it.most_files)];
            for (name, value) in known {
                if let Some(value) = value {
                    json.number(name, value);
                }
            }
        });
    }

    fn channels(&self, json: &mut Json) {
        json.list("channels", self.channels, |json, row| {
            json.name("name", row.name.as_str());
            json.number("readers", row.readers);
            json.number("published", row.published);
            json.number("bytes", row.bytes as u64);
            match row.rate {
                Some(rate) => json.decimal("rate", rate),
                None => json.null("rate"),
            }
        });
    }

    fn slow(&self, json: &mut Json) {
        let mut slow: Vec<&SlowReader> = self.sights().flat_map(|sight| &sight.slow).collect();
        slow.sort_by_key(|it| std::cmp::Reverse(it.lag));
        slow.truncate(MOST_SLOW);
        json.list("slow", slow, |json, it| {
            json.text("client", &it.client);
            json.name("subject", it.identity.as_ref().map_or("", |identity| &*identity.subject));
            json.name("channel", it.channel.as_str());
            json.number("channels", it.channels as u64);
            json.number("lag", it.lag);
            for (name, time) in [("age", it.age), ("stalled", it.stalled)] {
                match time {
                    Some(time) => json.millis(name, time),
                    None => json.null(name),
                }
            }
            json.number("buffered", it.buffered as u64);
        });
    }

    /// As many shards as there is room for.
    fn shards(&self, json: &mut Json) {
        json.key("shards");
        json.out.push(b'[');
        let mut shown = 0;
        for (counters, (sight, silent)) in self.shared.counters.iter().zip(self.shards) {
            let before = json.out.len();
            json.element(|json| shard(json, counters, sight.as_ref(), *silent));
            if json.out.len() > MOST_BYTES - FOR_END {
                json.out.truncate(before);
                break;
            }
            shown += 1;
        }
        json.out.push(b']');
        json.number("shardsLeftOut", (self.shards.len() - shown) as u64);
    }

    fn sights(&self) -> impl Iterator<Item = &ShardSight> {
        self.shards.iter().filter_map(|(sight, _)| sight.as_ref())
    }
}

fn shard(json: &mut Json, counters: &Counters, sight: Option<&ShardSight>, silent: Duration) {
    let it = Snapshot::of(std::iter::once(counters));
    json.number("connections", it.connections);
    json.number("blocked", it.blocked);
    json.number("delivered", it.delivered);
    json.number("frames", it.frames);
    json.number("bytesSent", it.bytes_sent);
    json.number("ticks", it.tick_lag.count());
    json.decimal("tickLagSeconds", it.tick_lag.sum.as_secs_f64());
    json.decimal("tickSeconds", it.tick_duration.sum.as_secs_f64());
    if let Some(sight) = sight {
        json.decimal("busy", sight.busy.as_secs_f64());
    }
    json.millis("silent", silent);
}

fn python(json: &mut Json, load: &Load, functions: &Functions) {
    json.number("logLinesDropped", load.log_lines_dropped);
    json.object("python", |json| {
        json.number("queueEvents", load.events);
        json.number("queueBytes", load.bytes);
        json.millis("queueAge", load.age);
        json.millis("silent", load.silent);
        json.number("running", load.running);
        json.number("called", load.called);
        json.decimal("calledSeconds", load.called_for.as_secs_f64());
        json.decimal("busySeconds", load.busy.as_secs_f64());
        json.number("runs", functions.runs);
        json.list("slowest", &functions.slowest, |json, it| {
            json.name("name", &it.name);
            json.number("calls", it.calls);
            json.decimal("seconds", it.seconds);
            json.decimal("max", it.longest * 1000.0);
        });
    });
}

/// JSON text that is being written.
#[derive(Debug, Default)]
struct Json {
    out: Vec<u8>,
    /// Characters that are shown of a name.
    most: usize,
}

impl Json {
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    fn key(&mut self, name: &str) {
        self.separate();
        push_string(name, &mut self.out);
        self.out.push(b':');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.key(name);
        push_number(value, &mut self.out);
    }

    fn decimal(&mut self, name: &str, value: f64) {
        self.key(name);
        self.out.extend_from_slice(format!("{value:.3}").as_bytes());
    }

    fn millis(&mut self, name: &str, time: Duration) {
        self.number(name, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    fn null(&mut self, name: &str) {
        self.key(name);
        self.out.extend_from_slice(b"null");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.key(name);
        push_string(text, &mut self.out);
    }

    /// A text that somebody else has chosen.
    fn name(&mut self, name: &str, text: &str) {
        self.text(name, &shown(text, self.most));
    }

    fn element(&mut self, write: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push(b'{');
        write(self);
        self.out.push(b'}');
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.key(name);
        self.element(write);
    }

    fn list<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        self.key(name);
        self.out.push(b'[');
        for item in items {
            self.element(|json| write(json, item));
        }
        self.out.push(b']');
    }

    /// Those that are not zero.
    fn counts<L: AsRef<str>>(&mut self, name: &str, counts: impl Iterator<Item = (L, u64)>) {
        self.object(name, |json| {
            for (label, count) in counts.filter(|(_, count)| *count > 0) {
                json.number(label.as_ref(), count);
            }
        });
    }

    fn histogram(&mut self, name: &str, it: &Distribution) {
        let bounds = POWERS.map(|power| (1_u64 << power) as f64 / 1000.0);
        let below = POWERS.map(|power| it.below(power));
        let ends = below.iter().copied().chain([it.count()]);
        let counts = ends.scan(0, |before, end| Some(end - std::mem::replace(before, end)));
        self.object(name, |json| {
            json.numbers("bounds", bounds);
            json.numbers("counts", counts);
        });
    }

    fn numbers<T: ToString>(&mut self, name: &str, numbers: impl IntoIterator<Item = T>) {
        self.key(name);
        let texts: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
        self.out.extend_from_slice(format!("[{}]", texts.join(",")).as_bytes());
    }
}

/// Bytes of a snapshot.
pub(crate) const MOST_BYTES: usize = 16 * 1024;

/// Room for the shards: 16 of them, and more where names are short.
const FOR_SHARDS: usize = 4 * 1024;

/// What comes after the shards.
const FOR_END: usize = 40;

/// Characters that are shown of each name, and what becomes of that when names are so long that not all would fit.
const LETTERS: [usize; 3] = [128, 40, 12];

/// Bounds of the buckets of histograms: 2 to these powers, in µs.
const POWERS: [u32; 15] = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22];
