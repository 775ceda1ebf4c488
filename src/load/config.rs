//! What a load does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use crate::load::template::Marker;
use crate::load::tls::Tls;

/// How far a connection must get before it counts as open.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The response to its upgrade.
    Upgrade,
    /// The first message after it, `connection_established`.
    #[default]
    Established,
}

/// What its connections are for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// They subscribe, and what arrives is counted and checked.
    #[default]
    Read,
    /// They send messages to handlers, and check the answers.
    Request,
    /// Readers that lose their connections, all at the beginning of the window or one at a time, and come back.
    Resume,
    /// They are closed once they are open, and opened again.
    Churn,
}

/// A load. Times are in seconds, rates per second.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What connections do.
    pub kind: Kind,
    /// Where the server listens.
    pub address: SocketAddr,
    /// What the header `Host` says.
    pub host: String,
    /// What the certificate of the server is for. Without it, there is no TLS.
    pub server_name: Option<String>,
    /// A file with the authorities that are trusted, as PEM.
    pub authorities: String,
    /// Where the server takes connections.
    pub path: String,
    /// Further lines of the header.
    pub headers: Vec<String>,
    /// The credentials of each connection, for its header `Authorization`; used in turn.
    pub tokens: Vec<String>,
    /// Addresses of this machine, used in turn: each has some 28,000 ports.
    pub sources: u32,
    /// How many there are, beside those that have another role.
    pub connections: usize,
    /// Before all of them are there: numbers of connections, and how long each is held, in seconds.
    pub stages: Vec<(usize, f64)>,
    /// Connections that may be on their way at the same time; the next ones wait.
    pub concurrency: usize,
    /// Connections that are begun together, whether or not earlier ones are open, and how long after that the next ones are.
    /// Without a delay all are begun at once.
    pub ramp_up_rate: usize,
    /// See `ramp_up_rate`.
    pub ramp_up_delay: f64,
    /// When a connection counts as open.
    pub until: Until,
    /// Ask for permessage-deflate.
    pub deflate: bool,
    /// Connections subscribe to their channels.
    pub subscribe: bool,
    /// Connections are event streams.
    pub streams: bool,
    /// One channel is called by `channel`; several are `…-0`, `…-1` and so on.
    pub channel: String,
    /// See `channel`.
    pub channels: usize,
    /// Channels of each connection.
    pub per_connection: usize,
    /// Draw the channels of each connection at random.
    pub random: bool,
    /// Makes what is random the same in another run.
    pub seed: u64,
    /// Speak first, so that each connection has a session.
    pub sessions: bool,
    /// What connections with a session say who they are: this and their number.
    pub token: Option<String>,
    /// Who comes back does at a random moment within this time.
    pub within: f64,
    /// Random readers that are cut in each second of the window; 0: all at its beginning.
    pub cut_rate: f64,
    /// Before the cut, to compare with.
    pub quiet: f64,
    /// Further connections that are not cut, and read the channel `others`.
    pub others: usize,
    /// Further connections that subscribe and then never read.
    pub slow: usize,
    /// Of so many connections one has each of its updates parsed, inflated and checked.
    pub sample_every: usize,
    /// Offsets may be missing without a gap: the server skips who does not keep up.
    pub lossy: bool,
    /// From the first publication or request to the window.
    pub warmup: f64,
    /// How long is measured.
    pub seconds: f64,
    /// At most so long after the window for what is still on its way.
    pub drain: f64,
    /// End the connections as slowly as they began, and not all at once.
    pub ramp_down: bool,
    /// Look for input without ever sleeping. A server pays for waking a receiver on its own machine, and pays more the faster the
    /// receiver is. Nobody pays for waking a receiver on another machine.
    pub poll: bool,
    /// Tell what connections and server say to each other.
    pub verbose: bool,
    /// Wait for [`Control::go`](crate::load::Control::go) when all connections are open.
    pub wait: bool,
    /// The process of the server, on this machine.
    pub server_pid: Option<i32>,
    /// Further connections that publish. If there is none, the readers do.
    pub publishers: usize,
    /// Publications per second of all publishers together.
    pub publish_rate: f64,
    /// Pings of the first connection.
    pub ping_rate: f64,
    /// Requests that each connection keeps unanswered.
    pub in_flight: usize,
    /// The type of a request.
    pub message_type: String,
    /// The answer to a request is the request itself.
    pub echo: bool,
    /// Bytes of the data of a publication or a request, or of all that `publication` says.
    pub data_bytes: usize,
    /// Where time and number stand in what comes, as in `"t":{time},"seq":{seq}`. With it, the server need not be Umbel.
    pub marker: Option<String>,
    /// What each connection says first there. `{n}` is its number.
    pub hello: Option<String>,
    /// What a publication is there, with `{time}`, `{seq}`, `{pad}`, and the number of its connection, `{n}`.
    pub publication: Option<String>,
    /// Beginnings of messages, and what those are answered with.
    pub answers: Vec<(String, String)>,
    /// How long the connections may take to open, and [`Control::go`](crate::load::Control::go) to come.
    pub timeout: f64,
}

