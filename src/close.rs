//! Close codes: one table that says what each code means and whether the client should come back.
//!
//! The wire documentation and the Python package are tested against [`TABLE`].

use std::fmt;

/// A close code that a close frame may have (RFC 6455 §7.4, and the registry of §11.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// Accepts a code that a close frame may have: `None` for others.
    ///
    /// RFC 6455 §7.4.1 and §7.4.2: 1004, 1005, 1006 and 1015 are never sent, 1016 to 2999 are not assigned, and 3000 to 4999 belong
    /// to libraries and applications.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Whether a client that is closed with a code should connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// After a pause that grows with each attempt.
    Yes,
    /// Not by itself: the same thing would happen again.
    No,
}

/// One line of the table of close codes.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// The code.
    pub code: CloseCode,
    /// Its name, for documentation and programs.
    pub name: &'static str,
    /// What it tells a person.
    pub meaning: &'static str,
    /// Whether the client should connect again.
    pub come_back: Return,
}

macro_rules! close_codes {
    ($($constant:ident = $code:literal, $name:literal, $come_back:ident, $meaning:literal;)+) => {
        impl CloseCode {
            $(#[doc = $meaning] pub const $constant: Self = Self($code);)+
        }

        /// Every close code that Umbel itself sends.
        pub const TABLE: &[Meaning] = &[$(Meaning {
            code: CloseCode::$constant,
            name: $name,
            meaning: $meaning,
            come_back: Return::$come_back,
        },)+];
    };
}

close_codes! {
    NORMAL = 1000, "normal", No, "the application ended the connection";
    PROTOCOL_ERROR = 1002, "protocol_error", No, "a frame broke RFC 6455 or RFC 7692";
    UNSUPPORTED = 1003, "unsupported", No, "binary message on a text protocol";
    INVALID_DATA = 1007, "invalid_data", No, "text that is not UTF-8";
    POLICY = 1008, "policy", Yes, "a limit was broken: time, errors, or reading too slowly";
    TOO_BIG = 1009, "too_big", No, "a message longer than the limit, after inflation";
    INTERNAL = 1011, "internal", Yes, "a handler of the application or the server failed";
    RESTART = 1012, "restart", Yes, "the server restarts";
    TRY_LATER = 1013, "try_later", Yes,
        "the server is out of a resource, or the application took too long to let the client in";
    UNAUTHENTICATED = 4401, "unauthenticated", Yes, "credentials missing or expired: get new ones";
    NO_HEARTBEAT = 4408, "no_heartbeat", Yes, "no pong or message within the heartbeat time";
    TOO_FAR_BEHIND = 4413, "too_far_behind", Yes, "the log moved past this reader";
    TOO_MANY = 4429, "too_many", Yes,
        "too many messages in too short a time, or connections of one identity";
    NOT_ALLOWED = 4500, "not_allowed", No, "the application refused this client";
    REVOKED = 4501, "revoked", No, "the application has revoked the access of this client";
    SUPERSEDED = 4502, "superseded", No, "another connection has this session";
    BAD_TOKEN = 4503, "bad_token", No, "the token can't be used here, and a new one of the same kind can't either";
}

impl CloseCode {
    /// Whether a client should connect again after it. After a code of the application that says nothing about it, as after a
    /// connection that broke off.
    pub fn comes_back(self) -> bool {
        let known = TABLE.iter().find(|row| row.code == self).map(|row| row.come_back == Return::Yes);
        known.unwrap_or(self.get() < 4500)
    }
}

/// The side that caused the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client closed, or broke a rule.
    Client,
    /// The application closed.
    Application,
    /// The server stops, is out of a resource, or failed.
    Server,
    /// The connection broke, and nobody can say why.
    Network,
}

