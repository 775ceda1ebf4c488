//! What rooms are told of the world around them.

use std::time::Duration;

use crate::broker::Broker;
use crate::config::Config;
use crate::moment::Moment;

/// The time, for what is due and for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// The present moment.
    pub moment: Moment,
    /// Milliseconds of Unix time.
    pub millis: u64,
}

/// What is the same for all channels.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Between two gatherings, while there are few readers.
    pub interval: Duration,
    /// Members that are listed. Of more, the number is told.
    pub limit: usize,
    /// How long a member whose connection is lost stays.
    pub grace: Duration,
}

impl From<&Config> for Bounds {
    fn from(config: &Config) -> Self {
        let Config { presence_interval: interval, presence_limit: limit, presence_grace: grace, .. } =
            *config;
        Self { interval, limit, grace }
    }
}

/// What the rule of a channel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The number of the members is told from the beginning, and never who they are.
    pub counts: bool,
    /// The application is told who comes and who leaves.
    pub is_told: bool,
}

/// What a room needs of its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub now: Now,
    pub broker: &'a dyn Broker,
    pub bounds: &'a Bounds,
}
