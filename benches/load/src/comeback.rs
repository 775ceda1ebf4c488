//! All readers lose their connections at once, and come back to their sessions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde_json::{Value, json};

use crate::client::Client;
use crate::clock;
use crate::connection::{Phase, Role, split_mix};
use crate::histogram::Histogram;
use crate::session::longest_wait;
use crate::verify::Missed;

/// What is still to be done for those that were cut.
#[derive(Default)]
pub struct Comeback {
    /// Moment, connection, and the attempt that is begun then. The attempt is given up if it is under way already.
    appointments: BinaryHeap<Reverse<(u64, usize, u64)>>,
    random: u64,
    /// Connections that were cut and have not caught up.
    pub behind: usize,
}

impl Comeback {
    /// When something is due next, nanoseconds.
    pub fn next(&self) -> u64 {
        self.appointments.peek().map_or(u64::MAX, |Reverse((moment, ..))| *moment)
    }
}

/// What became of those that were cut.
#[derive(Default)]
pub struct Returns {
    began: u64,
    /// When the last one had caught up.
    ended: u64,
    cut: u64,
    resumed: u64,
    recovered: u64,
    /// Subscriptions that could not say what was missed.
    unknown: u64,
    /// Attempts that did not let a client in, by reason.
    failed: BTreeMap<String, u64>,
    /// How late the load was when it began an attempt.
    late: Histogram,
    /// From `connect()` to `connection_established`, of the attempts that led to it.
    connect: Histogram,
    /// From the cut until all is there that the server had when the client came back.
    caught_up: Histogram,
}

impl Returns {
    pub fn began(&mut self, missed: &Missed, recovered: Option<bool>) -> u64 {
        self.recovered += u64::from(recovered == Some(true));
        match missed {
            Missed::Nothing => 0,
            Missed::Known(count) => *count,
            Missed::Unknown => {
                self.unknown += 1;
                0
            }
        }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "cut": self.cut,
            "began_ns": self.began,
            "ended_ns": self.ended,
            "resumed": self.resumed,
            "recovered": self.recovered,
            "unknown": self.unknown,
            "failed": self.failed,
            "late_ms": self.late.to_json(),
            "connect_ms": self.connect.to_json(),
            "caught_up_ms": self.caught_up.to_json(),
        })
    }
}

impl Client<'_> {
    /// Resets the sockets of all readers.
    pub(crate) fn cut_readers(&mut self) {
        self.comeback.random = self.options.seed;
        self.report.returns.began = clock::now();
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            let Some(session) = connection.session.as_mut().filter(|_| connection.role == Role::Reader)
            else {
                continue;
            };
            session.cut = clock::now();
            connection.reset();
            self.report.returns.cut += 1;
            self.comeback.behind += 1;
            self.try_later(index);
        }
    }

    /// Notes when a client tries again.
    pub(crate) fn try_later(&mut self, index: usize) {
        let Some(session) = &mut self.connections[index].session else { return };
        session.attempt += 1;
        let longest = longest_wait(session.failures, clock::nanoseconds(self.options.within));
        let share = (split_mix(&mut self.comeback.random) >> 11) as f64 / (1u64 << 53) as f64;
        let moment = clock::now() + (longest as f64 * share) as u64;
        self.comeback.appointments.push(Reverse((moment, index, session.attempt)));
        self.connections[index].phase = Phase::Waiting;
    }

    pub(crate) fn keep_appointments(&mut self, now: u64) -> Result<(), String> {
        while self.comeback.next() <= now {
            let Some(Reverse((moment, index, attempt))) = self.comeback.appointments.pop() else { break };
            let connection = &self.connections[index];
            if connection.session.as_ref().is_none_or(|session| session.attempt != attempt) {
                continue;
            }
            match connection.phase {
                Phase::Waiting => {
                    self.report.returns.late.record(clock::now().saturating_sub(moment));
                    self.open(index)?;
                    self.comeback.appointments.push(Reverse((now + ATTEMPT_TIMEOUT, index, attempt)));
                }
                Phase::Live | Phase::Closed => {}
                Phase::Connecting | Phase::Upgrading | Phase::Greeting | Phase::Subscribing { .. } => {
                    self.close(index, "not let in in time");
                }
            }
        }
        Ok(())
    }

    /// An attempt to come back has failed.
    pub(crate) fn failed(&mut self, index: usize, reason: &str) {
        *self.report.returns.failed.entry(reason.into()).or_default() += 1;
        if let Some(session) = &mut self.connections[index].session {
            session.failures += 1;
        }
        self.try_later(index);
    }

    /// A client that comes back is let in. The subscriptions that it has named follow.
    pub(crate) fn let_in_again(&mut self, index: usize, resumed: bool, now: u64) {
        self.report.returns.resumed += u64::from(resumed);
        self.report.returns.connect.record(now.saturating_sub(self.connections[index].started));
        let missing = self.connections[index].channels(self.options, index).len();
        self.connections[index].phase = Phase::Subscribing { missing };
        if missing == 0 {
            self.opened(index, now);
        }
    }

    /// Notes when a client that was cut has all that the server had when it came back.
    pub(crate) fn look_caught_up(&mut self, index: usize, now: u64) {
        let connection = &mut self.connections[index];
        let Some(session) = connection.session.as_mut().filter(|session| !session.is_back()) else { return };
        if connection.phase != Phase::Live {
            return;
        }
        let several = connection.verifier.as_ref().filter(|_| connection.follows_several);
        if several.map_or(connection.position >= session.top, |verifier| verifier.is_at_top()) {
            self.report.returns.caught_up.record(now.saturating_sub(session.cut));
            self.report.returns.ended = now;
            session.cut = 0;
            self.comeback.behind -= 1;
        }
    }
}

/// From the beginning of an attempt until its client is let in, nanoseconds, as in the clients of this repository.
const ATTEMPT_TIMEOUT: u64 = 10_000_000_000;
