//! The deadlines of one connection. The shard's wheel keeps them, apart from the connection's own progress, so a peer that
//! stalls a write can't stall its deadline.

use std::time::Duration;

use crate::close::CloseReason;
use crate::config::Config;
use crate::moment::Moment;
use crate::transport::excess::EXCESS_PATIENCE;

/// The durations that [`Deadlines`] count with; the same for all connections of a server.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub handshake: Duration,
    pub heartbeat: Duration,
    pub message: Duration,
    pub write: Duration,
    pub close: Duration,
    /// Silence after which a stream says something.
    pub stream_silence: Duration,
    /// How long a stream may last.
    pub stream: Option<Duration>,
}

impl From<&Config> for Timeouts {
    fn from(config: &Config) -> Self {
        Self {
            handshake: config.handshake_timeout,
            heartbeat: config.heartbeat,
            message: config.message_timeout,
            write: config.write_timeout,
            close: config.close_timeout,
            stream_silence: config.heartbeat.min(STREAM_SILENCE),
            stream: Some(config.stream_seconds).filter(|time| !time.is_zero()),
        }
    }
}

/// What a connection is waiting for, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    stage: Stage,
    /// In the handshake, when it was accepted. When open, when the peer was last heard. When closing, when we closed. In a part, when
    /// something was said; [`LAST`]: nothing was.
    since: Moment,
    pinged: bool,
    /// The peer was told that its credentials are good for a short time only.
    told: bool,
    /// Since when a message is unfinished; [`LAST`]: none is.
    message: Moment,
    output: Output,
    /// When to look whether the client's credentials are still good.
    credentials: Moment,
}

/// What the socket does with our bytes.
#[derive(Clone, Copy, Debug)]
enum Output {
    /// It took them, and last at this moment.
    Taken(Moment),
    /// They have waited for it since this moment.
    Waiting(Moment),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Hurried,
    /// Calls are made on it, and none now.
    Idle,
    /// A call is made. What takes its time is bounded by itself.
    Calling,
    Open,
    /// An event stream. Its peer says nothing.
    Stream,
    /// A part of a stream that comes in parts.
    Part,
    /// Between two parts.
    Parted,
    Closing,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing before this moment.
    Wait(Moment),
    /// Send a ping.
    Ping,
    /// End this part of the stream.
    EndPart,
    /// Look whether the client's credentials are still good.
    Credentials,
    /// The handshake took too long: answer 408 if a part of it came, otherwise close without a word.
    Late,
    /// Close for this reason.
    Close(CloseReason),
    /// The peer does not ask for the next part of its stream.
    Gone,
    /// Drop the socket: the peer does not read, or does not end its side.
    Drop,
}

impl Deadlines {
    pub fn new(accepted: Moment) -> Self {
        Self {
            stage: Stage::Handshake,
            since: accepted,
            pinged: false,
            told: false,
            message: LAST,
            output: Output::Taken(accepted),
            credentials: LAST,
        }
    }

    /// Says when to look at the client's credentials; `None`: they are good for ever.
    pub fn look_at_credentials(&mut self, at: Option<Moment>, told: bool) {
        (self.credentials, self.told) = (at.unwrap_or(LAST), told);
    }

    /// Whether the peer was told that its credentials are good for a short time only.
    pub fn was_told(&self) -> bool {
        self.told
    }

    /// When it was accepted, while it is in the handshake.
    pub fn handshake_since(&self) -> Option<Moment> {
        (self.stage == Stage::Handshake).then_some(self.since)
    }

    /// The same, also for one that is beyond a limit.
    pub fn accepted(&self) -> Option<Moment> {
        matches!(self.stage, Stage::Handshake | Stage::Hurried).then_some(self.since)
    }

    /// The handshake, authentication included, has ended well.
    pub fn opened(&mut self, now: Moment) {
        (self.stage, self.since, self.pinged) = (Stage::Open, now, false);
        self.said(now);
    }

    /// It is beyond a limit, and may only send its request.
    pub fn hurry(&mut self) {
        self.stage = Stage::Hurried;
    }

