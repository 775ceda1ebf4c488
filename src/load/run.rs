//! Everything that one load knows while it runs. What it does is in the other files.

use std::io::Write;
use std::rc::Rc;

use crate::load::clock;
use crate::load::comeback::Comeback;
use crate::load::config::{Config, Kind};
use crate::load::connection::{Connection, Phase, Role, upgrade_request};
use crate::load::control::Control;
use crate::load::conversation;
use crate::load::report::Report;
use crate::load::requests::Question;
use crate::load::schedule::Schedule;
use crate::load::socket::Readiness;
use crate::load::template::Marker;
use crate::load::tls::Tls;
use crate::load::verify::Inflater;

/// One thread, its connections, and one receive buffer for all of them.
pub struct Run<'a> {
    pub config: &'a Config,
    pub control: &'a Control,
    pub readiness: Readiness,
    pub connections: Vec<Connection>,
    pub next_to_open: usize,
    /// Connections that are to be open now, and when the first of them may be begun, nanoseconds.
    pub goal: usize,
    pub goal_began: u64,
    goal_first: usize,
    /// Connections that are on their way.
    pub opening: usize,
    /// Connections that were open, and were lost.
    pub lost: u64,
    pub report: Report,
    pub tls: Option<Tls>,
    pub inflater: Option<Inflater>,
    /// Present when the server is not Umbel.
    pub marker: Option<Rc<Marker>>,
    pub buffer: Vec<u8>,
    /// Emptied `partial` buffers, to be used again.
    pub spare: Vec<Vec<u8>>,
    pub upgrade_request: Vec<u8>,
    /// When all began, nanoseconds.
    pub began: u64,
    pub publishing: Schedule,
    pub pinging: Schedule,
    pub rows: Schedule,
    pub cutting: Schedule,
    pub comeback: Comeback,
    pub question: Question,
    /// Whether an answer is followed by the next request.
    pub asking: bool,
    /// When something was last ready, nanoseconds.
    pub last_event: u64,
}

impl<'a> Run<'a> {
    /// Opens nothing yet.
    pub fn new(config: &'a Config, control: &'a Control) -> Result<Self, String> {
        let mut connections = Vec::new();
        let readers = if config.kind == Kind::Churn { config.concurrency } else { config.connections };
        for index in 0..readers {
            connections.push(Connection::new(Role::Reader, index % config.sample_every == 0, config));
        }
        let others =
            [(Role::Other, config.others), (Role::Slow, config.slow), (Role::Publisher, config.publishers)];
        for (role, count) in others {
            connections.extend((0..count).map(|_| Connection::new(role, false, config)));
        }
        let failed = |error: std::io::Error| format!("this machine gives no events: {error}");
        let readiness = Readiness::new().map_err(failed)?;
        control.set_waker(readiness.waker().map_err(failed)?);
        Ok(Self {
            config,
            control,
            readiness,
            connections,
            next_to_open: 0,
            goal: 0,
            goal_began: 0,
            goal_first: 0,
            opening: 0,
            lost: 0,
            report: Report::default(),
            tls: config.tls()?,
            inflater: None,
            marker: config.marker.as_deref().map(Marker::new).transpose()?.map(Rc::new),
            buffer: vec![0; BUFFER_BYTES],
            spare: Vec::new(),
            upgrade_request: upgrade_request(config),
            began: clock::now(),
            publishing: Schedule::new(config.publish_rate),
            pinging: Schedule::new(config.ping_rate),
            rows: Schedule::new(1.0),
            cutting: Schedule::new(config.cut_rate),
            comeback: Comeback { random: config.seed, ..Comeback::default() },
            question: Question::new(config),
            asking: false,
            last_event: 0,
        })
    }

    /// So many connections are to be open.
    pub fn aim(&mut self, count: usize) {
        (self.goal, self.goal_first, self.goal_began) = (count, self.next_to_open, clock::now());
    }

    /// Whether every connection is open that is to be, or has failed.
    pub fn all_open(&self) -> bool {
        self.opening == 0 && self.next_to_open == self.goal
    }

    /// Whether nothing can come any more, because every connection was lost. Readers that come back try for ever: of those, the
    /// publishers count.
    pub fn all_lost(&self) -> bool {
        match self.config.kind {
            Kind::Read | Kind::Request => self.all_open() && self.lost >= self.report.connects,
            Kind::Resume => {
                let publishers = &self.connections[self.connections.len() - self.config.publishers..];
                !publishers.is_empty() && publishers.iter().all(|it| it.phase == Phase::Closed)
            }
            Kind::Churn => false,
        }
    }

    /// Whether every reader has what this load has published, or was told that it is lost.
    pub fn all_come(&self) -> bool {
        let subscriptions = (self.config.connections * self.config.per_connection) as u64;
        let due = self.report.published * subscriptions / self.config.channels as u64;
        self.report.counters.messages.saturating_add(self.report.counters.lost) >= due
    }

    /// When the next connection may be begun, nanoseconds.
    pub fn next_arrival(&self) -> u64 {
        if self.next_to_open >= self.goal {
            return u64::MAX;
        }
        self.goal_began + self.pace(self.next_to_open - self.goal_first)
    }

    /// How long after the first connection another one begins or ends, nanoseconds.
    pub fn pace(&self, number: usize) -> u64 {
        let step = number / self.config.ramp_up_rate.max(1);
        clock::nanoseconds(self.config.ramp_up_delay * step as f64)
    }

    /// Shows the frames that a connection sends, if that was asked for.
    pub fn show_sent(&self, index: usize, frames: &[u8]) {
        if self.config.verbose {
            conversation::parts(frames).for_each(|(opcode, payload)| self.show(index, "→", opcode, payload));
        }
    }

    /// Shows a frame, if that was asked for.
    #[inline]
    pub fn show(&self, index: usize, arrow: &str, opcode: u8, payload: &[u8]) {
        if self.config.verbose {
            self.say(index, arrow, opcode, payload);
        }
    }

    fn say(&self, index: usize, arrow: &str, opcode: u8, payload: &[u8]) {
        let role = self.connections[index].role;
        let line = conversation::line(role, arrow, opcode, payload, &self.config.tokens);
        let at = clock::now().saturating_sub(self.began) as f64 / 1e9;
        self.control.say(format!("{at:8.3} s  {line}"));
    }

    /// Sends something small. A socket that does not take it at once is a fault.
    pub fn send(&mut self, index: usize, bytes: &[u8]) {
        if self.connections[index].phase != Phase::Upgrading {
            self.show_sent(index, bytes);
        }
        let Some(socket) = &mut self.connections[index].socket else { return };
        match socket.write(bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(_) => self.report.fault("send: partly taken"),
            Err(error) => self.report.fault(&format!("send: {error}")),
        }
    }
}

/// One read can take this much. Larger than any usual frame, small enough to stay in the second-level cache.
const BUFFER_BYTES: usize = 256 * 1024;
