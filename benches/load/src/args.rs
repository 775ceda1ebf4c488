//! The command line. Every option is `--name value`, or `--name` for a flag.

use std::net::Ipv4Addr;

/// How far a connection must get before it counts as open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// The 101 response.
    Upgrade,
    /// The first message after it, `connection_established`.
    Established,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub host: Ipv4Addr,
    pub port: u16,
    pub path: String,
    pub headers: Vec<String>,
    /// Source addresses 127.0.0.1 … used in turn; one gives about 28,000 ports.
    pub sources: u32,
    pub connections: usize,
    /// Connections being opened at the same time.
    pub concurrency: usize,
    pub until: Until,
    pub deflate: bool,
    pub subscribe: bool,
    /// Connections are event streams.
    pub streams: bool,
    /// One channel is called `bench`; several are `bench-0`, `bench-1`, …
    pub channels: usize,
    pub per_connection: usize,
    /// Draw each connection's channels at random instead of connection number modulo channels.
    pub random: bool,
    pub seed: u64,
    /// Speak first, so that each connection has a session.
    pub sessions: bool,
    /// What connections with a session say who they are: this and their number.
    pub token: Option<String>,
    /// A file with a token for each connection, one a line, for its header `Authorization`.
    pub tokens: Option<String>,
    /// Begin to open connections evenly within this many seconds, not all at once.
    pub arrive: f64,
    /// Cut all readers at the beginning of the window. Each comes back at a random moment within this many seconds.
    pub come_back: bool,
    pub within: f64,
    /// Seconds before the cut, to compare with.
    pub quiet: f64,
    /// Further connections that are not cut, and read the channel `others`.
    pub others: usize,
    /// Further connections that subscribe and then never read.
    pub slow: usize,
    /// Every n-th connection has each of its updates parsed, inflated and checked.
    pub sample_every: usize,
    /// Offsets may be missing without a `gap` (the floor program skips a full socket).
    pub lossy: bool,
    pub warmup: f64,
    pub seconds: f64,
    /// At most this long after the window for what is still on its way.
    pub drain: f64,
    /// Look for input without ever sleeping. A sender pays for waking a receiver on its own machine, and pays more the
    /// faster the receiver is. Nobody pays for waking a receiver on another machine.
    pub polling: bool,
    /// Wait for the line `go` on stdin when all connections are open.
    pub wait: bool,
    pub cpu: Option<usize>,
    pub server_pid: Option<i32>,
    pub publish_rate: f64,
    /// What publications are: `publish` or `state_set`.
    pub publish_type: String,
    /// They have so many keys, in turn. 0: none.
    pub keys: usize,
    /// So many readers publish, in turn. 0: a connection of its own does.
    pub publishers: usize,
    pub ping_rate: f64,
    /// Requests that each connection keeps unanswered; 0 outside the command `request`.
    pub in_flight: usize,
    pub message_type: String,
    /// The answer to a request is the request itself.
    pub echo: bool,
    pub data_bytes: usize,
    pub hold: bool,
    pub churn: bool,
    /// Give up when the connections are not open after this many seconds, or `go` does not come.
    pub timeout: f64,
}

impl Options {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(name) = words.next() {
            if options.set_flag(&name) {
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.set(&name, &value)?;
        }
        if options.port == 0 && options.connections > 0 {
            return Err("--port is required".into());
        }
        options.per_connection = options.per_connection.min(options.channels);
        options.publishers = options.publishers.min(options.connections);
        Ok(options)
    }

    /// Lets all readers lose their connections and come back.
    ///
    /// # Errors
    /// When their positions would not be known.
    pub fn let_come_back(&mut self) -> Result<(), String> {
        if self.deflate {
            return Err("resume needs every position, so it can't be combined with --deflate".into());
        }
        (self.polling, self.sessions, self.come_back) = (true, true, true);
        if self.per_connection > 1 {
            // Several positions are followed by the full check only.
            self.sample_every = 1;
        }
        Ok(())
    }

