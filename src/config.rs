//! Settings of one server. Python documents them for users in `umbel.Settings`; a test compares the two.

use serde::Deserialize;
use std::time::Duration;

use crate::channel::{ChannelName, Pattern, PatternError};

/// Everything a server is told at its start. Sizes are bytes, durations seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub host: String,
    /// 0 lets the system choose one.
    pub port: u16,
    /// Listen on this path instead of host and port.
    pub unix_socket: Option<String>,
    /// Threads that hold connections; 0 is one per core this process may use.
    pub shards: usize,
    /// One listener per shard instead of one acceptor: more connects per second, less even load.
    pub reuse_port: bool,
    pub backlog: i32,
    /// Window in which publications gather; 0 sends as soon as possible.
    #[serde(deserialize_with = "seconds")]
    pub tick: Duration,
    /// A peer that was silent for this long gets a ping, and the same time again to answer.
    #[serde(deserialize_with = "seconds")]
    pub heartbeat: Duration,
    pub websocket_path: String,
    /// Patterns of paths that speak a protocol of the application's own.
    pub websocket_routes: Vec<String>,
    pub authenticate: bool,
    pub notify_connect: bool,
    /// Clients are not read before the application says so: it may still refuse those that are let in.
    pub await_connect: bool,
    pub origins: Option<OriginSetting>,
    pub deflate: bool,
    /// 1 (fast) to 9 (small).
    pub deflate_level: u32,
    /// 9 to 15: the compressor looks back 2^window bytes.
    pub deflate_window: u8,
    pub tls_cert: Option<String>,
    pub tls_key: Option<String>,
    pub max_connections: usize,
    /// Connections of one IPv4 address or one IPv6 network of 64 bits; 0 is no limit.
    pub max_connections_per_address: usize,
    /// Longest message from a client, after inflation.
    pub max_message: usize,
    pub max_subscriptions: usize,
    /// Messages and pings of one client of the Umbel protocol, in a second; 0 is no limit.
    pub max_messages_per_second: u32,
    /// Held for unfinished messages and unread answers of all peers; beyond it, the oldest give way.
    pub max_held_bytes: usize,
    /// Kept in the logs of all channels together; beyond it, those that were used least recently give way.
    pub max_log_bytes: usize,
    /// From accept to the end of authentication.
    #[serde(deserialize_with = "seconds")]
    pub handshake_timeout: Duration,
    /// From the first fragment of a message to its last.
    #[serde(deserialize_with = "seconds")]
    pub message_timeout: Duration,
    /// A socket that takes nothing for this long while something waits is closed.
    #[serde(deserialize_with = "seconds")]
    pub write_timeout: Duration,
    /// From our close frame to the peer's.
    #[serde(deserialize_with = "seconds")]
    pub close_timeout: Duration,
    /// `SO_SNDBUF` of accepted sockets; `null` is 128 KiB.
    pub send_buffer: Option<usize>,
    /// Events that wait for Python before shards stop reading.
    pub event_queue: usize,
    pub channels: Vec<Rule>,
}

/// Which origins browsers may connect from.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OriginSetting {
    /// `"*"`.
    Any(String),
    List(Vec<String>),
}

/// How the channels that match a pattern behave. The first rule that matches a name counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub pattern: String,
    pub subscribe: Access,
    pub publish: Access,
    /// Publications kept.
    pub history: usize,
    pub history_bytes: usize,
    #[serde(deserialize_with = "seconds")]
    pub history_seconds: Duration,
    pub mode: Mode,
    pub overrun: Overrun,
    /// Whether publications may be compressed for connections that negotiated it.
    pub compress: bool,
}

/// Who decides whether a client may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Open,
    Ask,
    No,
}

/// Whether a reader that is behind gets everything or the newest of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    All,
    Latest,
}

/// What happens to a reader past whom the log has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overrun {
    /// It is told which publications will not come, and goes on.
    Gap,
    /// It is closed with 4413, and comes back with its position.
    Close,
}

