//! One member of a channel, and how others see it.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU64;
use std::time::Duration;

use super::around::Now;
use crate::json::{push_line, push_string};
use crate::moment::Moment;
use crate::protocol::message::{PresenceChange, Timestamp};

/// The public id of a client, as a number. Its text is the key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// A session in a channel. There may be very many: what is added here is there for each.
#[derive(Debug)]
pub(super) struct Member {
    pub who: Who,
    /// Others know that it is here.
    pub is_listed: bool,
    /// It waits for the next gathering.
    pub is_dirty: bool,
    /// It has changed, and was told too often for now.
    pub is_held: bool,
    /// What the entry says that the readers have. `None`: there is no entry.
    pub told: Option<NonZeroU64>,
    /// How often it was told: each time moves this by [`SPACING`]. It belongs to the session: leaving and coming again does not make it
    /// new.
    pub pace: Moment,
    pub cut: Option<Cut>,
    /// When the room looks at it again.
    pub timer: Option<Moment>,
    is_active: bool,
    typing_until: Option<Moment>,
    task: Option<Box<str>>,
    data: Option<Box<str>>,
    /// In milliseconds of Unix time.
    seen: u64,
}

/// Who a member is for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The application has not said it yet. The number tells this membership from an earlier one of the same session.
    Asked(u64),
    /// Nobody sees it.
    Hidden,
    /// A subject. Empty for an anonymous client.
    Shown(Box<str>),
}

impl Who {
    /// Who has this subject. An entry has to be short, whoever has chosen the subject: otherwise the list of all found no room.
    pub fn of(subject: &str) -> Self {
        if subject.len() > SUBJECT_BYTES { Self::Hidden } else { Self::Shown(subject.into()) }
    }
}

/// Its connection is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    at: Moment,
    /// Its entry says that it is not active.
    is_told: bool,
}

/// What becomes of a change that a client makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Presented {
    /// It is made.
    Done,
    /// The client is not subscribed to the channel.
    NotHere,
    /// Others do not see the client.
    Hidden,
}

/// A member as the application sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its public id.
    pub client: MemberId,
    /// Who it is for others. Empty for an anonymous client.
    pub subject: Box<str>,
    /// It says so, and is connected.
    pub is_active: bool,
    /// It writes something at the moment.
    pub typing: bool,
    /// When it changed last, or was cut off: milliseconds of Unix time.
    pub seen: u64,
    /// JSON text.
    pub task: Option<Box<str>>,
    /// JSON text.
    pub data: Option<Box<str>>,
}

/// What has to be done about a member now that time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Nothing,
    /// Its entry is another one.
    Changed,
    /// It did not come back in time.
    Gone,
}

impl Member {
    pub fn new(who: Who, now: Now) -> Self {
        Self {
            who,
            is_listed: false,
            is_dirty: false,
            is_held: false,
            told: None,
            pace: Moment::default(),
            cut: None,
            timer: None,
            is_active: true,
            typing_until: None,
            task: None,
            data: None,
            seen: now.millis,
        }
    }

    /// Who it is for others, unless it is hidden.
    pub fn subject(&self) -> Option<&str> {
        if let Who::Shown(subject) = &self.who { Some(subject) } else { None }
    }

    /// The application has said who it is for others. What it has said of itself before is not kept if nobody is to see it.
    pub fn know(&mut self, subject: Option<&str>) {
        self.who = subject.map_or(Who::Hidden, Who::of);
        if self.who == Who::Hidden {
            (self.typing_until, self.task, self.data) = (None, None, None);
        }
    }

    /// Until when its entry may not be told again. That may be over. It may be told twice at once: who comes often says something then.
    pub fn silent_until(&self) -> Moment {
        self.pace - SPACING
    }

    /// Notes that its entry is told.
    pub fn note_told(&mut self, now: Moment) {
        (self.told, self.pace) = (Some(self.print()), self.pace.max(now) + SPACING);
    }

    /// It has begun to be here.
    pub fn come(&mut self, now: Now) {
        (self.is_listed, self.typing_until, self.seen) = (true, None, now.millis);
    }

    /// Its connection is lost. The first loss counts.
    pub fn lose(&mut self, now: Now) {
        self.cut.get_or_insert(Cut { at: now.moment, is_told: false });
    }

    /// It has a connection again. Returns whether its entry is another one.
    pub fn return_from_cut(&mut self, now: Now) -> bool {
        let was_told = self.cut.take().is_some_and(|cut| cut.is_told);
        if was_told {
            self.seen = now.millis;
        }
        was_told
    }

