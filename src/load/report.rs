//! What is counted, and the JSON object it becomes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::load::clock;
use crate::load::comeback::Returns;
use crate::load::config::{Config, Kind};
use crate::load::histogram::Histogram;
use crate::printable::shown;

/// Counters over the whole run; a window is the difference of two copies.
#[derive(Clone, Copy, Default)]
pub struct Counters {
    /// Nanoseconds of polling that found nothing.
    pub idle: u64,
    pub receives: u64,
    /// Data messages (one WebSocket frame each, unless the server fragments).
    pub frames: u64,
    /// Bytes of data frames on the wire, headers included.
    pub bytes: u64,
    pub compressed_frames: u64,
    /// Updates in frames that were looked into.
    pub messages: u64,
    pub counted_frames: u64,
    pub checked_updates: u64,
    pub gaps: u64,
    pub lost: u64,
    /// Holes without a gap, where they are allowed (`--lossy`).
    pub missing: u64,
    pub pings: u64,
    /// Answers to `publish`.
    pub published_answers: u64,
    /// Right answers to requests.
    pub answers: u64,
    /// Messages of type `error`.
    pub errors: u64,
    /// Channels that were asked for, and requests.
    pub subscribes: u64,
    pub asked: u64,
    /// Updates of the readers that are not cut (`--others`).
    pub others_messages: u64,
}

#[derive(Default)]
struct Moment {
    at: u64,
    own_cpu: u64,
    server_threads: BTreeMap<String, u64>,
    counters: Counters,
    connects: u64,
}

impl Moment {
    fn server_cpu(&self) -> u64 {
        self.server_threads.values().sum()
    }
}

#[derive(Default)]
pub struct Report {
    pub counters: Counters,
    begin: Moment,
    end: Moment,
    pub recording: bool,
    /// Connections that were begun.
    pub attempts: u64,
    pub connects: u64,
    /// From the beginning of a connection to its `connection_established`.
    pub established: Histogram,
    /// How late the load was when it published.
    pub lateness: Histogram,
    /// As the last row said.
    pub told: Counters,
    pub told_oldest: Histogram,
    pub told_published: u64,
    /// Connections that failed before they were open, by reason.
    pub failures: BTreeMap<String, u64>,
    pub most_live: usize,
    /// How long all of it took.
    pub seconds: f64,
    /// It was not stopped before the end of its window.
    pub is_complete: bool,
    pub connect_time: Histogram,
    pub open_seconds: f64,
    pub deflate_agreed: u64,
    /// Age of the oldest update of each frame, all connections.
    pub oldest: Histogram,
    /// Age of the newest update of each frame, all connections.
    pub newest: Histogram,
    /// Age of every update, sampled connections.
    pub every: Histogram,
    /// Age of the oldest update of each frame, on the connections that are not cut: in the window, and before it.
    pub others: Histogram,
    pub others_quiet: Histogram,
    pub returns: Returns,
    pub pong: Histogram,
    /// From a request to its answer.
    pub answer: Histogram,
    pub live: usize,
    /// Never-reading connections that the server has not closed.
    pub slow_open: usize,
    pub positions: Option<(u64, u64)>,
    pub others_positions: Option<(u64, u64)>,
    pub published: u64,
    /// The last message without a marker, as long as none had one.
    pub unmarked: Option<String>,
    faults: BTreeMap<String, u64>,
}

impl Report {
    /// Counts something that must not happen.
    pub fn fault(&mut self, reason: &str) {
        count(&mut self.faults, reason);
    }

    /// Counts a connection that could not be opened.
    pub fn failed(&mut self, reason: &str) {
        count(&mut self.failures, reason);
    }

    pub fn begin_window(&mut self, server: Option<i32>) {
        let ages = [&mut self.oldest, &mut self.newest, &mut self.every];
        let ages = ages.into_iter().chain([&mut self.others, &mut self.pong, &mut self.answer]);
        ages.for_each(Histogram::clear);
        self.told_oldest.clear();
        self.recording = true;
        self.begin = self.moment(server);
    }

    pub fn end_window(&mut self, server: Option<i32>) {
        self.end = self.moment(server);
        self.recording = false;
    }

