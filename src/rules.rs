//! How an application configures its channels: a rule for each pattern.

use serde::Deserialize;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::identity::Identity;
use crate::pattern::{Pattern, PatternError};
use crate::rights::Wish;

/// How the channels whose names match a pattern behave. Of several rules that match, the first one counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// See [`Pattern`]; the separator is `:`.
    pub pattern: String,
    /// Whether clients may subscribe.
    pub subscribe: Access,
    /// Whether clients may publish.
    pub publish: Access,
    /// Most publications that the log keeps.
    pub history: usize,
    /// Most bytes that the log keeps, those of its bookkeeping included.
    pub history_bytes: usize,
    /// Time after which a publication is dropped.
    #[serde(deserialize_with = "seconds")]
    pub history_seconds: Duration,
    /// What a reader that is behind gets.
    pub mode: Mode,
    /// What happens to a reader that lost publications.
    pub overrun: Overrun,
    /// Whether publications may be compressed for connections that negotiated it.
    pub compress: bool,
    /// Whether updates say which client published them.
    pub sender: bool,
    /// Where a subscriber without a position begins.
    pub replay: Replay,
    /// Whether the application is asked again when a client comes back to its session.
    pub recheck: bool,
    /// Whether the claims of a client may allow it, before anybody is asked.
    #[serde(default)]
    pub claims: bool,
    /// Whether clients have to name the version that a change of a state replaces.
    #[serde(default)]
    pub versions: bool,
    /// Whether the application resolves conflicts about entries of a state.
    #[serde(default)]
    pub resolves: bool,
    /// Most keys of a state.
    #[serde(default = "most_keys")]
    pub max_keys: usize,
    /// Most bytes of a state, those of its bookkeeping and its removals included.
    #[serde(default = "most_state_bytes")]
    pub state_bytes: usize,
    /// Whether clients may read who is in the channel.
    #[serde(default)]
    pub presence: Presence,
    /// The application says who a member is for others.
    #[serde(default)]
    pub presence_asks: bool,
    /// The application is told who comes and who leaves.
    #[serde(default)]
    pub presence_told: bool,
}

/// What clients may read of who is in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Nothing.
    #[default]
    No,
    /// Who the members are, while they are not too many.
    List,
    /// How many members there are.
    Count,
}

/// Who decides whether a client may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Every client may.
    Open,
    /// The application is asked each time.
    Ask,
    /// No client may.
    No,
}

/// What a reader that is behind gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every publication.
    All,
    /// Of the publications with the same key, the newest only.
    Latest,
    /// All keys that were not removed, each with its newest publication, however old that is.
    State,
}

impl Mode {
    /// Whether the newest publication of a key takes the place of the older ones.
    pub fn is_keyed(self) -> bool {
        self != Self::All
    }
}

/// What happens to a reader that lost publications, because the log dropped them before the reader got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overrun {
    /// The client is told which publications will not come, and goes on.
    Gap,
    /// The client is closed with 4413. It can come back with its position.
    Close,
}

/// Where a subscriber without a position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// With what comes next.
    Head,
    /// With the oldest publication that the log still has.
    Start,
}

/// What the log of a channel keeps, and how its readers get it. See [`Rule`].
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Most publications.
    pub count: usize,
    /// Most bytes.
    pub bytes: usize,
    /// Time after which a publication is dropped.
    pub age: Duration,
    /// What a reader that is behind gets.
    pub mode: Mode,
    /// What happens to a reader that lost publications.
    pub overrun: Overrun,
    /// Whether publications may be compressed.
    pub compress: bool,
    /// Whether updates say which client published them.
    pub sender: bool,
    /// Where a subscriber without a position begins.
    pub replay: Replay,
    /// Most bytes of the log while readers that keep up were not offered all of it. In a state, of the removals.
    pub burst: usize,
    /// Whether values that were replaced are kept, for conflicts.
    pub bases: bool,
    /// Most keys of a state.
    pub max_keys: usize,
    /// Most bytes of a state.
    pub state_bytes: usize,
    /// Time after which a state is dropped that is neither read nor written.
    pub idle: Option<Duration>,
}

impl Retention {
    /// Whether the channel has a state.
    pub fn is_state(&self) -> bool {
        self.mode == Mode::State
    }

    /// For how long nothing has to go.
    pub fn shortest(&self) -> Duration {
        self.idle.map_or(self.age, |idle| self.age.min(idle))
    }
}

