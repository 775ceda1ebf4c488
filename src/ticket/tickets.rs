//! The tickets of a server: their texts, and the lock around the table.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::entry::{Entry, Verdict};
use super::keys::{Keys, Kind, random_number};
use super::table::{End, IssueError, Limits, Refused, Table};
use crate::identity::{Identity, Validity};
use crate::jwt::Verified;
use crate::rights::Rights;
use crate::token_error::TokenError;

/// What a client shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The ticket, which is in its URL.
    pub ticket: &'a str,
    /// The secret of an earlier opening, which is in the `id` of its last event.
    pub secret: Option<&'a str>,
    /// The page.
    pub origin: Option<&'a str>,
}

/// A stream that may be opened.
#[derive(Debug)]
pub struct Opening {
    /// For whom.
    pub verified: Verified,
    /// What the `id` of each of its events begins with.
    pub secret: Box<str>,
    /// The stream that this one takes the place of.
    pub former: Option<u64>,
}

/// A ticket that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub error: TokenError,
    /// The stream that ends, because two have its ticket.
    pub ends: Option<u64>,
}

/// All tickets of a server. Every method may be called from any thread. Times are milliseconds of Unix time, streams are numbers that no
/// two of them have at a time.
#[derive(Debug)]
pub struct Tickets {
    keys: Keys,
    /// Bytes of subject, origin and claims of one ticket.
    longest: usize,
    /// Milliseconds, for tickets of the past.
    lifetime: u64,
    /// Of this process: tickets with another one are of the past.
    process: u64,
    /// Open streams with tickets. While there are none, nobody asks for the table when a connection ends.
    live: AtomicUsize,
    /// Locked for one ticket that is given, one opening or one end.
    table: Mutex<Table>,
}

/// What a ticket says itself, if there is a key.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    process: u64,
    number: u64,
    issued: u64,
    subject: Cow<'a, str>,
    #[serde(borrow)]
    claims: &'a RawValue,
    origin: Option<Cow<'a, str>>,
    /// Expires, ends and warns.
    validity: Option<(u64, u64, u64)>,
}

impl Tickets {
    /// A server's tickets. With a key, those of the process before this one count for a while. `None`: the system has no random bytes.
    pub fn new(key: Option<&str>, limits: Limits, today: u64) -> Option<Self> {
        let keys = Keys::new(key.map(str::as_bytes))?;
        let process = random_number()?;
        let table = Table::new(limits, keys.seals(), today).into();
        Some(Self {
            keys,
            longest: limits.bytes,
            lifetime: limits.lifetime,
            process,
            live: AtomicUsize::new(0),
            table,
        })
    }