    fn moment(&self, server: Option<i32>) -> Moment {
        Moment {
            at: clock::now(),
            own_cpu: clock::own_cpu(),
            server_threads: server.map(clock::thread_cpu).unwrap_or_default(),
            counters: self.counters,
            connects: self.connects,
        }
    }

    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    pub fn to_json(&self, config: &Config) -> Value {
        let (begin, end) = (&self.begin.counters, &self.end.counters);
        let seconds = ((self.end.at - self.begin.at) as f64 / 1e9).max(1e-9);
        let per_second = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        let frames = end.frames - begin.frames;
        let counted = end.counted_frames - begin.counted_frames;
        let seen = end.messages - begin.messages;
        // Frames that were only counted hold as many updates as those that were inflated.
        let messages = if counted == 0 { 0 } else { (seen as f64 * frames as f64 / counted as f64) as u64 };
        let busy = (self.end.own_cpu - self.begin.own_cpu).saturating_sub(end.idle - begin.idle);
        let own_percent = share(busy, seconds);
        let server = config.server_pid.map(|_| self.end.server_cpu().saturating_sub(self.begin.server_cpu()));
        let per_frame = |amount: u64| if frames == 0 { 0.0 } else { amount as f64 / frames as f64 };
        let opened_per_second = if config.kind == Kind::Churn {
            per_second(self.end.connects - self.begin.connects)
        } else {
            self.connects as f64 / self.open_seconds.max(1e-9)
        };
        let mut object = json!({
            "connections": config.connections,
            "live": self.live,
            "slow": config.slow,
            "slow_open": self.slow_open,
            "channels": config.channels,
            "per_connection": config.per_connection,
            "deflate_agreed": self.deflate_agreed,
            "connects": self.connects,
            "open_seconds": self.open_seconds,
            "connects_per_second": opened_per_second,
            "connect_ms": self.connect_time.to_json(),
            "position_min": self.positions.map(|(low, _)| low),
            "position_max": self.positions.map(|(_, high)| high),
            "others_position_min": self.others_positions.map(|(low, _)| low),
            "others_position_max": self.others_positions.map(|(_, high)| high),
            "faults": self.faults,
            "valid": self.is_valid(),
        });
        let window = json!({
            "window_seconds": seconds,
            "frames": frames,
            "frames_per_second": per_second(frames),
            "compressed_frames": end.compressed_frames - begin.compressed_frames,
            "messages": messages,
            "messages_per_second": per_second(messages),
            "messages_estimated": counted != frames,
            "messages_per_frame": per_frame(messages),
            "bytes": end.bytes - begin.bytes,
            "bytes_per_frame": per_frame(end.bytes - begin.bytes),
            "receives": end.receives - begin.receives,
            "gaps": end.gaps - begin.gaps,
            "lost": end.lost - begin.lost,
            "missing": end.missing - begin.missing,
            "pings": end.pings - begin.pings,
            "answers": end.answers - begin.answers,
            "answers_per_second": per_second(end.answers - begin.answers),
            "load_cpu_percent": own_percent,
            "server_cpu_percent": server.map(|used| share(used, seconds)),
            "server_us_per_frame": server.map(|used| per_frame(used) / 1e3),
            "server_threads_seconds": self.server_threads_seconds(),
        });
        let rest = json!({
            "duration": self.seconds,
            "complete": self.is_complete,
            "attempts": self.attempts,
            "most_live": self.most_live,
            "connection_failures": self.failures,
            "established_ms": self.established.to_json(),
            "lateness_ms": self.lateness.to_json(),
            "histograms": {
                "connect": self.established.buckets(),
                "lateness": self.lateness.buckets(),
                "latency": self.every.buckets(),
                "latency_oldest": self.oldest.buckets(),
                "answer": self.answer.buckets(),
                "caught_up": self.returns.caught_up.buckets(),
            },
            "latency_ms": self.every.to_json(),
            "latency_oldest_ms": self.oldest.to_json(),
            "latency_newest_ms": self.newest.to_json(),
            "others_ms": self.others.to_json(),
            "others_quiet_ms": self.others_quiet.to_json(),
            "returns": (config.kind == Kind::Resume).then(|| self.returns.to_json()),
            "pong_ms": self.pong.to_json(),
            "answer_ms": self.answer.to_json(),
            "total": {
                "frames": self.counters.frames,
                "messages": self.counters.messages,
                "others_messages": self.counters.others_messages,
                "checked_updates": self.counters.checked_updates,
                "gaps": self.counters.gaps,
                "lost": self.counters.lost,
                "missing": self.counters.missing,
                "published": self.published,
                "published_answers": self.counters.published_answers,
                "answers": self.counters.answers,
                "errors": self.counters.errors,
                "subscribes": self.counters.subscribes,
                "asked": self.counters.asked,
            },
        });
        if let Some(object) = object.as_object_mut() {
            for part in [window, rest] {
                object.extend(part.as_object().cloned().unwrap_or_default());
            }
        }
        object
    }

    /// CPU of each of the server's threads in the window.
    fn server_threads_seconds(&self) -> BTreeMap<&str, f64> {
        let begin = |name| self.begin.server_threads.get(name).copied().unwrap_or(0);
        let used =
            |(name, end): (_, &u64)| (String::as_str(name), end.saturating_sub(begin(name)) as f64 / 1e9);
        self.end.server_threads.iter().map(used).collect()
    }
}

/// Counts a reason. A server may say another one each time: the first ones tell enough.
pub fn count(reasons: &mut BTreeMap<String, u64>, reason: &str) {
    let mut reason = shown(reason, LONGEST_REASON);
    if reasons.len() >= MOST_REASONS && !reasons.contains_key(&reason) {
        reason = "others".into();
    }
    *reasons.entry(reason).or_default() += 1;
}

/// Percent of one core.
fn share(cpu_nanoseconds: u64, seconds: f64) -> f64 {
    (cpu_nanoseconds as f64 / 1e7 / seconds * 100.0).round() / 100.0
}

/// Characters. Servers say some reasons, and people read them in terminals.
const LONGEST_REASON: usize = 300;

/// Different reasons that are kept.
const MOST_REASONS: usize = 20;
