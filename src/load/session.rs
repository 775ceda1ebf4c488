//! Sessions: what a connection says first, and the greeting that answers it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::load::verify::Place;

/// What a client keeps for the time when its connection is gone.
#[derive(Default)]
pub struct Session {
    token: String,
    /// The number of the next `resume`. It is 0 as long as the first connection is open.
    pub attempt: u64,
    /// Attempts in a row that did not let it in.
    pub failures: u32,
    /// Epoch and top of the only channel, as its subscription said. The offset is that of the connection.
    pub epoch: String,
    pub top: u64,
    /// When the connection was cut, nanoseconds; 0 when all that was missed has come.
    pub cut: u64,
}

#[derive(Deserialize)]
struct Greeting {
    session: Option<Granted>,
    resumed: Option<bool>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Granted {
    token: String,
}

impl Session {
    /// The first message of a connection, from a client that says who it is by `token` and stands at `places`.
    pub fn first_message(&self, token: Option<&str>, places: Vec<(String, Place)>) -> String {
        let mut message = if self.attempt == 0 {
            json!({"type": "authenticate"})
        } else {
            let positions: Map<String, Value> = places
                .into_iter()
                .map(|(channel, place)| (channel, json!({"epoch": place.epoch, "offset": place.offset})))
                .collect();
            json!({"type": "resume", "session": self.token, "attempt": self.attempt, "positions": positions})
        };
        if let Some(token) = token {
            message["token"] = token.into();
        }
        message.to_string()
    }

    /// Reads `connection_established`. Whether the session is the one that was asked for.
    pub fn greeted(&mut self, text: &[u8]) -> Result<bool, String> {
        let greeting: Greeting =
            serde_json::from_slice(text).map_err(|error| format!("unexpected greeting: {error}"))?;
        if greeting.resumed.is_some() != (self.attempt > 0) {
            return Err("`resumed` says nothing, or is not the answer to a `resume`".into());
        }
        let Some(granted) = greeting.session else { return Err("no session".into()) };
        match greeting.resumed {
            Some(true) if granted.token != self.token => return Err("resumed, with another token".into()),
            Some(false) if greeting.reason.is_empty() => return Err("not resumed, without a reason".into()),
            _ => {}
        }
        self.token = granted.token;
        self.failures = 0;
        Ok(greeting.resumed == Some(true))
    }

    pub fn is_back(&self) -> bool {
        self.cut == 0
    }
}

/// Most nanoseconds until the next attempt, as in the clients of this repository.
pub fn longest_wait(failures: u32, first: u64) -> u64 {
    match failures {
        0 => first,
        failures => LONGEST_WAIT.min(SECOND << (failures - 1).min(30)),
    }
}

const SECOND: u64 = 1_000_000_000;
const LONGEST_WAIT: u64 = 30 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    fn established(token: &str, rest: &str) -> String {
        format!(
            r#"{{"type":"connection_established","clientId":"c","session":{{"token":"{token}","ttl":120}}{rest}}}"#
        )
    }

    #[test]
    fn a_client_says_who_it_is_and_later_where_it_stands() {
        let mut session = Session::default();
        assert_eq!(session.first_message(None, Vec::new()), r#"{"type":"authenticate"}"#);
        assert_eq!(session.greeted(established("s", "").as_bytes()), Ok(false));
        session.attempt = 3;
        let place = Place { epoch: "e".into(), offset: 7, top: 9 };
        let said: Value =
            serde_json::from_str(&session.first_message(Some("t"), vec![("a".into(), place)])).unwrap();
        let expected = json!({"type": "resume", "session": "s", "attempt": 3, "token": "t",
            "positions": {"a": {"epoch": "e", "offset": 7}}});
        assert_eq!(said, expected);
        assert_eq!(session.greeted(established("s", r#","resumed":true"#).as_bytes()), Ok(true));
    }

    #[test]
    fn greetings_that_do_not_fit_are_found() {
        let resumed = || Session { token: "s".into(), attempt: 1, ..Session::default() };
        let lost = established("other", r#","resumed":false,"reason":"unknown""#);
        assert_eq!(resumed().greeted(lost.as_bytes()), Ok(false));
        for wrong in [
            established("s", ""),
            established("other", r#","resumed":true"#),
            established("other", r#","resumed":false"#),
            r#"{"type":"connection_established","resumed":true}"#.into(),
        ] {
            assert!(resumed().greeted(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Session::default().greeted(established("s", r#","resumed":true"#).as_bytes()).is_err());
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let waits: Vec<u64> = (0..8).map(|failures| longest_wait(failures, SECOND / 2) / 1_000_000).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }
}
