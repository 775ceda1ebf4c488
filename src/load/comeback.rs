//! All readers lose their connections at once, and come back to their sessions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde_json::{Value, json};

use crate::load::histogram::Histogram;
use crate::load::verify::Missed;

/// What is still to be done for those that were cut.
#[derive(Default)]
pub struct Comeback {
    /// Moment, connection, and the attempt that is begun then. The attempt is given up if it is under way already.
    pub appointments: BinaryHeap<Reverse<(u64, usize, u64)>>,
    pub random: u64,
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
    pub began: u64,
    /// When the last one had caught up.
    pub ended: u64,
    pub cut: u64,
    pub resumed: u64,
    pub recovered: u64,
    /// Subscriptions that could not say what was missed.
    pub unknown: u64,
    /// Attempts that did not let a client in, by reason.
    pub failed: BTreeMap<String, u64>,
    /// How late the load was when it began an attempt.
    pub late: Histogram,
    /// From `connect()` to `connection_established`, of the attempts that led to it.
    pub connect: Histogram,
    /// From the cut until all is there that the server had when the client came back.
    pub caught_up: Histogram,
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
