//! The load: one thread that opens the connections, waits, measures a window, and waits for the rest.

use std::net::Ipv4Addr;

use crate::args::{Options, Until};
use crate::comeback::Comeback;
use crate::connection::{self, Connection, Phase, Role};
use crate::publisher::{Publisher, Schedule};
use crate::report::Report;
use crate::requests::Question;
use crate::verify::Inflater;
use crate::{clock, frame, socket, stream};

pub struct Client<'o> {
    pub(crate) options: &'o Options,
    epoll: socket::Epoll,
    pub(crate) connections: Vec<Connection>,
    next_to_open: usize,
    opening: usize,
    pub(crate) report: Report,
    pub(crate) inflater: Option<Inflater>,
    /// Receive buffer shared by all connections.
    pub(crate) buffer: Vec<u8>,
    /// Emptied `partial` buffers, to be used again.
    pub(crate) spare: Vec<Vec<u8>>,
    upgrade_request: Vec<u8>,
    /// One for each connection, or none.
    tokens: Vec<String>,
    /// When the first connection may be opened, nanoseconds.
    began: u64,
    pub(crate) publisher: Publisher,
    pinging: Schedule,
    pub(crate) comeback: Comeback,
    pub(crate) question: Question,
    /// Whether an answer is followed by the next request.
    pub(crate) asking: bool,
    /// When epoll last reported something, nanoseconds.
    last_event: u64,
    go: bool,
}

const STDIN: u64 = u64::MAX;
const INTEREST: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
const HANG_UP: i32 = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
/// One `recv` can take this much. Larger than any usual frame, small enough to stay in the second-level cache.
const BUFFER_BYTES: usize = 256 * 1024;
/// Nanoseconds without an event after which nothing more is on its way. Passes of a busy server follow each other at once.
const QUIET: u64 = 600_000_000;

impl<'o> Client<'o> {
    pub fn new(options: &'o Options) -> Result<Self, String> {
        let mut connections = Vec::new();
        let readers = if options.churn { options.concurrency } else { options.connections };
        for index in 0..readers {
            connections.push(Connection::new(Role::Reader, index % options.sample_every == 0, options));
        }
        let publishers = usize::from(options.publish_rate > 0.0 && options.publishers == 0);
        let others =
            [(Role::Other, options.others), (Role::Slow, options.slow), (Role::Publisher, publishers)];
        for (role, count) in others {
            connections.extend((0..count).map(|_| Connection::new(role, false, options)));
        }
        let tokens = options.tokens.as_ref().map_or(Ok(String::new()), std::fs::read_to_string);
        let tokens: Vec<_> =
            tokens.map_err(|error| format!("--tokens: {error}"))?.lines().map(str::to_owned).collect();
        if options.tokens.is_some() && tokens.len() < connections.len() {
            return Err("--tokens: there are more connections than tokens".into());
        }
        let epoll = socket::Epoll::new().map_err(|error| format!("epoll: {error}"))?;
        if options.wait {
            epoll.add(0, libc::EPOLLIN, STDIN).map_err(|error| format!("--wait: stdin: {error}"))?;
        }
        Ok(Self {
            options,
            epoll,
            connections,
            next_to_open: 0,
            opening: 0,
            report: Report::default(),
            inflater: None,
            buffer: vec![0; BUFFER_BYTES],
            spare: Vec::new(),
            upgrade_request: connection::upgrade_request(options),
            tokens,
            began: clock::now(),
            publisher: Publisher::new(options.publish_rate),
            pinging: Schedule::new(options.ping_rate),
            comeback: Comeback::default(),
            question: Question::new(options),
            asking: false,
            last_event: 0,
            go: !options.wait,
        })
    }

    pub fn run(mut self) -> Result<Report, String> {
        let started = clock::now();
        self.began = started;
        if !self.options.churn {
            self.run_until(started + clock::nanoseconds(self.options.timeout), |client| client.all_open())?;
            self.report.open_seconds = (clock::now() - started) as f64 / 1e9;
            if !self.all_open() {
                self.report.fault("connections not open in time");
                return Ok(self.finish());
            }
            eprintln!("ready");
            self.run_until(clock::now() + clock::nanoseconds(self.options.timeout), |client| client.go)?;
        }
        self.publisher.schedule.start(clock::now());
        self.pinging.start(clock::now());
        self.start_requests(clock::now());
        self.run_for(self.options.warmup)?;
        if self.options.quiet > 0.0 {
            self.report.recording = true;
            self.run_for(self.options.quiet)?;
            self.report.others_quiet = std::mem::take(&mut self.report.others);
        }
        self.report.begin_window(self.options.server_pid);
        if self.options.come_back {
            self.cut_and_come_back()?;
        } else {
            self.run_for(self.options.seconds)?;
        }
        self.report.end_window(self.options.server_pid);
        eprintln!("window");
        self.publisher.schedule = Schedule::new(0.0);
        self.drain()?;
        Ok(self.finish())
    }