impl Config {
    /// Adapts what contradicts itself.
    ///
    /// # Errors
    /// What can't be done.
    pub fn check(mut self) -> Result<Self, String> {
        self.per_connection = self.per_connection.clamp(1, self.channels.max(1));
        (self.channels, self.sources) = (self.channels.max(1), self.sources.max(1));
        (self.concurrency, self.sample_every) = (self.concurrency.max(1), self.sample_every.max(1));
        self.tls()?;
        if let Some(marker) = &self.marker {
            Marker::new(marker)?;
            self.until = Until::Upgrade;
        }
        match self.kind {
            Kind::Request => (self.subscribe, self.in_flight) = (false, self.in_flight.max(1)),
            Kind::Resume if self.deflate => {
                return Err("who comes back needs every position, so messages can't be compressed".into());
            }
            Kind::Resume => {
                self.sessions = true;
                if self.per_connection > 1 {
                    // Several positions are followed by the full check only.
                    self.sample_every = 1;
                }
            }
            Kind::Read | Kind::Churn => {}
        }
        if self.publish_rate > 0.0 && self.publishers + self.connections == 0 {
            return Err("there is nobody who could publish".into());
        }
        if !self.tokens.is_empty() && self.tokens.len() < self.connections {
            return Err("there are more connections than tokens".into());
        }
        Ok(self)
    }

    /// What connections begin with, if there is TLS.
    pub(in crate::load) fn tls(&self) -> Result<Option<Tls>, String> {
        self.server_name.as_deref().map(|name| Tls::new(name, &self.authorities)).transpose()
    }

    /// The channel of this number.
    pub fn channel_name(&self, number: usize) -> String {
        if self.channels == 1 { self.channel.clone() } else { format!("{}-{number}", self.channel) }
    }

    /// What a connection is bound to, if that matters.
    pub fn source(&self, index: usize) -> Option<IpAddr> {
        let number = index as u32 % self.sources;
        (number > 0).then(|| IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            host: "localhost".into(),
            server_name: None,
            authorities: String::new(),
            path: "/ws".into(),
            headers: Vec::new(),
            tokens: Vec::new(),
            sources: 1,
            connections: 0,
            stages: Vec::new(),
            concurrency: 200,
            ramp_up_rate: 1,
            ramp_up_delay: 0.0,
            until: Until::default(),
            deflate: false,
            subscribe: true,
            streams: false,
            channel: "bench".into(),
            channels: 1,
            per_connection: 1,
            random: false,
            seed: 1,
            sessions: false,
            token: None,
            within: 1.0,
            cut_rate: 0.0,
            quiet: 0.0,
            others: 0,
            slow: 0,
            sample_every: 100,
            lossy: false,
            warmup: 1.0,
            seconds: 5.0,
            drain: 0.0,
            ramp_down: false,
            poll: false,
            verbose: false,
            wait: false,
            server_pid: None,
            publishers: 0,
            publish_rate: 0.0,
            ping_rate: 0.0,
            in_flight: 0,
            message_type: "ask".into(),
            echo: false,
            data_bytes: 128,
            marker: None,
            hello: None,
            publication: None,
            answers: Vec::new(),
            timeout: 120.0,
        }
    }
}