    fn set_flag(&mut self, name: &str) -> bool {
        let flag = match name {
            "--deflate" => &mut self.deflate,
            "--random" => &mut self.random,
            "--wait" => &mut self.wait,
            "--hold" => &mut self.hold,
            "--lossy" => &mut self.lossy,
            "--echo" => &mut self.echo,
            "--sessions" => &mut self.sessions,
            "--streams" => &mut self.streams,
            "--no-subscribe" => {
                self.subscribe = false;
                return true;
            }
            _ => return false,
        };
        *flag = true;
        true
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--host" => self.host = number(name, value)?,
            "--port" => self.port = number(name, value)?,
            "--path" => self.path = value.into(),
            "--header" => self.headers.push(value.into()),
            "--sources" => self.sources = number::<u32>(name, value)?.max(1),
            "--connections" => self.connections = number(name, value)?,
            "--concurrency" => self.concurrency = number::<usize>(name, value)?.max(1),
            "--until" => {
                self.until = match value {
                    "upgrade" => Until::Upgrade,
                    "established" => Until::Established,
                    _ => return Err(format!("--until is upgrade or established, not {value:?}")),
                }
            }
            "--channels" => self.channels = number::<usize>(name, value)?.max(1),
            "--per-connection" => self.per_connection = number::<usize>(name, value)?.max(1),
            "--seed" => self.seed = number(name, value)?,
            "--token" => self.token = Some(value.into()),
            "--tokens" => self.tokens = Some(value.into()),
            "--arrive" => self.arrive = number(name, value)?,
            "--within" => self.within = number(name, value)?,
            "--quiet" => self.quiet = number(name, value)?,
            "--others" => self.others = number(name, value)?,
            "--slow" => self.slow = number(name, value)?,
            "--sample-every" => self.sample_every = number::<usize>(name, value)?.max(1),
            "--warmup" => self.warmup = number(name, value)?,
            "--seconds" => self.seconds = number(name, value)?,
            "--drain" => self.drain = number(name, value)?,
            "--cpu" => self.cpu = Some(number(name, value)?),
            "--server-pid" => self.server_pid = Some(number(name, value)?),
            "--publish-rate" => self.publish_rate = number(name, value)?,
            "--publish-type" => self.publish_type = value.into(),
            "--keys" => self.keys = number(name, value)?,
            "--publishers" => self.publishers = number(name, value)?,
            "--ping-rate" => self.ping_rate = number(name, value)?,
            "--in-flight" => self.in_flight = number(name, value)?,
            "--message-type" => self.message_type = value.into(),
            "--data-bytes" => self.data_bytes = number(name, value)?,
            "--timeout" => self.timeout = number(name, value)?,
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST,
            port: 0,
            path: "/ws".into(),
            headers: Vec::new(),
            sources: 1,
            connections: 0,
            concurrency: 200,
            until: Until::Established,
            deflate: false,
            subscribe: true,
            streams: false,
            channels: 1,
            per_connection: 1,
            random: false,
            seed: 1,
            sessions: false,
            token: None,
            tokens: None,
            arrive: 0.0,
            come_back: false,
            within: 1.0,
            quiet: 0.0,
            others: 0,
            slow: 0,
            sample_every: 100,
            lossy: false,
            warmup: 1.0,
            seconds: 5.0,
            drain: 0.0,
            polling: false,
            wait: false,
            cpu: None,
            server_pid: None,
            publish_rate: 0.0,
            publish_type: "publish".into(),
            keys: 0,
            publishers: 0,
            ping_rate: 0.0,
            in_flight: 0,
            message_type: "ask".into(),
            echo: false,
            data_bytes: 128,
            hold: false,
            churn: false,
            timeout: 120.0,
        }
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: cannot read {value:?}"))
}

pub const HELP: &str = "\
umbel-load <command> [options]

  fanout        open connections, subscribe, count and check what arrives
  request       open connections, keep --in-flight requests unanswered on each, check every answer
  call          POST publications to --path over HTTP, one after another on each connection, and check every answer
  resume        as fanout; all are cut at the beginning of the window, come back to their sessions, and miss nothing
  idle          hold connections and answer pings
  connect       open connections as fast as --concurrency allows; close each once it is open, or --hold them
  floor-server  the floor program: one thread, one non-blocking send of a ready-made frame per socket and pass;
                listens on --port (0: any), obeys `saturate`, `rate K`, `stats`, `quit` on stdin

where       --host A  --port P  --path /ws  --header 'Name: value'  --sources K (127.0.0.1, .2, …)
how many    --connections N  --concurrency C  --slow K (subscribe, then never read)
            --arrive S (begin evenly within that time)
what        --until upgrade|established  --deflate  --no-subscribe  --streams (Server-Sent Events)
            --channels C  --per-connection K  --random  --seed S  --lossy (holes are counted, not errors)
when        --warmup S  --seconds S  --drain S  --wait (for `go` on stdin)  --timeout S
meanwhile   --publish-rate R  --data-bytes B (a publishing client)  --publishers N (readers publish, in turn)
            --publish-type state_set  --keys K (in turn)  --ping-rate R (WebSocket pings)
tokens      --tokens FILE (one a line, for each connection's header Authorization)
sessions    --sessions (speak first)  --token T (each is T and its number)  --within S (come back at a random moment)
            --others K (are not cut, read the channel `others`)  --quiet S (before the cut, to compare with)
requests    --in-flight K  --message-type T  --data-bytes B  --echo (the answer is the request itself)
measuring   --cpu N (pin)  --server-pid P (its CPU time in the window)  --sample-every K (full checks)";