    /// Cuts all readers, and waits until the last one has caught up, at most as long as the window is.
    fn cut_and_come_back(&mut self) -> Result<(), String> {
        self.cut_readers();
        let deadline = clock::now() + clock::nanoseconds(self.options.seconds);
        self.run_until(deadline, |client| client.comeback.behind == 0)?;
        if self.comeback.behind > 0 {
            self.report.fault("not all came back in time");
        }
        Ok(())
    }

    /// Waits until what is still on its way has arrived, at most as long as `--drain` says.
    fn drain(&mut self) -> Result<(), String> {
        self.asking = false;
        let began = clock::now();
        let deadline = began + clock::nanoseconds(self.options.drain);
        self.run_until(deadline, |client| {
            client.unanswered() == 0 && clock::now() > client.last_event.max(began) + QUIET
        })?;
        if self.unanswered() > 0 {
            self.report.fault("requests without an answer");
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        let readers = self.connections.iter().filter(|connection| connection.role == Role::Reader);
        let live: Vec<_> = readers.filter(|connection| connection.phase == Phase::Live).collect();
        self.report.live = live.len();
        self.report.positions = range(live.iter().map(|connection| connection.position));
        let others = self.connections.iter().filter(|connection| connection.role == Role::Other);
        self.report.others_positions = range(others.map(|connection| connection.position));
        let slow = self.connections.iter().filter(|connection| connection.role == Role::Slow);
        self.report.slow_open = slow.filter_map(Connection::fd).filter(|fd| !socket::hung_up(*fd)).count();
        self.report.published = self.publisher.published;
        for connection in &self.connections {
            if let Some(socket) = &connection.socket {
                socket::reset_on_close(socket);
            }
        }
        self.report
    }

    fn run_for(&mut self, seconds: f64) -> Result<(), String> {
        self.run_until(clock::now() + clock::nanoseconds(seconds), |_| false)
    }

    /// Runs the loop until the deadline or the condition.
    fn run_until(&mut self, deadline: u64, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        loop {
            self.open_more()?;
            let now = clock::now();
            self.keep_schedules(now)?;
            if now >= deadline || done(self) {
                return Ok(());
            }
            let until = self
                .next_arrival()
                .min(deadline)
                .min(self.publisher.schedule.next)
                .min(self.pinging.next)
                .min(self.comeback.next());
            let patience = if self.options.polling { 0 } else { until.saturating_sub(now) };
            let count = self.epoll.wait(patience).map_err(|error| format!("epoll: {error}"))?;
            if count > 0 {
                self.last_event = now;
            } else if self.options.polling {
                self.report.counters.idle += clock::now() - now;
            }
            for at in 0..count {
                match self.epoll.event(at) {
                    (STDIN, _) => self.read_command()?,
                    (token, events) => self.handle(token as usize, events),
                }
            }
        }
    }

    fn all_open(&self) -> bool {
        self.opening == 0 && self.next_to_open == self.connections.len()
    }

    fn read_command(&mut self) -> Result<(), String> {
        let mut line = [0; 64];
        // SAFETY: the pointer and length are of one live array.
        let got = unsafe { libc::read(0, line.as_mut_ptr().cast(), line.len()) };
        if got <= 0 {
            return Err("stdin ended before `go`".into());
        }
        self.go = true;
        self.epoll.remove(0);
        Ok(())
    }

    fn open_more(&mut self) -> Result<(), String> {
        while self.opening < self.options.concurrency
            && self.next_to_open < self.connections.len()
            && self.next_arrival() <= clock::now()
        {
            let index = self.next_to_open;
            self.next_to_open += 1;
            self.open(index)?;
        }
        Ok(())
    }

    /// When the next connection may be opened, nanoseconds.
    fn next_arrival(&self) -> u64 {
        if self.next_to_open == self.connections.len() {
            return u64::MAX;
        }
        let share = self.next_to_open as f64 / self.connections.len() as f64;
        self.began + clock::nanoseconds(self.options.arrive * share)
    }

    /// Begins to open a connection; an error here is this machine's limit and ends the run.
    pub(crate) fn open(&mut self, index: usize) -> Result<(), String> {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + index as u32 % self.options.sources);
        let started = clock::now();
        let socket = socket::connect(self.options.host, self.options.port, source)
            .map_err(|error| format!("connect: {error}"))?;
        let connection = &mut self.connections[index];
        connection.started = started;
        connection.phase = Phase::Connecting;
        connection.socket = Some(socket);
        let fd = connection.fd().unwrap_or(-1);
        self.opening += 1;
        self.epoll.add(fd, INTEREST, index as u64).map_err(|error| format!("epoll: {error}"))
    }

