//! Channel names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest channel name, in bytes of UTF-8. Every update repeats the name, so a long one costs bandwidth.
pub const NAME_BYTES: usize = 255;

/// A legal channel name that is somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a str);

/// A legal channel name: 1 to 255 bytes without control characters. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why text is not a channel name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no character.
    #[error("a channel name has at least one character")]
    Empty,
    /// It has more than [`NAME_BYTES`].
    #[error("a channel name has at most {NAME_BYTES} bytes")]
    TooLong,
    /// It has a control character.
    #[error("a channel name has no control characters")]
    Control,
    /// It begins with `@`: only [`ChannelName::private`] makes such names.
    #[error("names that start with \"@\" are private channels of clients")]
    Private,
    /// It begins with `$`: the server keeps these names for itself.
    #[error("names that start with \"$\" are channels of the server")]
    Reserved,
}

impl<'a> Name<'a> {
    /// Checks a name from a client or an application.
    ///
    /// # Errors
    /// [`NameError`] when the name is empty, too long, has control characters, or begins with `@` or `$`.
    pub fn new(name: &'a str) -> Result<Self, NameError> {
        match name.as_bytes() {
            [] => Err(NameError::Empty),
            [b'@', ..] => Err(NameError::Private), // see `PRIVATE`
            [b'$', ..] => Err(NameError::Reserved),
            bytes if bytes.len() > NAME_BYTES => Err(NameError::TooLong),
            _ if name.chars().any(char::is_control) => Err(NameError::Control),
            _ => Ok(Self(name)),
        }
    }

    /// The name as text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// A copy.
    pub fn to_channel(self) -> ChannelName {
        ChannelName(self.0.into())
    }
}

impl ChannelName {
    /// Checks a name and copies it.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        Name::new(name).map(Name::to_channel)
    }

    /// The same name, not copied.
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }

    /// Checks a name that a client wants to read: also the channel that says who is in another one.
    ///
    /// # Errors
    /// As [`ChannelName::new`].
    pub fn readable(name: &str) -> Result<Self, NameError> {
        match name.strip_prefix(PRESENCE) {
            Some(watched) => Ok(Self::presence_of(&Self::new(watched)?)),
            None => Self::new(name),
        }
    }

    /// The channel that says who is in this one. Its name may be longer than others.
    pub fn presence_of(channel: &Self) -> Self {
        Self(format!("{PRESENCE}{channel}").into())
    }

    /// The name of the channel whose members this one tells.
    pub fn watched(&self) -> Option<&str> {
        self.0.strip_prefix(PRESENCE)
    }

    /// The private channel of one client. Clients and applications can't name it, because [`ChannelName::new`] refuses it.
    pub fn private(client: &str) -> Self {
        Self(format!("{PRIVATE}{client}").into())
    }

    /// Whether this is the private channel of a client.
    pub fn is_private(&self) -> bool {
        self.0.starts_with(PRIVATE)
    }

    /// Whether this is the channel of a run.
    pub fn is_run(&self) -> bool {
        self.0.starts_with(RUN)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the names of private channels begin.
pub const PRIVATE: char = '@';

/// How the names of the channels begin that say who is in another one.
const PRESENCE: &str = "$presence:";

/// How the names of the channels of runs begin.
const RUN: &str = "run:";

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_only_the_server_makes_private_and_reserved_ones() {
        assert_eq!(ChannelName::new(""), Err(NameError::Empty));
        assert_eq!(ChannelName::new("@x"), Err(NameError::Private));
        assert_eq!(ChannelName::new("$x"), Err(NameError::Reserved));
        assert!(ChannelName::new("x$").is_ok());
        assert_eq!(ChannelName::new("a\nb"), Err(NameError::Control));
        assert_eq!(ChannelName::new(&"x".repeat(256)), Err(NameError::TooLong));
        assert!(ChannelName::new(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn the_channel_that_says_who_is_in_another_can_be_read_and_no_other_of_the_servers() {
        let name = "x".repeat(255);
        let presence =
            ChannelName::readable(&format!("$presence:{name}")).expect("the prefix does not count");
        assert_eq!(presence.watched(), Some(&*name));
        assert_eq!(ChannelName::readable("a"), ChannelName::new("a"));
        assert_eq!(ChannelName::new("$presence:a"), Err(NameError::Reserved));
        for other in ["$a", "$presence", "$presence:$presence:a", "$presence:$a"] {
            assert_eq!(ChannelName::readable(other), Err(NameError::Reserved), "{other}");
        }
        assert_eq!(ChannelName::readable("$presence:@a"), Err(NameError::Private));
        assert_eq!(ChannelName::readable("$presence:"), Err(NameError::Empty));
    }
}