    /// Gives a ticket to somebody, for a page of this origin if it names one.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, verified: Verified, origin: Option<&str>, today: u64) -> Result<String, IssueError> {
        let identity = &verified.identity;
        let bytes = identity.subject.len() + verified.claims.len() + origin.map_or(0, str::len);
        if identity.subject.is_empty() {
            return Err(IssueError::Nobody);
        }
        if identity.has_ended(today) {
            return Err(IssueError::Ended);
        }
        if bytes > self.longest {
            return Err(IssueError::TooLong { bytes, most: self.longest });
        }
        let number = random_number().ok_or(IssueError::Random)?;
        let text = if self.keys.seals() {
            let sealed = Sealed {
                process: self.process,
                number,
                issued: today,
                subject: (&*identity.subject).into(),
                claims: serde_json::from_str(&verified.claims).map_err(|_| IssueError::NoJson)?,
                origin: origin.map(Into::into),
                validity: identity.validity.as_ref().map(|it| (it.expires, it.ends, it.warns)),
            };
            serde_json::to_vec(&sealed)
                .ok()
                .and_then(|text| self.keys.seal(text))
                .ok_or(IssueError::Random)?
        } else {
            self.keys.write::<TICKET_MARK>(Kind::Ticket, &[number])
        };
        let mut table = self.table();
        if table.has(number) {
            return Err(IssueError::Random);
        }
        table.add(number, Entry::new(verified, origin.map(Into::into), today), today)?;
        Ok(text)
    }

    /// Lets a client open a stream, if what it shows counts.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn open(&self, shown: Shown<'_>, stream: u64, today: u64) -> Result<Opening, Refusal> {
        let unknown = Refusal { error: TokenError::BadTicket, ends: None };
        let sealed = self.keys.unseal(shown.ticket);
        let sealed = sealed.as_deref().and_then(|text| serde_json::from_slice::<Sealed<'_>>(text).ok());
        let number = match &sealed {
            Some(sealed) => Some(sealed.number),
            None if self.keys.seals() => None,
            None => self.keys.read::<TICKET_MARK, 1>(Kind::Ticket, shown.ticket).map(|[number]| number),
        };
        let number = number.ok_or(unknown)?;
        let secret = match shown.secret {
            None => None,
            // That of another ticket says nothing about this one.
            Some(text) => match self.keys.read::<SECRET_MARK, 2>(Kind::Secret, text) {
                Some([of, secret]) if of == number => Some(secret),
                _ => return Err(unknown),
            },
        };
        let next = random_number().ok_or(unknown)?;
        let mut table = self.table();
        let opened = (|| {
            let shown = (secret, shown.origin);
            let is_past = |it: &Sealed<'_>| {
                it.process != self.process && today.saturating_sub(it.issued) < self.lifetime
            };
            if let Some(sealed) = sealed.filter(|it| is_past(it) && !table.has(number)) {
                table.add_past(number, sealed.entry(secret, today), shown, today)?;
            }
            let (entry, former) = table.open(number, shown, (stream, next), today)?;
            Ok((entry.verified.clone(), former))
        })();
        self.live.store(table.live(), Ordering::Relaxed);
        drop(table);
        let (verified, former) = opened.map_err(|refused| match refused {
            Refused::Verdict(Verdict::OtherOrigin) => Refusal { error: TokenError::TicketOrigin, ends: None },
            Refused::Verdict(Verdict::Ended) => Refusal { error: TokenError::Expired, ends: None },
            Refused::Verdict(Verdict::Late | Verdict::TwoParties) | Refused::Unknown => unknown,
            Refused::Void(ends) => Refusal { error: TokenError::TicketShared, ends },
        })?;
        let secret = self.keys.write::<SECRET_MARK>(Kind::Secret, &[number, next]).into();
        Ok(Opening { verified, secret, former })
    }

    /// A stream has ended, whether or not it had a ticket.
    pub fn ended(&self, stream: u64, end: End, today: impl FnOnce() -> u64) {
        // Its own thread has opened it, so this one sees that there is one.
        if self.live.load(Ordering::Relaxed) > 0 {
            let mut table = self.table();
            table.ended(stream, end, today());
            self.live.store(table.live(), Ordering::Relaxed);
        }
    }

    /// A secret was seen in a URL, where others can read it. Its ticket ends. Returns the stream that ends with it.
    pub fn expose(&self, secret: &str) -> Option<u64> {
        let [number, _] = self.keys.read::<SECRET_MARK, 2>(Kind::Secret, secret)?;
        let mut table = self.table();
        if !table.has(number) {
            table.end_past(number);
        }
        let stream = table.remove(number);
        self.live.store(table.live(), Ordering::Relaxed);
        stream
    }

    /// Ends all tickets of a subject. Their streams are not its matter.
    pub fn end_subject(&self, subject: &str) {
        let mut table = self.table();
        table.remove_subject(subject);
        self.live.store(table.live(), Ordering::Relaxed);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let table = self.table();
        (table.len(), table.live())
    }
}

impl Sealed<'_> {
    /// The ticket, as this process keeps it.
    fn entry(self, secret: Option<u64>, today: u64) -> Entry {
        let claims: serde_json::Value = serde_json::from_str(self.claims.get()).unwrap_or_default();
        let claim = |name: &str| claims.get(name).filter(|claim| !claim.is_null());
        let rights = Rights::new(claim("channels"), claim("publish")).map(Box::new);
        let validity =
            self.validity.map(|(expires, ends, warns)| Box::new(Validity { expires, ends, warns }));
        let identity = Identity { subject: self.subject.as_ref().into(), validity, rights };
        let verified = Verified { identity: Arc::new(identity), claims: self.claims.get().into() };
        let origin = self.origin.as_deref().map(Into::into);
        Entry::new(verified, origin, self.issued).of_past(secret, today)
    }
}

/// Bytes that prove a ticket. Nobody can try more than some million of them while it counts.
const TICKET_MARK: usize = 16;

/// Bytes that prove a secret, which is in every event. Who tries has to know the ticket.
const SECRET_MARK: usize = 11;
