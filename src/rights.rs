//! What a client may do with channels by the claims of its token, without a question to the application.

use serde_json::Value;

/// What a client wants to do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To read it.
    Subscribe,
    /// To publish in it.
    Publish,
}

/// The names of channels in the claims `channels` and `publish`. They count in channels that are declared so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    channels: Box<[Pattern]>,
    publish: Box<[Pattern]>,
}

impl Rights {
    /// Reads the two claims. `None`: one of them is no list of at most [`MOST_PATTERNS`] texts, or has a `*` that is not at the end.
    pub fn new(channels: Option<&Value>, publish: Option<&Value>) -> Option<Self> {
        Some(Self { channels: patterns(channels)?, publish: patterns(publish)? })
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        let all = self.channels.iter().chain(&self.publish);
        all.map(|pattern| size_of::<Pattern>() + pattern.text.len().next_multiple_of(ALLOCATED)).sum()
    }

    /// Whether a channel is named. Those that the server makes, which begin with `@` or `$`, never are.
    pub fn allow(&self, wish: Wish, channel: &str) -> bool {
        let patterns = match wish {
            Wish::Subscribe => &self.channels,
            Wish::Publish => &self.publish,
        };
        !channel.starts_with(['@', '$']) && patterns.iter().any(|pattern| pattern.matches(channel))
    }
}

/// A name, or the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: Box<str>,
    is_beginning: bool,
}

impl Pattern {
    fn new(text: &str) -> Option<Self> {
        let (name, is_beginning) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        (!name.contains('*')).then(|| Self { text: name.into(), is_beginning })
    }

    fn matches(&self, channel: &str) -> bool {
        if self.is_beginning { channel.starts_with(&*self.text) } else { *channel == *self.text }
    }
}

fn patterns(claim: Option<&Value>) -> Option<Box<[Pattern]>> {
    match claim {
        None => Some(Box::default()),
        Some(Value::Array(list)) if list.len() <= MOST_PATTERNS => {
            list.iter().map(|item| item.as_str().and_then(Pattern::new)).collect()
        }
        Some(_) => None,
    }
}

/// A text takes a multiple of this.
const ALLOCATED: usize = 32;

/// Patterns in one claim: each subscription looks at all of them.
const MOST_PATTERNS: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_at_the_end_means_all_that_begin_so() {
        let rights =
            Rights::new(Some(&json!(["task:*", "room:7"])), Some(&json!(["room:7"]))).expect("legal");
        let subscribe = |channel: &str| rights.allow(Wish::Subscribe, channel);
        assert!(subscribe("task:1") && subscribe("task:") && subscribe("task:1:2") && subscribe("room:7"));
        for other in ["task", "Task:1", "room:70", "room:", "room:7:", " room:7", "*", ""] {
            assert!(!subscribe(other), "{other}");
        }
        assert!(rights.allow(Wish::Publish, "room:7") && !rights.allow(Wish::Publish, "task:1"));
    }

    #[test]
    fn what_the_server_makes_is_never_meant() {
        let all = Rights::new(Some(&json!(["*", "@abc", "$x", "@*"])), None).expect("legal");
        for channel in ["@abc", "$x", "@", "$"] {
            assert!(!all.allow(Wish::Subscribe, channel), "{channel}");
        }
        assert!(all.allow(Wish::Subscribe, "anything"));
        assert!(!Rights::default().allow(Wish::Subscribe, "anything"));
    }

    #[test]
    fn claims_have_a_form_and_a_bound() {
        for claim in [
            json!("task:*"),
            json!({"a": 1}),
            json!([1]),
            json!([null]),
            json!(["a*b"]),
            json!(["**"]),
            json!(vec!["a"; 257]),
        ] {
            assert_eq!(Rights::new(Some(&claim), None), None, "{claim}");
            assert_eq!(Rights::new(None, Some(&claim)), None, "{claim}");
        }
        assert!(Rights::new(Some(&json!(vec!["a"; 256])), Some(&json!([]))).is_some());
    }
}
