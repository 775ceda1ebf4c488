//! One ticket: who may open its stream again.

use crate::jwt::Verified;

/// Milliseconds for which a credential may be shown again whose answer may have been lost.
pub const GRACE: u64 = 30_000;

/// A ticket that was given. All times are milliseconds of Unix time.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whom it stands for.
    pub verified: Verified,
    /// The page that it was given to.
    pub origin: Option<Box<str>>,
    issued: u64,
    /// The secret that was shown last, and since when. `None`: the ticket alone is all that was shown.
    base: Option<(u64, u64)>,
    /// The secret of the last opening.
    current: Option<u64>,
    /// Both as they were before that.
    before: (Option<(u64, u64)>, Option<u64>),
    /// The stream that is open.
    pub stream: Option<u64>,
    /// When it is forgotten, while no stream is open.
    pub dies: u64,
    /// It was given by the process before this one.
    pub is_past: bool,
}

/// Why a ticket does not count with what a client shows beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was given to a page of another origin.
    OtherOrigin,
    /// The identity has ended.
    Ended,
    /// The ticket alone does not count any more. Whoever has read a log knows as much, so it is no reason to end it.
    Late,
    /// Two have the ticket.
    TwoParties,
}

impl Entry {
    pub fn new(verified: Verified, origin: Option<Box<str>>, issued: u64) -> Self {
        let dies = issued.saturating_add(GRACE);
        Self {
            verified,
            origin,
            issued,
            base: None,
            current: None,
            before: (None, None),
            stream: None,
            dies,
            is_past: false,
        }
    }

    /// One of the process before this one. Of its secrets only the one that is shown is known. It is opened now, or not kept.
    pub fn of_past(mut self, secret: Option<u64>, today: u64) -> Self {
        (self.is_past, self.current, self.dies) = (true, secret, today.saturating_add(GRACE));
        self
    }

    /// Judges what a client shows: a secret or none, and its origin.
    pub fn check(&self, (secret, origin): (Option<u64>, Option<&str>), today: u64) -> Result<(), Verdict> {
        if !self.is_for(origin) {
            return Err(Verdict::OtherOrigin);
        }
        if self.verified.identity.has_ended(today) {
            return Err(Verdict::Ended);
        }
        self.judge(secret, today)
    }

    fn judge(&self, secret: Option<u64>, today: u64) -> Result<(), Verdict> {
        let is_soon = |since: u64| today.saturating_sub(since) < GRACE;
        match (secret, self.base) {
            (Some(secret), _) if self.current == Some(secret) => Ok(()),
            (Some(secret), Some((base, since))) if base == secret && is_soon(since) => Ok(()),
            (Some(_), _) => Err(Verdict::TwoParties),
            (None, None) if is_soon(self.issued) => Ok(()),
            (None, _) => Err(Verdict::Late),
        }
    }

    /// Notes an opening that was judged so, and the secret that it gets.
    pub fn open(&mut self, shown: Option<u64>, secret: u64, today: u64) {
        self.before = (self.base, self.current);
        if let Some(shown) = shown.filter(|shown| self.current == Some(*shown)) {
            self.base = Some((shown, today));
        }
        self.current = Some(secret);
    }

    /// The last opening did not come about: nobody has heard its secret.
    pub fn undo(&mut self) {
        (self.base, self.current) = self.before;
    }

    /// The stream has ended. It may be opened again for so long.
    pub fn rest(&mut self, linger: u64, today: u64) {
        let is_unused = self.base.is_none() && self.current.is_none();
        self.dies = if is_unused { self.issued.saturating_add(GRACE) } else { today.saturating_add(linger) };
    }

    /// Whether a page of this origin may use it. Requests of its own origin may name none.
    fn is_for(&self, origin: Option<&str>) -> bool {
        match (&self.origin, origin) {
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(other),
            _ => true,
        }
    }
}