    fn handle(&mut self, index: usize, events: i32) {
        if self.connections[index].phase == Phase::Connecting && events & (libc::EPOLLOUT | HANG_UP) != 0 {
            self.connected(index);
        }
        if events & (libc::EPOLLIN | HANG_UP) != 0 {
            self.receive(index, events & HANG_UP != 0);
        }
        if self.connections[index].role == Role::Publisher {
            self.flush_publisher(index);
        }
    }

    fn connected(&mut self, index: usize) {
        let Some(socket) = &self.connections[index].socket else { return };
        if let Some(error) = socket::connect_error(socket) {
            return self.close(index, &format!("connect: {error}"));
        }
        self.connections[index].phase = Phase::Upgrading;
        if self.options.streams {
            let channels = self.connections[index].channels(self.options, index);
            return self.send(index, &stream::request(self.options, &channels));
        }
        let request = std::mem::take(&mut self.upgrade_request);
        match self.tokens.get(index) {
            Some(token) => self.send(index, &connection::with_token(&request, token)),
            None => self.send(index, &request),
        }
        self.upgrade_request = request;
    }

    /// After the 101 response.
    pub(crate) fn upgraded(&mut self, index: usize) {
        if self.options.streams {
            let missing = self.connections[index].channels(self.options, index).len();
            self.connections[index].phase = Phase::Subscribing { missing };
            return;
        }
        match self.options.until {
            Until::Upgrade => self.established(index),
            Until::Established => self.connections[index].phase = Phase::Greeting,
        }
        if let Some(frame) = self.connections[index].first_frame(self.options, index) {
            self.send(index, &frame);
        }
    }

    /// After `connection_established`, or after the 101 response where that is enough.
    pub(crate) fn established(&mut self, index: usize) {
        let channels = self.connections[index].channels(self.options, index);
        if channels.is_empty() {
            return self.opened(index, clock::now());
        }
        self.connections[index].phase = Phase::Subscribing { missing: channels.len() };
        self.send(index, &connection::subscribe_frames(&channels));
    }

    /// The connection is as open as it gets.
    pub(crate) fn opened(&mut self, index: usize, now: u64) {
        self.opening -= 1;
        let connection = &mut self.connections[index];
        connection.phase = Phase::Live;
        if connection.comes_back() {
            return self.look_caught_up(index, now);
        }
        self.report.connects += 1;
        self.report.connect_time.record(now.saturating_sub(connection.started));
        if self.options.churn {
            self.reopen(index);
        } else if connection.role == Role::Slow
            && let Some(fd) = connection.fd()
        {
            self.epoll.remove(fd);
        }
    }

    fn reopen(&mut self, index: usize) {
        self.connections[index].reset();
        if let Err(reason) = self.open(index) {
            self.report.fault(&reason);
        }
    }

    pub(crate) fn close(&mut self, index: usize, reason: &str) {
        let connection = &mut self.connections[index];
        if connection.socket.is_none() {
            return;
        }
        let was_open = connection.phase == Phase::Live;
        connection.phase = Phase::Closed;
        connection.reset();
        if !was_open {
            self.opening -= 1;
            if connection.comes_back() {
                return self.failed(index, reason);
            }
        }
        self.report.fault(reason);
        if self.options.churn
            && let Err(reason) = self.open(index)
        {
            self.report.fault(&reason);
        }
    }

    /// Sends something small. A socket that does not take it at once is a fault.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(fd) = self.connections[index].fd() else { return };
        match socket::send(fd, bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(_) => self.report.fault("send: partly taken"),
            Err(error) => self.report.fault(&format!("send: {error}")),
        }
    }

    fn keep_schedules(&mut self, now: u64) -> Result<(), String> {
        if now >= self.publisher.schedule.next {
            self.publish_due(now);
        }
        while self.pinging.due(now) {
            let mut ping = Vec::new();
            frame::write_masked(&mut ping, frame::PING, &clock::now().to_be_bytes());
            self.send(0, &ping);
        }
        self.keep_appointments(now)
    }
}

/// The least and the greatest of the positions that are known.
fn range(positions: impl Iterator<Item = u64>) -> Option<(u64, u64)> {
    positions.filter(|&at| at != crate::receive::UNKNOWN).fold(None, |range, at| {
        let (low, high) = range.unwrap_or((at, at));
        Some((at.min(low), at.max(high)))
    })
}