/// How much of a channel its log keeps, and how its readers get it.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub count: usize,
    pub bytes: usize,
    pub age: Duration,
    pub mode: Mode,
    pub overrun: Overrun,
    pub compress: bool,
}

impl Default for Retention {
    /// What a channel gets that no rule names, and a client's private channel.
    fn default() -> Self {
        Self {
            count: 1000,
            bytes: 1 << 20,
            age: Duration::from_secs(300),
            mode: Mode::All,
            overrun: Overrun::Gap,
            compress: true,
        }
    }
}

impl Rule {
    pub fn retention(&self) -> Retention {
        let Self { history, history_bytes, history_seconds, mode, overrun, compress, .. } = *self;
        Retention { count: history, bytes: history_bytes, age: history_seconds, mode, overrun, compress }
    }
}

/// The rules of a server, ready to be asked.
#[derive(Debug, Default)]
pub struct Rules(Vec<(Pattern, Rule)>);

impl Rules {
    /// # Errors
    /// [`ConfigError`] when a pattern or a bound of a rule is not legal.
    pub fn new(rules: &[Rule]) -> Result<Self, ConfigError> {
        let ready = |rule: &Rule| {
            if rule.history == 0 || rule.history_bytes == 0 {
                return Err(ConfigError::range(
                    "history",
                    "a channel keeps at least one publication and one byte",
                ));
            }
            if rule.history_seconds < SHORTEST_HISTORY {
                return Err(ConfigError::range(
                    "history_seconds",
                    "at least 1 second: a reader that is served a few ticks late would lose what is older",
                ));
            }
            if rule.pattern.starts_with('$') {
                return Err(ConfigError::range(
                    "channels",
                    "a pattern does not begin with \"$\": those channels are the server's",
                ));
            }
            Ok((Pattern::new(&rule.pattern, ':')?, rule.clone()))
        };
        rules.iter().map(ready).collect::<Result<_, _>>().map(Self)
    }

    /// The first rule whose pattern matches, its index, and what the parameters stand for. No rule is about a name that the
    /// server makes, which begins with `@` or `$`: a pattern that matches everything does not mean those.
    pub fn find<'r, 'a>(&'r self, channel: &'a str) -> Option<(usize, &'r Rule, Vec<&'a str>)> {
        if channel.starts_with(['@', '$']) {
            return None;
        }
        let matching = |(index, (pattern, rule)): (usize, &'r (Pattern, Rule))| {
            pattern.matches(channel).map(|params| (index, rule, params))
        };
        self.0.iter().enumerate().find_map(matching)
    }

    /// What a channel's log keeps.
    pub fn retention(&self, channel: &ChannelName) -> Retention {
        self.find(channel.as_str()).map_or_else(Retention::default, |(_, rule, _)| rule.retention())
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{setting}: {problem}")]
    Range { setting: &'static str, problem: String },
    #[error("not a configuration: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl ConfigError {
    fn range(setting: &'static str, problem: &str) -> Self {
        Self::Range { setting, problem: problem.to_owned() }
    }
}

impl Config {
    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and the legal range.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json)?;
        config.check()?;
        Ok(config)
    }

