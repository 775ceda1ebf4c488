//! Settings of one server. Python documents them for users in `umbel.Settings`; a test compares the two.

use serde::Deserialize;
use std::time::Duration;

use crate::pattern::PatternError;
use crate::rules::{Retention, Rule, RuleError, seconds};

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

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{setting}: {problem}")]
    Range { setting: &'static str, problem: String },
    #[error("not a configuration: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error(transparent)]
    Rule(#[from] RuleError),
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

/// What an unfinished message may hold beside its bytes: an inflater, and room to grow.
const UNDER_WAY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