    /// Takes over what the client says of itself. Returns whether that is another entry.
    pub fn change(&mut self, change: &PresenceChange, now: Now) -> bool {
        let before = self.print();
        if let Some(is_active) = change.is_active {
            self.is_active = is_active;
        }
        if let Some(typing) = change.typing {
            self.typing_until = typing.then(|| now.moment + TYPING);
        }
        let value = |text: &str| Some(text).filter(|text| *text != "null").map(Box::from);
        if let Some(task) = &change.current_task {
            self.task = value(task);
        }
        if let Some(data) = &change.data {
            self.data = value(data);
        }
        let is_other = self.print() != before;
        if is_other {
            self.seen = now.millis;
        }
        is_other
    }

    /// When it has to be looked at again.
    pub fn due(&self, grace: Duration) -> Option<Moment> {
        let cut = self.cut.filter(|_| self.is_listed).map(|cut| {
            let gone = cut.at + grace;
            if cut.is_told { gone } else { gone.min(cut.at + UNTOLD) }
        });
        let held = self.is_held.then(|| self.silent_until());
        cut.into_iter().chain(self.typing_until).chain(held).min()
    }

    /// Looks at what time has ended. What it is now counts: a timer of an earlier cut finds nothing.
    pub fn pass(&mut self, now: Now, grace: Duration) -> Passed {
        let mut is_changed = self.typing_until.take_if(|until| *until <= now.moment).is_some();
        if self.is_held && self.silent_until() <= now.moment {
            (self.is_held, is_changed) = (false, true);
        }
        if let Some(cut) = self.cut.as_mut().filter(|_| self.is_listed) {
            let since = now.moment.since(cut.at);
            if since >= grace {
                return Passed::Gone;
            }
            if since >= UNTOLD && !cut.is_told {
                cut.is_told = true;
                let seen = now.millis.saturating_sub(since.as_millis() as u64);
                (self.typing_until, self.seen, is_changed) = (None, seen, true);
            }
        }
        if is_changed { Passed::Changed } else { Passed::Nothing }
    }

    /// What its entry says, when it changed last left out.
    pub fn print(&self) -> NonZeroU64 {
        let mut hasher = DefaultHasher::new();
        let is_cut = self.cut.is_some_and(|cut| cut.is_told);
        (self.is_active, is_cut, self.typing_until.is_some(), &self.task, &self.data).hash(&mut hasher);
        NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN)
    }

    /// Appends the data of its entry.
    pub fn write(&self, client: &str, out: &mut Vec<u8>) {
        let subject = self.subject().filter(|subject| !subject.is_empty());
        out.extend_from_slice(b"{\"type\":\"client_presence\",\"clientId\":");
        push_string(client, out);
        out.extend_from_slice(b",\"subject\":");
        match subject {
            Some(subject) => push_string(subject, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"isActive\":");
        out.extend_from_slice(truth(self.is_here()));
        out.extend_from_slice(b",\"lastSeen\":\"");
        Timestamp::from_unix_millis(self.seen).push(out);
        out.extend_from_slice(b"\",\"currentTask\":");
        push_line(self.task.as_deref().unwrap_or("null").as_bytes(), out);
        out.extend_from_slice(b",\"typing\":");
        out.extend_from_slice(truth(self.typing_until.is_some()));
        out.extend_from_slice(b",\"data\":");
        push_line(self.data.as_deref().unwrap_or("null").as_bytes(), out);
        out.push(b'}');
    }

    /// As the application sees it, if others do.
    pub fn present(&self, client: MemberId) -> Option<Present> {
        let subject = self.subject().filter(|_| self.is_listed)?;
        Some(Present {
            client,
            subject: subject.into(),
            is_active: self.is_here(),
            typing: self.typing_until.is_some(),
            seen: self.seen,
            task: self.task.clone(),
            data: self.data.clone(),
        })
    }

    fn is_here(&self) -> bool {
        self.is_active && !self.cut.is_some_and(|cut| cut.is_told)
    }
}

fn truth(is_so: bool) -> &'static [u8] {
    if is_so { b"true" } else { b"false" }
}

/// How long a lost connection is told to nobody: a client that changes its network is back before that.
pub const UNTOLD: Duration = Duration::from_secs(2);

/// Between two times that the entry of a member is told. With one that comes sooner, these are at most five in a second.
pub(super) const SPACING: Duration = Duration::from_millis(250);

/// Of a subject that others see.
const SUBJECT_BYTES: usize = 1024;

/// How long a client types that has said so. One that goes on says it again.
const TYPING: Duration = Duration::from_secs(6);
