//! How an application configures its channels: a rule for each pattern.

use serde::Deserialize;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::pattern::{Pattern, PatternError};

/// How the channels that match a pattern behave. The first rule that matches a name counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub pattern: String,
    pub subscribe: Access,
    pub publish: Access,
    /// Publications kept.
    pub history: usize,
    pub history_bytes: usize,
    #[serde(deserialize_with = "seconds")]
    pub history_seconds: Duration,
    pub mode: Mode,
    pub overrun: Overrun,
    /// Whether publications may be compressed for connections that negotiated it.
    pub compress: bool,
}

/// Who decides whether a client may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Open,
    Ask,
    No,
}

/// Whether a reader that is behind gets everything or the newest of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    All,
    Latest,
}

/// What happens to a reader past whom the log has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overrun {
    /// It is told which publications will not come, and goes on.
    Gap,
    /// It is closed with 4413, and comes back with its position.
    Close,
}

/// How much of a channel its log keeps, and how its readers get it.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub count: usize,
    pub bytes: usize,
    pub age: Duration,
    pub mode: Mode,
    pub overrun: Overrun,
    pub compress: bool,
}

impl Default for Retention {
    /// What a channel gets that no rule names, and a client's private channel.
    fn default() -> Self {
        Self {
            count: 1000,
            bytes: 1 << 20,
            age: Duration::from_secs(300),
            mode: Mode::All,
            overrun: Overrun::Gap,
            compress: true,
        }
    }
}

impl Rule {
    pub fn retention(&self) -> Retention {
        let Self { history, history_bytes, history_seconds, mode, overrun, compress, .. } = *self;
        Retention { count: history, bytes: history_bytes, age: history_seconds, mode, overrun, compress }
    }
}

/// The rules of a server, ready to be asked.
#[derive(Debug, Default)]
pub struct Rules(Vec<(Pattern, Rule)>);

impl Rules {
    /// # Errors
    /// [`RuleError`] when a pattern or a bound of a rule is not legal.
    pub fn new(rules: &[Rule]) -> Result<Self, RuleError> {
        let ready = |rule: &Rule| {
            if rule.history == 0 || rule.history_bytes == 0 {
                return Err(RuleError::NoHistory);
            }
            if rule.history_seconds < SHORTEST_HISTORY {
                return Err(RuleError::ShortHistory);
            }
            if rule.pattern.starts_with('$') {
                return Err(RuleError::Reserved);
            }
            Ok((Pattern::new(&rule.pattern, ':')?, rule.clone()))
        };
        rules.iter().map(ready).collect::<Result<_, _>>().map(Self)
    }

    /// The first rule whose pattern matches, its index, and what the parameters stand for. No rule is about a name that the
    /// server makes, which begins with `@` or `$`: a pattern that matches everything does not mean those.
    pub fn find<'r, 'a>(&'r self, channel: &'a str) -> Option<(usize, &'r Rule, Vec<&'a str>)> {
        if channel.starts_with(['@', '$']) {
            return None;
        }
        let matching = |(index, (pattern, rule)): (usize, &'r (Pattern, Rule))| {
            pattern.matches(channel).map(|params| (index, rule, params))
        };
        self.0.iter().enumerate().find_map(matching)
    }

    /// What a channel's log keeps.
    pub fn retention(&self, channel: &ChannelName) -> Retention {
        self.find(channel.as_str()).map_or_else(Retention::default, |(_, rule, _)| rule.retention())
    }
}

/// Why a rule can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    #[error("history: a channel keeps at least one publication and one byte")]
    NoHistory,
    #[error(
        "history_seconds: at least 1 second: a reader that is served a few ticks late would lose what is older"
    )]
    ShortHistory,
    #[error("channels: a pattern does not begin with \"$\": those channels are the server's")]
    Reserved,
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Reads a setting that is a number of seconds.
pub(crate) fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| serde::de::Error::custom("seconds are a number, 0 or more"))
}

/// A publication has to outlive the time until it is written: a tick, and a pass over all readers.
const SHORTEST_HISTORY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn least(pattern: &str) -> Rule {
        Rule {
            pattern: pattern.into(),
            subscribe: Access::Open,
            publish: Access::No,
            history: 1,
            history_bytes: 1,
            history_seconds: SHORTEST_HISTORY,
            mode: Mode::Latest,
            overrun: Overrun::Close,
            compress: false,
        }
    }

    #[test]
    fn a_channel_that_keeps_too_little_for_any_reader_or_is_the_servers_is_refused() {
        assert!(Rules::new(&[least("a")]).is_ok());
        let refused = [
            Rule { history: 0, ..least("a") },
            Rule { history_bytes: 0, ..least("a") },
            Rule { history_seconds: Duration::from_millis(999), ..least("a") },
            least("$a"),
            least("${a}"),
        ];
        for rule in refused {
            assert!(Rules::new(&[rule]).is_err());
        }
    }

    #[test]
    fn a_pattern_that_matches_everything_does_not_match_channels_that_the_server_makes() {
        for pattern in ["{x}", "{name:path}", "@{x}"] {
            let rules = Rules::new(&[least(pattern)]).expect("legal");
            assert!(rules.find("$node").is_none());
            let kept = rules.retention(&ChannelName::private("0123456789abcdef"));
            assert_eq!((kept.count, kept.mode, kept.overrun), (1000, Mode::All, Overrun::Gap));
            assert!(kept.compress);
        }
    }
}