    /// It is an event stream from now on.
    pub fn streaming(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Stream, now);
    }

    /// A part of a stream begins. If nothing waits to be said, it lasts until there is something.
    pub fn begin_part(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Part, LAST);
        self.output = match self.output {
            Output::Taken(_) => Output::Taken(now),
            Output::Waiting(_) => Output::Waiting(now),
        };
    }

    /// A part of a stream has ended, and the peer is to ask for the next one.
    pub fn end_part(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Parted, now);
    }

    /// Whether the peer is to ask for the next part of its stream.
    pub fn is_parted(&self) -> bool {
        self.stage == Stage::Parted
    }

    /// A request is read on a connection that was kept, and looked at.
    pub fn handshake(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Handshake, now);
    }

    /// A call is made.
    pub fn calling(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Calling, now);
    }

    /// A call was answered, and the next one may come.
    pub fn idle(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Idle, now);
    }

    /// Since when it has been kept for another call.
    pub fn idle_since(&self) -> Option<Moment> {
        (self.stage == Stage::Idle).then_some(self.since)
    }

    /// Bytes came from the peer.
    pub fn heard(&mut self, now: Moment) {
        if self.stage == Stage::Open {
            self.since = now;
            self.pinged = false;
        }
    }

    /// The socket took bytes. Whatever they were, a proxy has seen them pass. Returns whether a part of a stream will end for that.
    pub fn said(&mut self, now: Moment) -> bool {
        if let Output::Taken(last) = &mut self.output {
            *last = now;
        }
        let is_first = self.stage == Stage::Part && self.since == LAST;
        if is_first {
            self.since = now;
        }
        is_first
    }

    /// Tells whether a message is `unfinished`, and whether one was `finished` since the last call: then it is another one.
    pub fn message(&mut self, unfinished: bool, finished: bool, now: Moment) {
        let since = if finished { now } else { self.message.min(now) };
        self.message = if unfinished { since } else { LAST };
    }

    /// Tells whether bytes wait for the socket. When some but not all were taken, call it with `false`, then with `true`.
    pub fn stalled(&mut self, waiting: bool, now: Moment) {
        self.output = match self.output {
            Output::Waiting(since) if waiting => Output::Waiting(since),
            Output::Taken(_) if waiting => Output::Waiting(now),
            _ => Output::Taken(now),
        };
        if !waiting && self.stage == Stage::Closing {
            // The peer is still reading our last bytes.
            self.since = now;
        }
    }

    /// The peer has ended its side. We end ours within the close time.
    pub fn closing(&mut self, now: Moment) {
        if self.stage != Stage::Closing {
            self.last_said(now);
        }
    }

    /// Our close frame or our last response went out. The peer has the close time to end its side.
    pub fn last_said(&mut self, now: Moment) {
        (self.stage, self.since) = (Stage::Closing, now);
    }

    /// The earliest moment at which [`Deadlines::check`] may have something to say.
    pub fn next(&self, limits: &Timeouts) -> Moment {
        let stage = match self.stage {
            Stage::Handshake | Stage::Hurried => self.handshake_end(limits),
            Stage::Idle => self.since + KEPT,
            Stage::Calling => LAST,
            Stage::Closing => return self.since + limits.close,
            Stage::Open => self.next_beat(limits.heartbeat),
            Stage::Stream => self.next_sign(limits),
            Stage::Part => self.end_of_part(limits),
            Stage::Parted => self.since + BETWEEN_PARTS,
        };
        let stalled = self.stalled_since().map(|since| since + limits.write);
        let message = (self.message < LAST).then(|| self.message + limits.message);
        [stalled, message].into_iter().flatten().fold(stage.min(self.credentials), Moment::min)
    }

    /// Judges all deadlines. After anything but [`Verdict::Wait`], act, then ask again.
    ///
    /// `listening` says whether the server reads from the peer. While it does not, the peer can't be blamed for silence.
    pub fn check(&mut self, now: Moment, listening: bool, limits: &Timeouts) -> Verdict {
        let over = |since: Option<Moment>, limit| since.is_some_and(|since| now >= since + limit);
        match self.stage {
            Stage::Handshake | Stage::Hurried if now >= self.handshake_end(limits) => return Verdict::Late,
            Stage::Idle if now >= self.since + KEPT => return Verdict::Late,
            Stage::Closing if now >= self.since + limits.close => return Verdict::Drop,
            Stage::Parted if now >= self.since + BETWEEN_PARTS => return Verdict::Gone,
            _ => {}
        }
        if self.stage != Stage::Closing && over(self.stalled_since(), limits.write) {
            return Verdict::Close(CloseReason::NotReading);
        }
        if matches!(self.stage, Stage::Open | Stage::Stream | Stage::Part | Stage::Parted)
            && now >= self.credentials
        {
            return Verdict::Credentials;
        }
        let listening = listening && self.stalled_since().is_none();
        if !listening {
            // What is not read can't be finished either.
            self.message = if self.message < LAST { now } else { LAST };
        }
        if self.stage != Stage::Closing
            && over(Some(self.message).filter(|since| *since < LAST), limits.message)
        {
            return Verdict::Close(CloseReason::UnfinishedMessage);
        }
        match self.stage {
            Stage::Open => self.heartbeat(now, listening, limits.heartbeat),
            Stage::Stream if over(limits.stream.and(Some(self.since)), limits.stream.unwrap_or_default()) => {
                Verdict::Close(CloseReason::Rotated)
            }
            Stage::Stream if now >= self.next_sign(limits) => {
                self.said(now);
                Verdict::Ping
            }
            Stage::Part if now >= self.end_of_part(limits) => Verdict::EndPart,
            _ => Verdict::Wait(self.next(limits)),
        }
    }

    fn handshake_end(&self, limits: &Timeouts) -> Moment {
        let is_hurried = self.stage == Stage::Hurried;
        self.since + if is_hurried { limits.handshake.min(EXCESS_PATIENCE) } else { limits.handshake }
    }

    /// When a stream has to say something, or is over. While bytes wait for the socket, there is nothing to add.
    fn next_sign(&self, limits: &Timeouts) -> Moment {
        let end = self.since + limits.stream.unwrap_or(NEVER);
        match self.output {
            Output::Taken(last) => end.min(last + limits.stream_silence),
            Output::Waiting(_) => end,
        }
    }

    /// When a part of a stream ends. Its last bytes are not to wait for the socket.
    fn end_of_part(&self, limits: &Timeouts) -> Moment {
        match self.output {
            Output::Taken(last) => (last + limits.stream_silence).min(self.since + A_PART),
            Output::Waiting(_) => LAST,
        }
    }

    fn heartbeat(&mut self, now: Moment, listening: bool, interval: Duration) -> Verdict {
        if !listening {
            // Its answers are not read, because nothing can be written to it or the application asked for a pause. A new
            // interval begins.
            (self.since, self.pinged) = (now, false);
        }
        let next = self.next_beat(interval);
        if now < next {
            return Verdict::Wait(next);
        }
        if self.pinged && now >= self.since + interval * 2 {
            return Verdict::Close(CloseReason::NoHeartbeat);
        }
        if !self.pinged {
            // The wheel may be late. The peer still has a whole interval to answer.
            self.since = self.since.max(now - interval);
        }
        self.pinged = listening;
        self.said(now);
        Verdict::Ping
    }

    /// When a ping is due, or its answer is. A proxy between the two ends counts what comes from each of them: so nothing that goes to
    /// the peer is silence, too. While bytes wait for the socket, a ping would only wait behind them.
    fn next_beat(&self, interval: Duration) -> Moment {
        let heard = self.since + if self.pinged { interval * 2 } else { interval };
        match self.output {
            Output::Taken(last) => heard.min(last + interval),
            Output::Waiting(_) => heard,
        }
    }

    /// Since when the socket has taken none of the bytes that wait for it.
    pub fn stalled_since(&self) -> Option<Moment> {
        match self.output {
            Output::Waiting(since) if self.stage != Stage::Parted => Some(since),
            Output::Taken(_) | Output::Waiting(_) => None,
        }
    }
}

