//! Connections that are turned away, or end before they are let in: counted and logged in one place.

use std::fmt::Display;

use crate::close::{CloseCode, CloseReason};
use crate::hub::ReaderKey;
use crate::printable::Printable;
use crate::protocol::http::{HttpError, Request};
use crate::refusal::Refusal;
use crate::transport::connections::Connections;
use crate::transport::events::Level;
use crate::transport::http::DRAINING;

impl Connections {
    /// Counts somebody who is not let in, and logs it with the reason: a line for each kind and ten seconds. With DEBUG, each has
    /// a line.
    pub fn refuse(&self, refusal: Refusal, from: impl FnOnce() -> String, why: impl Display) {
        self.counters.refuse(refusal);
        let level = level(refusal);
        // Asked of the clock: a shard that only accepts looks at it seldom.
        let noted = (level != Level::Debug)
            .then(|| self.shared.refusals.note(refusal as usize, self.shared.clock.now()))
            .flatten();
        match noted {
            Some(count) => {
                let line = format!("requests refused: {count}, the last one from {}{why}", from());
                self.shared.log(level, line);
            }
            None => self.shared.trace(|| format!("a request from {} was refused{why}", from())),
        }
    }

    /// The same for a request that gets another response than it asked for.
    pub fn refuse_request(
        &self,
        from: impl FnOnce() -> String,
        error: &HttpError,
        request: Option<&Request>,
    ) {
        let refusal = of_response(error);
        let asked = request.map_or_else(String::new, |request| asked(refusal, request));
        let HttpError { status, reason, setting, .. } = error;
        self.refuse(refusal, from, format_args!("{asked}, with {status}: {reason}{}", advice(*setting)));
    }

    /// The same for a connection that ends before it is let in.
    pub fn refuse_connection(&self, from: impl FnOnce() -> String, reason: &CloseReason) {
        let refusal = of_closing(reason);
        let number = reason.code().map_or_else(String::new, |code| format!(", with {code}"));
        let setting =
            matches!(reason, CloseReason::NotDecided | CloseReason::Silent | CloseReason::NoFirstInTime)
                .then_some("handshake_timeout");
        let text = Printable(reason.text());
        self.refuse(refusal, from, format_args!("{number}: {text}{}", advice(setting)));
    }

    /// Where a connection comes from.
    pub fn peer_of(&self, key: ReaderKey) -> String {
        self.sockets.slots.get(key as usize).map_or_else(String::new, |connection| connection.peer())
    }
}

/// How serious it is. DEBUG: nobody was refused, or the cause has a line of its own.
fn level(refusal: Refusal) -> Level {
    match refusal {
        Refusal::Gone | Refusal::Failed | Refusal::Internal => Level::Debug,
        // Strangers and programs that look whether somebody listens cause these all the time.
        Refusal::NotFound
        | Refusal::WrongUse
        | Refusal::Unsupported
        | Refusal::Late
        | Refusal::Stopping
        | Refusal::Unauthenticated
        | Refusal::NotAllowed
        | Refusal::Tls => Level::Info,
        Refusal::BadRequest
        | Refusal::Origin
        | Refusal::TooLong
        | Refusal::Full
        | Refusal::NoDescriptor
        | Refusal::Address
        | Refusal::Identity
        | Refusal::Undecided
        | Refusal::Memory => Level::Warning,
    }
}

fn of_response(error: &HttpError) -> Refusal {
    match error.status {
        403 => Refusal::Origin,
        404 => Refusal::NotFound,
        405 | 413 | 426 => Refusal::WrongUse,
        408 => Refusal::Late,
        414 | 431 => Refusal::TooLong,
        429 => Refusal::Address,
        500 => Refusal::Internal,
        501 | 505 => Refusal::Unsupported,
        503 if *error == DRAINING => Refusal::Stopping,
        503 => Refusal::Full,
        _ => Refusal::BadRequest,
    }
}

fn of_closing(reason: &CloseReason) -> Refusal {
    match reason {
        CloseReason::Application { code, .. } => match *code {
            CloseCode::UNAUTHENTICATED => Refusal::Unauthenticated,
            CloseCode::TOO_MANY => Refusal::Identity,
            CloseCode::TRY_LATER => Refusal::Undecided,
            CloseCode::INTERNAL => Refusal::Failed,
            _ => Refusal::NotAllowed,
        },
        CloseReason::Token { .. } => Refusal::Unauthenticated,
        CloseReason::NotDecided => Refusal::Undecided,
        CloseReason::Silent | CloseReason::NoFirstInTime => Refusal::Late,
        CloseReason::NoFirst => Refusal::BadRequest,
        CloseReason::TlsFailed => Refusal::Tls,
        CloseReason::Restart | CloseReason::Stopped => Refusal::Stopping,
        CloseReason::HeldTooLong | CloseReason::UnreadTooLong => Refusal::Memory,
        CloseReason::Panic => Refusal::Internal,
        CloseReason::Client { .. }
        | CloseReason::Protocol { .. }
        | CloseReason::TooManyErrors
        | CloseReason::TooManyFrames
        | CloseReason::AnswersNotRead
        | CloseReason::NotReading
        | CloseReason::UnfinishedMessage
        | CloseReason::TooManyMessages
        | CloseReason::BinaryMessage
        | CloseReason::NoHeartbeat
        | CloseReason::TooFarBehind
        | CloseReason::Finished
        | CloseReason::Rotated
        | CloseReason::Superseded
        | CloseReason::Reopened
        | CloseReason::TicketVoid
        | CloseReason::Expired
        | CloseReason::OtherSubject
        | CloseReason::ClosedInTurn
        | CloseReason::Response
        | CloseReason::NotClosing
        | CloseReason::Ended
        | CloseReason::Broken => Refusal::Gone,
    }
}

/// What a request asked for, as a part of a sentence.
fn asked(refusal: Refusal, request: &Request) -> String {
    match (refusal, request.header("origin")) {
        (Refusal::Origin, Some(origin)) => {
            format!(" for {} by a page of {}", Printable(request.host().unwrap_or("")), Printable(origin))
        }
        _ => format!(" for {}", Printable(request.path())),
    }
}

fn advice(setting: Option<&str>) -> String {
    setting.map_or_else(String::new, |name| format!(" (setting {name})"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::transport::repeated::LINE_INTERVAL;
    use crate::transport::tests::with_shard;

    #[test]
    fn the_time_of_a_line_is_that_of_the_refusal_also_in_a_shard_that_was_idle() {
        with_shard(|cell| {
            let shard = cell.borrow();
            let idle_since = shard.now();
            while shard.shared.clock.now() == idle_since {}
            shard.refuse(Refusal::Address, String::new, "");
            let next = |since: Duration| {
                shard.shared.refusals.note(Refusal::Address as usize, idle_since + LINE_INTERVAL + since)
            };
            assert_eq!(next(Duration::ZERO), None, "the line was written later");
            assert_eq!(next(Duration::from_secs(60)), Some(2));
        });
    }
}