impl Default for Retention {
    /// For channels that no rule matches, and for the private channels of clients.
    fn default() -> Self {
        Self {
            count: 1000,
            bytes: 1 << 20,
            age: Duration::from_secs(300),
            mode: Mode::All,
            overrun: Overrun::Gap,
            compress: true,
            sender: false,
            replay: Replay::Head,
            burst: 16 << 20,
            bases: false,
            max_keys: most_keys(),
            state_bytes: most_state_bytes(),
            idle: None,
        }
    }
}

impl Rule {
    /// Who decides whether a client may do something in a channel of this rule. The same for everything that carries a wish.
    pub fn access(&self, wish: Wish, channel: &str, client: Option<&Identity>) -> Access {
        let declared = match wish {
            Wish::Subscribe => self.subscribe,
            Wish::Publish => self.publish,
        };
        let is_named = || client.is_some_and(|client| client.may(wish, channel));
        if self.claims && declared != Access::Open && is_named() { Access::Open } else { declared }
    }

    /// The part of the rule that its channels' logs need.
    fn retention(&self, burst: usize, idle: Option<Duration>) -> Retention {
        Retention {
            count: self.history,
            bytes: self.history_bytes,
            age: self.history_seconds,
            mode: self.mode,
            overrun: self.overrun,
            compress: self.compress,
            sender: self.sender,
            replay: self.replay,
            burst,
            bases: self.resolves,
            max_keys: self.max_keys,
            state_bytes: self.state_bytes,
            idle: idle.filter(|_| self.mode == Mode::State),
        }
    }
}

/// All rules of a server, with their patterns read.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<(Pattern, Rule)>,
    /// For channels that no rule matches, and for private ones. All channels have its [`Retention::burst`].
    other: Retention,
    /// Members of a channel that are listed.
    presence_limit: usize,
    /// [`Retention::idle`] of the states that rules declare. Who is in a channel is known to others, so that is not dropped.
    state_idle: Option<Duration>,
}

impl Rules {
    /// Checks rules and reads their patterns.
    ///
    /// # Errors
    /// [`RuleError`] when a pattern or a bound of a rule is not legal.
    pub fn new(rules: &[Rule]) -> Result<Self, RuleError> {
        let ready = |rule: &Rule| {
            if rule.history == 0 || rule.history_bytes == 0 {
                return Err(RuleError::NoHistory);
            }
            if rule.max_keys == 0 || rule.state_bytes == 0 {
                return Err(RuleError::NoState);
            }
            if rule.history_seconds < SHORTEST_HISTORY {
                return Err(RuleError::ShortHistory);
            }
            if rule.pattern.starts_with('$') {
                return Err(RuleError::Reserved);
            }
            Ok((Pattern::new(&rule.pattern, ':')?, rule.clone()))
        };
        let rules = rules.iter().map(ready).collect::<Result<_, _>>()?;
        Ok(Self { rules, other: Retention::default(), presence_limit: PRESENCE_LIMIT, state_idle: None })
    }

    /// The same rules with another [`Retention::burst`].
    #[must_use]
    pub fn with_burst(mut self, bytes: usize) -> Self {
        self.other.burst = bytes;
        self
    }

    /// The same rules with another number of members that are listed.
    #[must_use]
    pub fn with_presence_limit(mut self, members: usize) -> Self {
        self.presence_limit = members;
        self
    }

    /// The same rules with states that are dropped when they are neither read nor written for so long. 0: never.
    #[must_use]
    pub fn with_state_idle(mut self, idle: Duration) -> Self {
        self.state_idle = Some(idle).filter(|idle| !idle.is_zero());
        self
    }

    /// The rule of a channel that tells who is in it.
    pub fn find_presence<'r, 'a>(&'r self, channel: &'a str) -> Option<(usize, &'r Rule, Vec<&'a str>)> {
        self.find(channel).filter(|(_, rule, _)| rule.presence != Presence::No)
    }

    /// Whether any channel tells who is in it.
    pub fn have_presence(&self) -> bool {
        self.rules.iter().any(|(_, rule)| rule.presence != Presence::No)
    }

    /// Whether updates of any channel say which client published them.
    pub fn tell_senders(&self) -> bool {
        self.rules.iter().any(|(_, rule)| rule.sender)
    }

