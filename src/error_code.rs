//! Codes of the `error` message: one table that says what each code means and whose fault it is.
//!
//! The wire documentation, its schema and the Python package are tested against [`ErrorCode::ALL`].

/// Who has to change something so that an error does not come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client. Its errors are counted, and too many of them close its connection.
    Client,
    /// The server or the application. The client may send the same message again later.
    Server,
    /// Nobody: what was asked for is so already. A client that got no answer may ask again.
    Nobody,
}

macro_rules! error_codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal, $fault:ident;)+) => {
        /// What an `error` message says to programs. The names do not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the table in `docs/protocol.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it tells a person.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),+).trim_ascii_start(),)+
                }
            }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault {
                match self {
                    $(Self::$variant => Fault::$fault,)+
                }
            }
        }
    };
}

error_codes! {
    /// the message is not JSON as described above, or a field is missing or wrong
    BadMessage = "bad_message", Client;
    /// one message names more than 128 channels
    TooManyItems = "too_many_items", Client;
    /// the text is not the name of a channel: it is empty, longer than 255 bytes, has control characters, or begins with `@` or `$`
    BadChannel = "bad_channel", Client;
    /// the application has no channel of this name
    UnknownChannel = "unknown_channel", Client;
    /// the application, or the declaration of the channel, says no
    NotAllowed = "not_allowed", Client;
    /// the client is not subscribed to the channel that it wants to leave, or that it says something of
    NotSubscribed = "not_subscribed", Nobody;
    /// the client has as many subscriptions as it may have, or its identity as many unfinished runs or connections
    LimitExceeded = "limit_exceeded", Client;
    /// the application has no handler for messages of this type
    UnknownType = "unknown_type", Client;
    /// another request of this session had the same `id`, and another text
    IdReused = "id_reused", Client;
    /// credentials are missing or were not accepted
    Unauthenticated = "unauthenticated", Client;
    /// the token can't be used here, and a new one of the same kind can't either
    BadToken = "bad_token", Client;
    /// the application took too long
    Timeout = "timeout", Server;
    /// the application failed; the log has the details
    Internal = "internal", Server;
    /// the request was done, and its answer is forgotten
    AnswerLost = "answer_lost", Nobody;
    /// the session is on another connection, or on none
    Superseded = "superseded", Nobody;
    /// a list of messages was skipped
    OutOfOrder = "out_of_order", Client;
    /// there is no such session
    SessionLost = "session_lost", Nobody;
    /// the publication is certainly not in the channel: send it again
    NotPublished = "not_published", Server;
    /// the entry is not in the version that the change names
    StateConflict = "state_conflict", Nobody;
    /// nobody knows whether the publication is in the channel
    MaybePublished = "maybe_published", Server;
}

impl ErrorCode {
    /// The code of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_found_by_its_name() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.name()), Some(code));
            assert!(!code.meaning().is_empty() && !code.meaning().starts_with(' '));
        }
        assert_eq!(ErrorCode::from_name("no_such_code"), None);
    }
}
