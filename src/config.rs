//! The settings of one server. Python documents them for users in `umbel.Settings`; a test compares the names.

use serde::Deserialize;
use std::time::Duration;

use crate::hidden::Hidden;
use crate::network::Network;
use crate::own_path::{A_PLAIN_PATH, is_plain_path, is_reserved_path};
use crate::pattern::PatternError;
use crate::rules::{Retention, Rule, RuleError, seconds};

/// What a server is told at its start: the settings, and the structure of the application, which may be empty. Sizes are in bytes. In the JSON
/// form, durations are in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub host: String,
    /// TCP port; with 0 the system chooses one.
    pub port: u16,
    /// Path of a Unix socket to listen on, instead of host and port.
    pub unix_socket: Option<String>,
    /// Permission bits of that socket. `None`: what the umask leaves.
    pub unix_socket_mode: Option<u32>,
    /// Threads that hold connections. 0: one for each core that this process may use.
    pub shards: usize,
    /// One listener for each shard, instead of one that chooses a shard: more connects per second, less even load.
    pub reuse_port: bool,
    /// Connections that the kernel holds until they are accepted.
    pub backlog: i32,
    /// Time between two deliveries to one connection. 0: deliver as soon as possible.
    #[serde(deserialize_with = "seconds")]
    pub tick: Duration,
    /// A peer that was silent for this long gets a ping. Then it has the same time again to answer.
    #[serde(deserialize_with = "seconds")]
    pub heartbeat: Duration,
    /// Time within which clients are asked to come back, each at a random moment, when they lose their connections together.
    #[serde(deserialize_with = "seconds")]
    pub reconnect_window: Duration,
    /// Path of the Umbel protocol.
    pub websocket_path: String,
    /// Path of event streams, and of what is below it.
    pub stream_path: String,
    /// Path where clients have a session on a stream. `None`: they can't.
    pub session_path: Option<String>,
    /// Time after which an event stream ends and its client opens another one. 0: never.
    #[serde(deserialize_with = "seconds")]
    pub stream_seconds: Duration,
    /// Path where programs publish. `None`: they can't.
    pub publish_path: Option<String>,
    /// Path below which programs read what a channel still has. `None`: they can't.
    pub history_path: Option<String>,
    /// Path where pages get tickets. `None`: they can't.
    pub ticket_path: Option<String>,
    /// Patterns of the paths where the application speaks a protocol of its own. The separator is `/`.
    #[serde(default)]
    pub websocket_routes: Vec<String>,
    /// The application decides about each client before the client is let in.
    #[serde(default)]
    pub authenticate: bool,
    /// The application is told of each client.
    #[serde(default)]
    pub notify_connect: bool,
    /// A client that was let in is not read until the application says so: it may still refuse the client.
    #[serde(default)]
    pub await_connect: bool,
    /// Which web pages may connect. `None`: those from the host that they connect to.
    pub origins: Option<OriginSetting>,
    /// Names of this server, besides those that need not be allowed. For pages that connect while `origins` is `None`.
    pub allowed_hosts: Vec<String>,
    /// Networks of proxies that are believed when they say who their clients are; `unix` is the Unix socket.
    pub trusted_proxies: Vec<String>,
    /// Where they say it.
    pub proxy_header: ProxyHeader,
    /// Whether permessage-deflate is negotiated.
    pub deflate: bool,
    /// 1 (fast) to 9 (small).
    pub deflate_level: u32,
    /// 9 to 15: the compressor looks back 2^window bytes.
    pub deflate_window: u8,
    /// Clients may refer to their earlier messages in compressed ones. Then a client's window is kept.
    pub client_context_takeover: bool,
    /// Path of a PEM file with the certificate chain. With it, the server speaks TLS only.
    pub tls_cert: Option<String>,
    /// Path of a PEM file with the private key.
    pub tls_key: Option<String>,
    /// Address and port of the listener for operators: `127.0.0.1:8001`. `None`: there is none.
    pub admin: Option<String>,
    /// What requests to that listener have to know. Required where it can be reached from a network.
    pub admin_token: Option<String>,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most connections at a time of one IPv4 address, or of one IPv6 network of 64 bits. 0: no limit.
    pub max_connections_per_address: usize,
    /// Of a subject, where tokens say who clients are; 0 for no limit. Elsewhere the application counts.
    pub max_connections_per_identity: usize,
    /// With it, tickets outlive the process.
    pub ticket_key: Option<Hidden>,
    /// Most tickets at a time of one identity. 0: no limit.
    pub max_tickets_per_identity: usize,
    /// Longest request head: request line and headers. Half of it is for path and query.
    pub max_head_bytes: usize,
    /// Most header lines of a request.
    pub max_headers: usize,
    /// Longest message from a client, after inflation.
    pub max_message: usize,
    /// Most channels that one client may be subscribed to, its private channel not counted.
    pub max_subscriptions: usize,
    /// Messages and pings that one client of the Umbel protocol may send in a second. 0: no limit.
    pub max_messages_per_second: u32,
    /// Most bytes that are held for unfinished messages and unread answers of all peers together. When they are used up, the
    /// peers for which they were held longest are closed.
    pub max_held_bytes: usize,
    /// Most bytes that the logs of all channels keep together. When they are used up, the logs that were used least recently
    /// lose their oldest publications.
    pub max_log_bytes: usize,
    /// Most bytes that the states of all channels keep together. `None`: a quarter of `max_log_bytes`.
    pub max_state_bytes: Option<usize>,
    /// Time after which a state is dropped that is neither read nor written. 0: never.
    #[serde(deserialize_with = "seconds")]
    pub state_idle_seconds: Duration,
    /// Most bytes of one channel when it keeps more than its history, for readers that keep up.
    pub burst_bytes: usize,
    /// Time for which a session waits for a client that has lost its connection. 0: sessions end with their connections.
    #[serde(deserialize_with = "seconds")]
    pub session_ttl: Duration,
    /// Most sessions that may wait for their clients. `None`: as many as `max_connections`.
    pub max_away: Option<usize>,
    /// How long others see a client in a channel that has lost its connection.
    #[serde(deserialize_with = "seconds")]
    pub presence_grace: Duration,
    /// Between two times that others are told who is in a channel; longer with more than a hundred readers.
    #[serde(deserialize_with = "seconds")]
    pub presence_interval: Duration,
    /// Members of a channel that others are told of one by one. Of more, they are told the number.
    pub presence_limit: usize,
    /// Longest life of a session. After it, its client can't come back.
    #[serde(deserialize_with = "seconds")]
    pub session_lifetime: Duration,
    /// What a client has to show that comes back to its session.
    pub resume: ResumeSetting,
    /// From accept until the client is let in.
    #[serde(deserialize_with = "seconds")]
    pub handshake_timeout: Duration,
    /// From the first byte of a message to its last.
    #[serde(deserialize_with = "seconds")]
    pub message_timeout: Duration,
    /// A connection is closed when something waits for its socket and the socket takes nothing for this long.
    #[serde(deserialize_with = "seconds")]
    pub write_timeout: Duration,
    /// From the server's close frame to the peer's.
    #[serde(deserialize_with = "seconds")]
    pub close_timeout: Duration,
    /// `SO_SNDBUF` of accepted sockets. `None`: 128 KiB.
    pub send_buffer: Option<usize>,
    /// Functions that run for one client at a time. Twice as many messages of it may be under way.
    pub max_running: usize,
    /// When so many clients and messages wait for Python, shards stop reading.
    pub event_queue: usize,
    /// How channels behave, in the order in which the rules are tried.
    #[serde(default)]
    pub channels: Vec<Rule>,
}