macro_rules! close_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:expr, $cause:ident, $text:literal;)+) => {
        /// Why a connection ends. The application is told [`CloseReason::number`] and [`CloseReason::text`]; the client gets
        /// both in a close frame where there is one ([`CloseReason::code`]).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum CloseReason {
            /// The client sent a close frame.
            Client {
                /// Its code, if it had one.
                code: Option<CloseCode>,
                /// Its reason.
                text: String,
            },
            /// The application closes.
            Application {
                /// The code that it chose.
                code: CloseCode,
                /// The reason that it gave.
                text: String,
            },
            /// The client is not let in by the token that it shows.
            Token {
                /// The code for it.
                code: CloseCode,
                /// What is wrong with it.
                text: &'static str,
            },
            /// A frame of the client broke the rules of its protocol.
            Protocol {
                /// The code for it.
                code: CloseCode,
                /// What was wrong.
                text: String,
            },
            $($(#[doc = $doc])+ $variant,)+
        }

        /// A [`CloseReason`] without what others have said, for counting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Kind {
            Client,
            Application,
            Token,
            Protocol,
            $($variant,)+
        }

        impl CloseReason {
            /// The reasons with words of the server: code, cause, text.
            pub const OURS: &[(Option<CloseCode>, Cause, &str)] = &[$(($code, Cause::$cause, $text),)+];

            /// The names of all reasons.
            pub const NAMES: &[&str] = &["Client", "Application", "Token", "Protocol", $(stringify!($variant)),+];

            /// The place of this reason in [`CloseReason::NAMES`].
            pub fn index(&self) -> usize {
                let kind = match self {
                    Self::Client { .. } => Kind::Client,
                    Self::Application { .. } => Kind::Application,
                    Self::Token { .. } => Kind::Token,
                    Self::Protocol { .. } => Kind::Protocol,
                    $(Self::$variant => Kind::$variant,)+
                };
                kind as usize
            }

            /// The code of the server's close frame, or the one that tells the application why there is none.
            pub fn code(&self) -> Option<CloseCode> {
                match self {
                    Self::Client { code, .. } => *code,
                    Self::Application { code, .. }
                    | Self::Token { code, .. }
                    | Self::Protocol { code, .. } => Some(*code),
                    $(Self::$variant => $code,)+
                }
            }

            /// What a person is told.
            pub fn text(&self) -> &str {
                match self {
                    Self::Client { text, .. } | Self::Application { text, .. } | Self::Protocol { text, .. } => text,
                    Self::Token { text, .. } => text,
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

close_reasons! {
    /// More errors than a client may make.
    TooManyErrors = Some(CloseCode::POLICY), Client, "too many errors";
    /// More frames than a client may begin.
    TooManyFrames = Some(CloseCode::POLICY), Client, "too many frames";
    /// The client lets too many answers wait.
    AnswersNotRead = Some(CloseCode::POLICY), Client, "answers were not read";
    /// The socket took nothing for the write timeout.
    NotReading = Some(CloseCode::POLICY), Client, "the client does not read";
    /// A message was not complete within the message timeout.
    UnfinishedMessage = Some(CloseCode::POLICY), Client, "a message was begun and not finished in time";
    /// More messages than a client may send.
    TooManyMessages = Some(CloseCode::TOO_MANY), Client, "too many messages in too short a time";
    /// A binary message where the protocol has text only.
    BinaryMessage = Some(CloseCode::UNSUPPORTED), Client, "this protocol has text messages only";
    /// Nothing came for the heartbeat time, and nothing for the same time after a ping.
    NoHeartbeat = Some(CloseCode::NO_HEARTBEAT), Client, "no answer to a ping";
    /// The log has dropped what this reader still wanted, in a channel that closes readers for it.
    TooFarBehind = Some(CloseCode::TOO_FAR_BEHIND), Client, "the log has moved past this reader";
    /// A client of a websocket path had closed, and the application did not close in time.
    ClosedInTurn = Some(CloseCode::NORMAL), Client, "";
    /// The first message of a client that says who it is was not one that does.
    NoFirst = Some(CloseCode::NOT_ALLOWED), Client, "the first message must be authenticate or resume";
    /// The client did not say in time who it is.
    NoFirstInTime = Some(CloseCode::POLICY), Client, "the client did not say in time who it is";
    /// The client has come back on another connection.
    Superseded = Some(CloseCode::SUPERSEDED), Client, "the session has another connection";
    /// The client has opened the same stream anew, with the ticket of this one.
    Reopened = Some(CloseCode::RESTART), Client, "the stream was opened again with its ticket";
    /// Somebody else has the ticket of this stream, too, or its secret was in a URL.
    TicketVoid = Some(CloseCode::UNAUTHENTICATED), Client, "others have seen the ticket of this stream: get a new one";
    /// The credentials of the client were good until now, and it has not shown others.
    Expired = Some(CloseCode::UNAUTHENTICATED), Client, "the credentials have expired";
    /// The client has shown a token of somebody else on an open connection.
    OtherSubject = Some(CloseCode::NOT_ALLOWED), Client, "the token is of another subject";
    /// The application did not say in time whether the client may come in.
    NotDecided = Some(CloseCode::TRY_LATER), Server, "the application did not answer in time";
    /// The budget for unfinished messages is used up, and this one is the oldest.
    HeldTooLong = Some(CloseCode::TRY_LATER), Server, "too much is held for unfinished messages";
    /// All channels of the stream are over, and the client has what was in them.
    Finished = Some(CloseCode::NORMAL), Application, "nothing more comes in these channels";
    /// The stream has lasted for as long as it may.
    Rotated = Some(CloseCode::RESTART), Server, "the stream has lasted for stream_seconds";
    /// The graceful stop has reached this connection.
    Restart = Some(CloseCode::RESTART), Server, "the server restarts";
    /// The time of the graceful stop is over. The connection is dropped without a close frame.
    Stopped = Some(CloseCode::RESTART), Server, "the server stops";
    /// A bug of the server.
    Panic = Some(CloseCode::INTERNAL), Server, "internal error";
    /// The budget for unread answers is used up, and these are the oldest. A close frame would only wait as well.
    UnreadTooLong = None, Server, "too much waits to be read";
    /// The client got an HTTP response and no WebSocket.
    Response = None, Client, "";
    /// The client sent no request in time.
    Silent = None, Client, "silent";
    /// The client did not end its side within the close timeout.
    NotClosing = None, Client, "the client did not end its side";
    /// The client ended its side without a close frame.
    Ended = None, Network, "the client ended the connection";
    /// A read or a write failed.
    Broken = None, Network, "the connection broke";
    /// What came is not TLS, or not acceptable.
    TlsFailed = None, Network, "TLS failed";
}

impl CloseReason {
    /// The names of all reasons as counters have them: `too_many_errors`.
    pub fn labels() -> impl Iterator<Item = String> {
        Self::NAMES.iter().map(|name| {
            let words = name.char_indices().flat_map(|(index, letter)| {
                let space = (index > 0 && letter.is_ascii_uppercase()).then_some('_');
                space.into_iter().chain(std::iter::once(letter.to_ascii_lowercase()))
            });
            words.collect()
        })
    }

    /// Whether the client's session ends with the connection.
    pub fn ends_session(&self) -> bool {
        match self {
            Self::Client { code, .. } => *code == Some(CloseCode::NORMAL),
            Self::Application { .. } => true,
            _ => {
                let row = |row: &&Meaning| Some(row.code) == self.code();
                TABLE.iter().find(row).is_some_and(|row| row.come_back == Return::No)
            }
        }
    }

    /// What the application is told: the code, or why there is none (RFC 6455 §7.4.1: neither is ever on the wire).
    pub fn number(&self) -> u16 {
        let without = if matches!(self, Self::Client { .. }) { NO_CODE } else { ABNORMAL };
        self.code().map_or(without, CloseCode::get)
    }
}

/// The close frame had no code.
const NO_CODE: u16 = 1005;

/// There was no close frame.
const ABNORMAL: u16 = 1006;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_must_not_be_sent_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
    }

    #[test]
    fn our_own_ranges_say_whether_to_come_back() {
        for row in TABLE.iter().filter(|row| row.code.get() >= 4000) {
            let expected = if row.code.get() < 4500 { Return::Yes } else { Return::No };
            assert_eq!(row.come_back, expected, "{}", row.name);
        }
    }

    #[test]
    fn a_code_that_nobody_knows_says_by_its_range_whether_to_come_back() {
        let comes_back = |code| CloseCode::new(code).expect("it may be sent").comes_back();
        assert!(comes_back(1012) && comes_back(3000) && comes_back(4401) && comes_back(4499));
        assert!(!comes_back(1000) && !comes_back(1009) && !comes_back(4500) && !comes_back(4999));
    }

    #[test]
    fn every_code_that_a_reason_sends_is_in_the_table() {
        for (code, _, text) in CloseReason::OURS {
            assert!(code.is_none_or(|code| TABLE.iter().any(|row| row.code == code)), "{text}");
            assert!(text.len() <= 123, "{text}");
        }
    }

    #[test]
    fn each_reason_is_counted_in_its_own_place() {
        let labels: Vec<_> = CloseReason::labels().collect();
        for (reason, label) in [
            (CloseReason::Client { code: None, text: String::new() }, "client"),
            (CloseReason::TooManyErrors, "too_many_errors"),
            (CloseReason::TlsFailed, "tls_failed"),
        ] {
            assert_eq!(labels[reason.index()], label);
        }
        assert_eq!(labels.len(), CloseReason::OURS.len() + 4);
    }

    #[test]
    fn each_code_and_name_stands_once() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[index + 1..].iter().all(|other| other.code != row.code && other.name != row.name));
            assert_eq!(CloseCode::new(row.code.get()), Some(row.code));
        }
    }
}