    /// The first rule whose pattern matches: its index, the rule, and the values of the parameters.
    ///
    /// No rule matches a name that the server makes, which begins with `@` or `$`: a pattern that matches everything does not
    /// mean those.
    pub fn find<'r, 'a>(&'r self, channel: &'a str) -> Option<(usize, &'r Rule, Vec<&'a str>)> {
        if channel.starts_with(['@', '$']) {
            return None;
        }
        let matching = |(index, (pattern, rule)): (usize, &'r (Pattern, Rule))| {
            pattern.matches(channel).map(|params| (index, rule, params))
        };
        self.rules.iter().enumerate().find_map(matching)
    }

    /// Whether the claims of clients count in any channel.
    pub fn use_claims(&self) -> bool {
        self.rules.iter().any(|(_, rule)| rule.claims)
    }

    /// Whether a client reads this channel by claims that it had, and has not any more.
    pub fn withdraw(&self, channel: &str, former: &Identity, now: Option<&Identity>) -> bool {
        let access = |rule: &Rule, client: Option<&Identity>| {
            rule.access(Wish::Subscribe, channel, client) == Access::Open
        };
        self.find(channel).is_some_and(|(_, rule, _)| access(rule, Some(former)) && !access(rule, now))
    }

    /// Whether the application is asked again about this channel when a client comes back to its session.
    pub fn rechecks(&self, channel: &ChannelName) -> bool {
        let is_asked = |rule: &Rule| rule.recheck && rule.subscribe == Access::Ask;
        self.rules.iter().any(|(_, rule)| is_asked(rule))
            && self.find(channel.as_str()).is_some_and(|(_, rule, _)| is_asked(rule))
    }

    /// Whether clients may know this channel: a rule matches it, or it is one of those that the server makes.
    pub fn fits(&self, channel: &ChannelName) -> bool {
        channel.as_str().starts_with(['@', '$']) || self.find(channel.as_str()).is_some()
    }

    /// What a channel's log keeps.
    pub fn retention(&self, channel: &ChannelName) -> Retention {
        let found = self.find(channel.as_str());
        let is_presence = channel.watched().is_some();
        found.map_or(if is_presence { self.presence() } else { self.other }, |(_, rule, _)| {
            rule.retention(self.other.burst, self.state_idle)
        })
    }

    /// What the log keeps that says who is in a channel.
    fn presence(&self) -> Retention {
        let max_keys = self.presence_limit + 1;
        Retention { mode: Mode::State, max_keys, state_bytes: PRESENCE_BYTES, ..self.other }
    }
}

/// Why a rule can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No publication could be kept.
    #[error("history: a channel keeps at least one publication and one byte")]
    NoHistory,
    /// No key could be kept.
    #[error("max_keys, state_bytes: a state keeps at least one key and one byte")]
    NoState,
    /// Publications would be dropped before they are delivered.
    #[error(
        "history_seconds: at least 1 second: a reader that is served a few ticks late would lose publications"
    )]
    ShortHistory,
    /// The pattern is about channels of the server.
    #[error("channels: a pattern does not begin with \"$\": those channels are the server's")]
    Reserved,
    /// The pattern can't be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

fn most_keys() -> usize {
    10_000
}

fn most_state_bytes() -> usize {
    16 << 20
}

/// Members of a channel that are listed, by default.
const PRESENCE_LIMIT: usize = 1000;

/// Bytes of all entries of the members of a channel.
const PRESENCE_BYTES: usize = 4 << 20;

/// Reads a setting that is a number of seconds.
pub(crate) fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| serde::de::Error::custom("seconds are a number, 0 or more"))
}

/// A publication has to be kept until it is written: after a tick, and after all readers before this one were served.
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
            sender: false,
            replay: Replay::Head,
            recheck: false,
            claims: false,
            versions: false,
            resolves: false,
            max_keys: 1,
            state_bytes: 1,
            presence: Presence::No,
            presence_asks: false,
            presence_told: false,
        }
    }

    #[test]
    fn a_channel_that_keeps_too_little_for_any_reader_or_is_the_servers_is_refused() {
        assert!(Rules::new(&[least("a")]).is_ok());
        let refused = [
            Rule { history: 0, ..least("a") },
            Rule { history_bytes: 0, ..least("a") },
            Rule { max_keys: 0, ..least("a") },
            Rule { state_bytes: 0, ..least("a") },
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