/// Silence after which a stream says something, unless the setting `heartbeat` is shorter. Many proxies cut after 30 or 60 seconds.
const STREAM_SILENCE: Duration = Duration::from_secs(15);

/// How long a connection is kept for the next call. Balancers keep theirs for 60 seconds, and must not find one that we have just closed.
const KEPT: Duration = Duration::from_secs(75);

/// How long a part of a stream goes on when something was said in it. What comes within this time needs no part of its own.
const A_PART: Duration = Duration::from_millis(50);

/// How long a client may take to ask for the next part.
const BETWEEN_PARTS: Duration = Duration::from_secs(10);

/// Longer than a server runs.
const NEVER: Duration = Duration::from_secs(1 << 32);

/// The last of all moments.
const LAST: Moment = Moment::from_nanos(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Timeouts = Timeouts {
        handshake: Duration::from_secs(10),
        heartbeat: Duration::from_secs(25),
        message: Duration::from_secs(60),
        write: Duration::from_secs(30),
        close: Duration::from_secs(5),
        stream_silence: Duration::from_secs(15),
        stream: Some(Duration::from_secs(100)),
    };

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn open() -> Deadlines {
        let mut deadlines = Deadlines::new(at(0));
        deadlines.opened(at(0));
        deadlines
    }

    #[test]
    fn a_handshake_is_late_ten_seconds_after_accept_however_busy_it_is() {
        let mut deadlines = Deadlines::new(at(0));
        deadlines.heard(at(9));
        assert_eq!(deadlines.check(at(9), true, &LIMITS), Verdict::Wait(at(10)));
        assert_eq!(deadlines.check(at(10), true, &LIMITS), Verdict::Late);
    }

    #[test]
    fn a_silent_peer_is_pinged_once_and_then_closed() {
        let mut deadlines = open();
        assert_eq!(deadlines.check(at(24), true, &LIMITS), Verdict::Wait(at(25)));
        assert_eq!(deadlines.check(at(25), true, &LIMITS), Verdict::Ping);
        assert_eq!(deadlines.check(at(26), true, &LIMITS), Verdict::Wait(at(50)));
        assert_eq!(deadlines.check(at(50), true, &LIMITS), Verdict::Close(CloseReason::NoHeartbeat));
    }

    #[test]
    fn a_part_ends_soon_after_something_was_said_and_otherwise_after_silence() {
        let mut deadlines = open();
        deadlines.begin_part(at(0));
        assert_eq!(deadlines.check(at(14), true, &LIMITS), Verdict::Wait(at(15)));
        assert_eq!(deadlines.check(at(15), true, &LIMITS), Verdict::EndPart);
        assert!(deadlines.said(at(15)) && !deadlines.said(at(15)));
        assert_eq!(deadlines.check(at(15), true, &LIMITS), Verdict::Wait(at(15) + A_PART));
        assert_eq!(deadlines.check(at(15) + A_PART, true, &LIMITS), Verdict::EndPart);
        deadlines.stalled(true, at(16));
        assert_eq!(
            deadlines.check(at(17), true, &LIMITS),
            Verdict::Wait(at(46)),
            "its end would have to wait"
        );
        assert_eq!(deadlines.check(at(46), true, &LIMITS), Verdict::Close(CloseReason::NotReading));
    }

    #[test]
    fn a_client_has_ten_seconds_to_ask_for_the_next_part_however_much_waits() {
        let mut deadlines = open();
        deadlines.end_part(at(1));
        deadlines.stalled(true, at(2));
        assert_eq!(deadlines.check(at(10), true, &LIMITS), Verdict::Wait(at(11)));
        assert_eq!(deadlines.check(at(11), true, &LIMITS), Verdict::Gone);
        deadlines.begin_part(at(10));
        assert_eq!(deadlines.check(at(39), true, &LIMITS), Verdict::Wait(at(40)), "the socket has its time");
    }

    #[test]
    fn a_connection_beyond_a_limit_has_a_second_for_its_request() {
        let mut deadlines = Deadlines::new(at(0));
        deadlines.hurry();
        assert_eq!(deadlines.handshake_since(), None, "it makes no room for others");
        assert_eq!(deadlines.check(at(0), true, &LIMITS), Verdict::Wait(at(1)));
        assert_eq!(deadlines.check(at(1), true, &LIMITS), Verdict::Late);
    }

    #[test]
    fn a_stream_says_something_after_each_silence_and_ends_when_it_has_lasted_long_enough() {
        let mut deadlines = open();
        deadlines.streaming(at(0));
        assert_eq!(deadlines.check(at(14), true, &LIMITS), Verdict::Wait(at(15)));
        assert_eq!(deadlines.check(at(15), true, &LIMITS), Verdict::Ping);
        deadlines.said(at(20));
        assert_eq!(deadlines.check(at(30), true, &LIMITS), Verdict::Wait(at(35)));
        assert_eq!(deadlines.check(at(90), false, &LIMITS), Verdict::Ping, "its peer has nothing to say");
        assert_eq!(deadlines.check(at(90), true, &LIMITS), Verdict::Wait(at(100)));
        assert_eq!(deadlines.check(at(100), true, &LIMITS), Verdict::Close(CloseReason::Rotated));
        let forever = Timeouts { stream: None, ..LIMITS };
        assert_eq!(deadlines.check(at(1000), true, &forever), Verdict::Ping);
    }

    #[test]
    fn a_stream_whose_socket_takes_nothing_ends_in_time_without_more_to_wait() {
        let mut deadlines = open();
        deadlines.streaming(at(0));
        deadlines.stalled(true, at(10));
        assert_eq!(deadlines.check(at(30), true, &LIMITS), Verdict::Wait(at(40)));
        assert_eq!(deadlines.check(at(40), true, &LIMITS), Verdict::Close(CloseReason::NotReading));
    }

    #[test]
    fn a_peer_that_answers_stays() {
        let mut deadlines = open();
        assert_eq!(deadlines.check(at(25), true, &LIMITS), Verdict::Ping);
        deadlines.heard(at(26));
        assert_eq!(deadlines.check(at(49), true, &LIMITS), Verdict::Wait(at(50)));
        assert_eq!(deadlines.check(at(50), true, &LIMITS), Verdict::Ping);
        deadlines.heard(at(51));
        assert_eq!(deadlines.check(at(51), true, &LIMITS), Verdict::Wait(at(75)), "one ping for both sides");
    }

    #[test]
    fn a_peer_that_only_sends_is_pinged_and_stays() {
        let mut deadlines = open();
        let mut pings = 0;
        for second in 1..=100 {
            deadlines.heard(at(second));
            pings += u32::from(deadlines.check(at(second), true, &LIMITS) == Verdict::Ping);
        }
        assert_eq!(pings, 4);
    }

    #[test]
    fn a_peer_that_only_gets_something_is_pinged_and_has_a_whole_interval_to_answer() {
        let mut deadlines = open();
        for second in 1..50 {
            deadlines.said(at(second));
            let expected = second == 25;
            assert_eq!(deadlines.check(at(second), true, &LIMITS) == Verdict::Ping, expected, "{second}");
        }
        assert_eq!(deadlines.check(at(50), true, &LIMITS), Verdict::Close(CloseReason::NoHeartbeat));
    }

    #[test]
    fn a_peer_that_falls_silent_before_a_ping_has_as_long_as_ever() {
        let mut deadlines = open();
        deadlines.heard(at(20));
        assert_eq!(deadlines.check(at(25), true, &LIMITS), Verdict::Ping, "nothing went to it");
        assert_eq!(deadlines.check(at(49), true, &LIMITS), Verdict::Wait(at(50)));
        assert_eq!(deadlines.check(at(50), true, &LIMITS), Verdict::Ping);
        assert_eq!(deadlines.check(at(69), true, &LIMITS), Verdict::Wait(at(70)));
        assert_eq!(deadlines.check(at(70), true, &LIMITS), Verdict::Close(CloseReason::NoHeartbeat));
    }

    #[test]
    fn a_peer_whose_socket_takes_nothing_is_not_pinged() {
        let mut deadlines = open();
        deadlines.stalled(true, at(20));
        assert_eq!(deadlines.check(at(26), true, &LIMITS), Verdict::Wait(at(51)));
        deadlines.stalled(false, at(30));
        assert_eq!(deadlines.check(at(30), true, &LIMITS), Verdict::Wait(at(51)));
    }

    #[test]
    fn after_a_suspended_machine_wakes_the_peer_still_gets_a_whole_interval() {
        let mut deadlines = open();
        assert_eq!(deadlines.check(at(3600), true, &LIMITS), Verdict::Ping);
        assert_eq!(deadlines.check(at(3601), true, &LIMITS), Verdict::Wait(at(3625)));
    }

    #[test]
    fn an_unfinished_message_ends_the_connection_even_when_pings_come_in_between() {
        let mut deadlines = open();
        deadlines.message(true, false, at(1));
        for second in (2..61).step_by(10) {
            deadlines.heard(at(second));
            deadlines.said(at(second));
            deadlines.message(true, false, at(second));
            assert!(matches!(deadlines.check(at(second), true, &LIMITS), Verdict::Wait(_)));
        }
        assert_eq!(deadlines.check(at(61), true, &LIMITS), Verdict::Close(CloseReason::UnfinishedMessage));
    }

    #[test]
    fn a_peer_that_sends_one_message_after_another_is_never_late_with_one() {
        let mut deadlines = open();
        for second in (1..200).step_by(10) {
            deadlines.heard(at(second));
            deadlines.said(at(second));
            deadlines.message(true, true, at(second));
            assert!(matches!(deadlines.check(at(second), true, &LIMITS), Verdict::Wait(_)));
        }
    }

    #[test]
    fn a_message_that_is_not_read_on_is_not_late() {
        let mut deadlines = open();
        deadlines.message(true, false, at(1));
        deadlines.said(at(60));
        assert!(matches!(deadlines.check(at(61), false, &LIMITS), Verdict::Wait(_)));
        deadlines.heard(at(62));
        deadlines.message(true, false, at(62));
        assert!(matches!(deadlines.check(at(80), true, &LIMITS), Verdict::Wait(_)));
        deadlines.heard(at(110));
        assert_eq!(deadlines.check(at(121), true, &LIMITS), Verdict::Close(CloseReason::UnfinishedMessage));
    }

    #[test]
    fn a_peer_that_is_not_listened_to_is_not_silent() {
        let mut deadlines = open();
        assert_eq!(deadlines.check(at(25), true, &LIMITS), Verdict::Ping);
        assert_eq!(deadlines.check(at(49), false, &LIMITS), Verdict::Wait(at(50)));
        assert_eq!(deadlines.check(at(50), false, &LIMITS), Verdict::Ping, "a proxy counts all the same");
        deadlines.said(at(60));
        assert_eq!(deadlines.check(at(74), false, &LIMITS), Verdict::Wait(at(85)));
        assert_eq!(deadlines.check(at(75), true, &LIMITS), Verdict::Wait(at(85)));
    }

    #[test]
    fn credentials_are_looked_at_in_their_time_whether_the_peer_reads_or_not() {
        let mut deadlines = open();
        deadlines.look_at_credentials(Some(at(20)), false);
        deadlines.stalled(true, at(1));
        assert_eq!(deadlines.next(&LIMITS), at(20));
        assert_ne!(deadlines.check(at(19), false, &LIMITS), Verdict::Credentials);
        assert_eq!(deadlines.check(at(20), false, &LIMITS), Verdict::Credentials);
        deadlines.look_at_credentials(None, false);
        assert_eq!(deadlines.next(&LIMITS), at(31));
        assert_ne!(deadlines.check(at(20), false, &LIMITS), Verdict::Credentials);
        deadlines.look_at_credentials(Some(at(21)), true);
        deadlines.last_said(at(20));
        assert_eq!(deadlines.check(at(22), true, &LIMITS), Verdict::Wait(at(25)), "it is over anyway");
    }

    #[test]
    fn a_write_that_makes_no_progress_ends_the_connection() {
        let mut deadlines = open();
        deadlines.stalled(true, at(1));
        deadlines.stalled(true, at(20));
        assert_eq!(deadlines.check(at(31), true, &LIMITS), Verdict::Close(CloseReason::NotReading));
        deadlines.stalled(false, at(31));
        deadlines.heard(at(31));
        assert_eq!(deadlines.check(at(31), true, &LIMITS), Verdict::Wait(at(56)));
    }

    #[test]
    fn a_peer_that_reads_a_long_last_word_gets_all_of_it() {
        let mut deadlines = open();
        deadlines.last_said(at(0));
        for second in (4..60).step_by(4) {
            assert!(matches!(deadlines.check(at(second), true, &LIMITS), Verdict::Wait(_)));
            deadlines.stalled(false, at(second));
            deadlines.stalled(true, at(second));
        }
        assert_eq!(deadlines.check(at(61), true, &LIMITS), Verdict::Drop);
    }

    #[test]
    fn a_peer_that_does_not_end_its_side_is_dropped() {
        let mut deadlines = open();
        deadlines.last_said(at(3));
        assert_eq!(deadlines.check(at(4), true, &LIMITS), Verdict::Wait(at(8)));
        assert_eq!(deadlines.check(at(8), true, &LIMITS), Verdict::Drop);
    }
}
