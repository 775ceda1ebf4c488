//! Close codes: one table that says what each code means and whether the client should come back.
//!
//! The wire documentation, the Python package and the clients are tested against [`TABLE`].

use std::fmt;

/// A WebSocket close code that may stand in a close frame (RFC 6455 §7.4, and the registry behind §11.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    pub const NORMAL: Self = Self(1000);
    pub const GOING_AWAY: Self = Self(1001);
    pub const PROTOCOL_ERROR: Self = Self(1002);
    pub const UNSUPPORTED: Self = Self(1003);
    pub const INVALID_DATA: Self = Self(1007);
    pub const POLICY: Self = Self(1008);
    pub const TOO_BIG: Self = Self(1009);
    pub const INTERNAL: Self = Self(1011);
    pub const RESTART: Self = Self(1012);
    pub const TRY_LATER: Self = Self(1013);
    pub const UNAUTHENTICATED: Self = Self(4401);
    pub const NO_HEARTBEAT: Self = Self(4408);
    pub const TOO_FAR_BEHIND: Self = Self(4413);
    pub const TOO_MANY: Self = Self(4429);
    pub const NOT_ALLOWED: Self = Self(4500);

    /// Accepts a code that a peer or an application may put into a close frame.
    ///
    /// RFC 6455 §7.4.1 and §7.4.2: 1004, 1005, 1006 and 1015 are never sent, 1016–2999 are unassigned,
    /// 3000–4999 belong to libraries and applications. Returns `None` for all others.
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

/// Whether a client that was closed with a code should connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// Come back, with back-off.
    Yes,
    /// Do not come back by itself: the same thing would happen again.
    No,
}

/// One line of the table of close codes.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    pub code: CloseCode,
    pub name: &'static str,
    pub meaning: &'static str,
    pub come_back: Return,
}

/// Every close code that Umbel itself sends.
pub const TABLE: &[Meaning] = &[
    row(CloseCode::NORMAL, "normal", "the application ended the connection", Return::No),
    row(CloseCode::GOING_AWAY, "going_away", "the server stops and no restart is expected", Return::Yes),
    row(CloseCode::PROTOCOL_ERROR, "protocol_error", "a frame broke RFC 6455 or RFC 7692", Return::No),
    row(CloseCode::UNSUPPORTED, "unsupported", "binary message on a text protocol", Return::No),
    row(CloseCode::INVALID_DATA, "invalid_data", "text that is not UTF-8", Return::No),
    row(CloseCode::POLICY, "policy", "a limit was broken: time, errors, or reading too slowly", Return::Yes),
    row(CloseCode::TOO_BIG, "too_big", "a message longer than the limit, after inflation", Return::No),
    row(CloseCode::INTERNAL, "internal", "a handler of the application or the server failed", Return::Yes),
    row(CloseCode::RESTART, "restart", "the server restarts", Return::Yes),
    row(CloseCode::TRY_LATER, "try_later", "the server is out of a resource", Return::Yes),
    row(
        CloseCode::UNAUTHENTICATED,
        "unauthenticated",
        "credentials missing or expired: get new ones",
        Return::Yes,
    ),
    row(CloseCode::NO_HEARTBEAT, "no_heartbeat", "no pong or message within the heartbeat time", Return::Yes),
    row(CloseCode::TOO_FAR_BEHIND, "too_far_behind", "the log moved past this reader", Return::Yes),
    row(
        CloseCode::TOO_MANY,
        "too_many",
        "too many messages in too short a time, or connections of one identity",
        Return::Yes,
    ),
    row(CloseCode::NOT_ALLOWED, "not_allowed", "the application refused this client", Return::No),
];

const fn row(code: CloseCode, name: &'static str, meaning: &'static str, come_back: Return) -> Meaning {
    Meaning { code, name, meaning, come_back }
}

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
    fn each_code_and_name_stands_once() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[index + 1..].iter().all(|other| other.code != row.code && other.name != row.name));
            assert_eq!(CloseCode::new(row.code.get()), Some(row.code));
        }
    }
}
