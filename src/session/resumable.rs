//! What lets a client come back to its session.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::replies::Newcomer;
use crate::channel::ChannelName;
use crate::identity::Identity;
use crate::moment::Moment;
use crate::position::{Position, Start, Subscribed};

/// Random bits that a client has to know to come back.
#[derive(Clone, Copy)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// The secret of random bytes.
    pub const fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    /// Reads it from 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let is_plain = digits.len() == 2 * SECRET_BYTES && digits.iter().all(u8::is_ascii_hexdigit);
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_plain)?;
        Some(Self(number.to_be_bytes()))
    }

    /// Whether it is this one. It takes the same time for each that is not.
    pub fn is(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn push(self, out: &mut String) {
        use fmt::Write as _;
        // A String takes everything.
        let _ = write!(out, "{:032x}", u128::from_be_bytes(self.0));
    }
}

/// It is never shown.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Whose the sessions of a subject are.
pub fn owner_of(subject: &str) -> String {
    format!("subject {subject}")
}

/// A client that wants its session back.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// From the token of the session.
    pub secret: Secret,
    /// Which attempt it is.
    pub attempt: u64,
    /// What else speaks for it.
    pub proof: Proof<'a>,
}

/// What speaks for a client beside the token of its session.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// Nothing, because the application wants to be asked.
    None,
    /// A hash of the application's token that the client names, if it names one.
    Credential(Option<u64>),
    /// Who the client is. The session has this identity from then on.
    Identity {
        /// Whose token it is.
        identity: &'a Arc<Identity>,
        /// A hash of the application's token.
        credential: Option<u64>,
    },
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client gets its session.
    Accepted,
    /// It is not the session's client, or the session has lived too long.
    Unknown,
    /// This attempt or a later one was accepted before.
    Outdated {
        /// The last one.
        accepted: u64,
    },
    /// The application has to say who the client is.
    Unproven,
    /// It is the token of somebody else.
    OtherSubject,
}

/// The part of a session that lasts when its connection has ended.
#[derive(Debug)]
pub(super) struct Resumable {
    /// `None` where nobody can come back: sessions are switched off, or the connection began without one.
    pub secret: Option<Secret>,
    /// The last attempt that was accepted.
    pub attempt: u64,
    /// Lists of messages that were taken since then, where the session is on a stream.
    pub lists: u64,
    /// Which part of its stream was begun last. 0: the stream is whole, or there is none.
    pub part: u64,
    /// A hash of the token with which the application let the client in.
    credential: Option<u64>,
    /// When the client was let in; `None` before.
    began: Option<Moment>,
    /// Who the client was before it came back as somebody with other claims.
    pub former: Option<Arc<Identity>>,
    /// Whose it is, for limits.
    pub owner: Arc<str>,
    pub subscriptions: Vec<Subscription>,
}

/// A channel of a session.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub channel: ChannelName,
    /// Where it began.
    pub start: Position,
    /// The server made it, and not the client.
    pub by_server: bool,
}

/// Channels by what the client calls them, and the positions that it has in them.
pub type Wanted = [(Box<str>, Option<Start>)];

impl Resumable {
    pub fn new(secret: Option<Secret>, credential: Option<u64>) -> Self {
        Self {
            secret,
            attempt: 0,
            lists: 0,
            part: 0,
            credential,
            began: None,
            former: None,
            owner: Arc::default(),
            subscriptions: Vec::new(),
        }
    }

    /// Its client was let in. An anonymous one is known by its address.
    pub fn begin(&mut self, newcomer: &Newcomer<'_>, now: Moment) {
        let Newcomer { identity, address, .. } = *newcomer;
        let subject = &identity.subject;
        let owner = if subject.is_empty() { format!("address {address}") } else { owner_of(subject) };
        (self.began, self.owner) = (Some(now), owner.into());
    }

    /// Notes a subscription that was made.
    pub fn note(&mut self, channel: &ChannelName, subscribed: Subscribed, by_server: bool) {
        if let Subscribed::From { position: start, .. } = subscribed {
            self.subscriptions.push(Subscription { channel: channel.clone(), start, by_server });
        }
    }

    /// Whether its client may come back when the connection has ended.
    pub fn lasts(&self) -> bool {
        self.secret.is_some() && self.began.is_some()
    }

    /// Whether this is its secret.
    pub fn is_it(&self, secret: Secret) -> bool {
        self.secret.is_some_and(|own| own.is(secret))
    }

    /// Whether it is younger than any session may become.
    pub fn lives(&self, lifetime: Duration, now: Moment) -> bool {
        self.began.is_some_and(|began| now.since(began) < lifetime)
    }

    /// Judges a claim to the session of a client, and notes the attempt when it is accepted.
    pub fn judge(
        &mut self,
        claim: &Claim<'_>,
        client: Option<&Identity>,
        lives: bool,
        today: u64,
    ) -> Verdict {
        let is_it = self.is_it(claim.secret);
        let has_expired = client.is_some_and(|client| client.has_ended(today));
        let subject = client.map_or("", |client| &client.subject);
        match claim.proof {
            _ if !is_it || !lives => Verdict::Unknown,
            Proof::None => Verdict::Unproven,
            Proof::Credential(_) if has_expired => Verdict::Unproven,
            Proof::Credential(Some(token)) if Some(token) != self.credential => Verdict::Unproven,
            Proof::Identity { identity, .. } if *identity.subject != *subject => Verdict::OtherSubject,
            _ if claim.attempt <= self.attempt => Verdict::Outdated { accepted: self.attempt },
            proof => {
                (self.attempt, self.lists, self.part) = (claim.attempt, 0, 0);
                if let Proof::Identity { credential, .. } = proof {
                    self.credential = credential;
                }
                Verdict::Accepted
            }
        }
    }

    /// The token of the session. It begins with the client's id, so that its shard is found.
    pub fn token(&self, client_id: &str) -> Option<String> {
        let mut token = format!("{client_id}.");
        self.secret?.push(&mut token);
        Some(token)
    }
}

/// 128 bits: nobody guesses them.
const SECRET_BYTES: usize = 16;