    /// The most bytes that the log of one channel may keep.
    fn longest_history(&self) -> usize {
        let declared = self.channels.iter().map(|rule| rule.history_bytes);
        declared.fold(Retention::default().bytes, usize::max)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("deflate_level", (1..=9).contains(&self.deflate_level), "1 to 9"),
            ("deflate_window", (9..=15).contains(&self.deflate_window), "9 to 15"),
            ("tick", self.tick <= Duration::from_secs(10), "0 to 10 seconds"),
            ("heartbeat", self.heartbeat >= Duration::from_millis(50), "at least 0.05 seconds"),
            ("shards", self.shards <= 256, "at most 256; 0 is one per core"),
            ("backlog", self.backlog >= 1, "at least 1"),
            ("max_connections", self.max_connections >= 1, "at least 1"),
            ("max_message", self.max_message >= 125, "at least 125 bytes"),
            (
                "max_held_bytes",
                self.max_held_bytes / 2 >= self.max_message + UNDER_WAY,
                "at least 128 KiB more than twice max_message: else the longest message could not be finished",
            ),
            (
                "max_log_bytes",
                self.max_log_bytes >= self.longest_history(),
                "at least the largest history_bytes of a channel, and 1 MiB: else one channel alone could not keep its history",
            ),
            ("max_subscriptions", self.max_subscriptions >= 1, "at least 1"),
            ("event_queue", self.event_queue >= 1, "at least 1"),
            ("websocket_path", self.websocket_path.starts_with('/'), "starts with a slash"),
            ("websocket_path", !is_reserved_path(&self.websocket_path), "not one of the server's own paths"),
            ("tls_key", self.tls_cert.is_some() == self.tls_key.is_some(), "certificate and key go together"),
        ];
        if let Some((setting, _, legal)) = bounds.iter().find(|(_, holds, _)| !holds) {
            return Err(ConfigError::range(setting, legal));
        }
        if let Some(OriginSetting::Any(text)) = &self.origins
            && text != "*"
        {
            return Err(ConfigError::range(
                "origins",
                "null, \"*\" or a list such as [\"https://example.com\"]",
            ));
        }
        Ok(())
    }
}

/// Whether a path is the server's own: no page and no WebSocket of an application is served there, whatever its patterns
/// match. Some of these paths answer 404 today; they are kept free, so that a later version breaks no application.
pub fn is_reserved_path(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics" | "/dashboard")
        || path.starts_with("/api/v1/")
        || path.starts_with("/umbel/")
}

/// A publication has to outlive the time until it is written: a tick, and a pass over all readers.
const SHORTEST_HISTORY: Duration = Duration::from_secs(1);

/// What an unfinished message may hold beside its bytes: an inflater, and room to grow.
const UNDER_WAY: usize = 64 * 1024;

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| serde::de::Error::custom("seconds are a number, 0 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(pattern: &str) -> Rule {
        Rule {
            pattern: pattern.into(),
            subscribe: Access::Open,
            publish: Access::No,
            history: 1,
            history_bytes: 1,
            history_seconds: SHORTEST_HISTORY,
            mode: Mode::Latest,
            overrun: Overrun::Close,
            compress: false,
        }
    }

    #[test]
    fn a_channel_that_keeps_too_little_for_any_reader_or_is_the_servers_is_refused() {
        assert!(Rules::new(&[least("a")]).is_ok());
        let refused = [
            Rule { history: 0, ..least("a") },
            Rule { history_bytes: 0, ..least("a") },
            Rule { history_seconds: Duration::from_millis(999), ..least("a") },
            least("$a"),
            least("${a}"),
        ];
        for rule in refused {
            assert!(matches!(Rules::new(&[rule]), Err(ConfigError::Range { .. })));
        }
    }

    #[test]
    fn a_pattern_that_matches_everything_does_not_match_channels_that_the_server_makes() {
        for pattern in ["{x}", "{name:path}", "@{x}"] {
            let rules = Rules::new(&[least(pattern)]).expect("legal");
            assert!(rules.find("$node").is_none());
            let kept = rules.retention(&ChannelName::private("0123456789abcdef"));
            assert_eq!((kept.count, kept.mode, kept.overrun), (1000, Mode::All, Overrun::Gap));
            assert!(kept.compress);
        }
    }

    #[test]
    fn paths_of_the_server_are_reserved_and_their_neighbours_are_not() {
        for path in
            ["/healthz", "/readyz", "/metrics", "/dashboard", "/api/v1/x", "/api/v1/", "/umbel/client.js"]
        {
            assert!(is_reserved_path(path), "{path}");
        }
        for path in ["/", "/ws", "/metricsx", "/metrics/x", "/api/v1", "/api/v2/x", "/umbel", "/x/umbel/y"] {
            assert!(!is_reserved_path(path), "{path}");
        }
    }
}