/// What a client has to show that comes back to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeSetting {
    /// The token of the session.
    Token,
    /// The same, and the application is asked who it is.
    Authenticate,
}

/// Which web pages may connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OriginSetting {
    /// `"*"`: all.
    Any(String),
    /// Those of exactly these origins.
    List(Vec<String>),
}

/// The header in which proxies say who their clients are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ProxyHeader {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting has a value that is not legal.
    #[error("{setting} must be {legal}")]
    Range {
        /// Its name.
        setting: &'static str,
        /// What would be legal.
        legal: &'static str,
    },
    /// It is not the JSON of a [`Config`].
    #[error("not a configuration: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The listener for operators can be reached from a network, and nothing guards it.
    #[error("admin_token must be set: {0} can be reached from a network; or listen on 127.0.0.1")]
    NoToken(String),
    /// A rule for channels can't be used.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The pattern of a websocket path can't be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Config {
    /// Messages of one client that may be under way in Python: those that run, and as many that wait.
    pub fn under_way(&self) -> usize {
        self.max_running.saturating_mul(2)
    }

    /// Reads and checks the JSON form.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and the legal range.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json)?;
        config.check()?;
        Ok(config)
    }

    /// Host and port of the listener for operators. A host that is an IPv6 address is in brackets.
    pub fn admin_address(&self) -> Option<(&str, u16)> {
        let (host, port) = self.admin.as_deref()?.rsplit_once(':')?;
        let is_host =
            !host.is_empty() && !host.contains('/') && (!host.contains(':') || host.starts_with('['));
        let port = port.parse().ok().filter(|_| !port.starts_with('+'))?;
        is_host.then_some((host, port))
    }

    /// The most bytes that the log of one channel may keep.
    fn longest_history(&self) -> usize {
        let declared = self.channels.iter().map(|rule| rule.history_bytes);
        declared.fold(Retention::default().bytes, usize::max)
    }

    /// Whether it is clear for each path what is there.
    fn paths_differ(&self) -> bool {
        let is_at = |path: &str, other: &str| {
            path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let own = [&self.session_path, &self.publish_path, &self.history_path, &self.ticket_path];
        let paths: Vec<_> = [&self.stream_path].into_iter().chain(own.into_iter().flatten()).collect();
        let is_alone = |(index, path): (usize, &&String)| {
            **path != self.websocket_path
                && paths[..index].iter().all(|other| !is_at(path, other) && !is_at(other, path))
        };
        paths.iter().enumerate().all(is_alone)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("deflate_level", (1..=9).contains(&self.deflate_level), "1 to 9"),
            ("deflate_window", (9..=15).contains(&self.deflate_window), "9 to 15"),
            (
                "client_context_takeover",
                self.deflate || !self.client_context_takeover,
                "off without deflate: there is no context to take over",
            ),
            ("tick", self.tick <= Duration::from_secs(10), "0 to 10 seconds"),
            ("heartbeat", self.heartbeat >= Duration::from_millis(50), "at least 0.05 seconds"),
            ("shards", self.shards <= 256, "at most 256; 0 is one per core"),
            ("backlog", self.backlog >= 1, "at least 1"),
            ("max_connections", self.max_connections >= 1, "at least 1"),
            (
                "unix_socket_mode",
                self.unix_socket_mode.is_none_or(|mode| mode <= 0o777),
                "0o0 to 0o777, written in octal, as in 0o660",
            ),
            (
                "unix_socket_mode",
                self.unix_socket_mode.is_none_or(|mode| mode & 0o222 != 0),
                "a mode that lets somebody write, as 0o660 does: who may not write can't connect",
            ),
            ("max_head_bytes", (1024..=65_536).contains(&self.max_head_bytes), "1024 to 65536 bytes"),
            ("max_headers", (16..=1024).contains(&self.max_headers), "16 to 1024"),
            ("max_message", self.max_message >= 125, "at least 125 bytes"),
            (
                "max_held_bytes",
                self.max_held_bytes / 2 >= self.max_message + UNDER_WAY,
                "at least 128 KiB more than twice max_message: otherwise the longest message could not be finished",
            ),
            (
                "max_log_bytes",
                self.max_log_bytes >= self.longest_history(),
                "at least the largest history_bytes of a channel, and 1 MiB: otherwise one channel alone could not keep its history",
            ),
            (
                "max_state_bytes",
                self.max_state_bytes.is_none_or(|states| (1..=self.max_log_bytes / 2).contains(&states)),
                "at most half of max_log_bytes, in which it counts: states would leave no room for other channels",
            ),
            (
                "state_idle_seconds",
                self.state_idle_seconds.is_zero() || self.state_idle_seconds >= self.session_ttl,
                "0, or at least session_ttl: otherwise clients that come back would find their states gone",
            ),
            ("max_away", self.max_away != Some(0), "at least 1: session_ttl=0 switches sessions off"),
            (
                "session_lifetime",
                self.session_lifetime > self.session_ttl,
                "more than session_ttl: otherwise no session could wait so long",
            ),
            (
                "presence_interval",
                (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&self.presence_interval),
                "0.01 to 60 seconds",
            ),
            ("presence_limit", (1..=10_000).contains(&self.presence_limit), "1 to 10000"),
            ("max_subscriptions", self.max_subscriptions >= 1, "at least 1"),
            ("event_queue", self.event_queue >= 1, "at least 1"),
            ("max_running", self.max_running >= 1, "at least 1"),
            ("handshake_timeout", !self.handshake_timeout.is_zero(), "more than 0 seconds"),
            ("message_timeout", !self.message_timeout.is_zero(), "more than 0 seconds"),
            ("write_timeout", !self.write_timeout.is_zero(), "more than 0 seconds"),
            ("websocket_path", self.websocket_path.starts_with('/'), "a path that starts with a slash"),
            ("websocket_path", !is_reserved_path(&self.websocket_path), "none of the server's own paths"),
            ("stream_path", is_plain_path(Some(&self.stream_path), "/api/v1/stream"), A_PLAIN_PATH),
            ("session_path", is_plain_path(self.session_path.as_ref(), "/api/v1/session"), A_PLAIN_PATH),
            ("publish_path", is_plain_path(self.publish_path.as_ref(), "/api/v1/publish"), A_PLAIN_PATH),
            ("history_path", is_plain_path(self.history_path.as_ref(), "/api/v1/history"), A_PLAIN_PATH),
            ("ticket_path", is_plain_path(self.ticket_path.as_ref(), "/api/v1/ticket"), A_PLAIN_PATH),
            (
                "websocket_path",
                self.paths_differ(),
                "another path than stream_path, session_path, publish_path, history_path and ticket_path, and of these none may be below another",
            ),
            (
                "origins",
                !matches!(&self.origins, Some(OriginSetting::Any(text)) if text != "*"),
                "null, \"*\" or a list such as [\"https://example.com\"]",
            ),
            (
                "trusted_proxies",
                self.trusted_proxies.iter().all(|text| text == "unix" || Network::parse(text).is_some()),
                "a list of addresses and networks, such as [\"127.0.0.1\", \"10.0.0.0/8\"], or \"unix\" for the Unix socket",
            ),
            (
                "reuse_port",
                !(self.reuse_port && self.unix_socket.is_some()),
                "off with unix_socket: only a TCP port can be shared by several sockets",
            ),
            (
                "admin",
                self.admin.is_none() || self.admin_address().is_some(),
                "an address and a port, such as \"127.0.0.1:8001\" or \"[::1]:8001\"",
            ),
            (
                "admin_token",
                self.admin_token.as_ref().is_none_or(|token| {
                    self.admin.is_some()
                        && !token.is_empty()
                        && token.bytes().all(|byte| byte.is_ascii_graphic())
                }),
                "visible ASCII characters without spaces, and set together with admin",
            ),
            (
                "ticket_key",
                self.ticket_key.as_ref().is_none_or(|key| key.0.len() >= SHORTEST_KEY),
                "at least 32 bytes: make one with python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            ),
            ("tls_key", self.tls_cert.is_some() == self.tls_key.is_some(), "set together with tls_cert"),
        ];
        let broken = bounds.into_iter().find(|(_, holds, _)| !holds);
        broken.map_or(Ok(()), |(setting, _, legal)| Err(ConfigError::Range { setting, legal }))
    }
}

/// In bytes: what an unfinished message may hold besides its own bytes, which are an inflater and room to grow.
const UNDER_WAY: usize = 64 * 1024;

/// In bytes: as long as the hashes that are made with it.
const SHORTEST_KEY: usize = 32;
