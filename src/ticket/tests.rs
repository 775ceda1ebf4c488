//! Tickets as browsers use them, with random histories: responses get lost, a second party has seen an `id`, the server starts again.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::identity::Identity;
use crate::jwt::Verified;
use crate::token_error::TokenError;

const NOON: u64 = 1_800_000_000_000;
const DAY: u64 = 86_400_000;
const KEY: &str = "a key of the application, 32 bytes";

fn verified(subject: &str, expires: Option<u64>) -> Verified {
    let identity = Identity::of_application(subject, expires, None);
    Verified { identity: Arc::new(identity), claims: r#"{"a":"\"é"}"#.into() }
}

fn tickets(key: Option<&str>, of_subject: usize, in_all: usize) -> Tickets {
    Tickets::new(key, Limits { of_subject, in_all, bytes: 2000, lifetime: 40 * DAY }, NOON)
        .expect("random bytes")
}

fn shown<'a>(ticket: &'a str, secret: Option<&'a str>) -> Shown<'a> {
    Shown { ticket, secret, origin: None }
}

/// Somebody who has the ticket, and the secret that it has heard last.
#[derive(Clone, Debug, Default)]
struct Party {
    secret: Option<String>,
    /// When it first showed what it has, if it did.
    tried: Option<u64>,
}

/// A server with one ticket, and those who have it.
struct World {
    tickets: Tickets,
    ticket: String,
    today: u64,
    issued: u64,
    streams: u64,
    /// The open stream, and whose it is.
    open: Option<(u64, usize)>,
    ended: u64,
    parties: [Party; 2],
    is_void: bool,
}

impl World {
    fn new(key: Option<&str>) -> Self {
        let tickets = tickets(key, 8, 8);
        let ticket = tickets.issue(verified("ann", None), None, NOON).expect("room");
        let parties = Default::default();
        Self {
            tickets,
            ticket,
            today: NOON,
            issued: NOON,
            streams: 0,
            open: None,
            ended: NOON,
            parties,
            is_void: false,
        }
    }

    /// Whether a party that never deviates may expect to be let in, if it is the only one.
    fn is_in_time(&self, who: usize) -> bool {
        let Party { secret, tried } = &self.parties[who];
        let since = if secret.is_some() { tried.unwrap_or(self.today) } else { self.issued };
        let is_remembered = match self.open {
            Some(_) => true,
            None if self.streams == 0 => true, // that of the ticket alone
            None => self.today - self.ended < LINGER,
        };
        self.today - since < GRACE && is_remembered
    }

    fn try_open(&mut self, who: usize, is_lost: bool) -> bool {
        self.streams += 1;
        let (stream, today) = (self.streams, self.today);
        let party = &mut self.parties[who];
        party.tried.get_or_insert(today);
        match self.tickets.open(shown(&self.ticket, party.secret.as_deref()), stream, today) {
            Ok(opening) => {
                assert!(!self.is_void, "what is void stays so");
                assert_eq!(opening.former, self.open.map(|(stream, _)| stream), "there is one stream");
                assert_eq!(&*opening.verified.identity.subject, "ann");
                assert_eq!(&*opening.verified.claims, r#"{"a":"\"é"}"#);
                self.open = Some((stream, who));
                if !is_lost {
                    *party = Party { secret: Some(opening.secret.into()), tried: None };
                }
                true
            }
            Err(Refusal { error: TokenError::TicketShared, ends }) => {
                assert_eq!(ends, self.open.map(|(stream, _)| stream));
                (self.open, self.is_void) = (None, true);
                false
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal { error: TokenError::BadTicket, ends: None });
                false
            }
        }
    }

    fn end(&mut self) {
        if let Some((stream, _)) = self.open.take() {
            self.tickets.ended(stream, End::ForNow, || self.today);
            self.ended = self.today;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open { who: usize, is_lost: bool },
    Break,
    Wait(u64),
    Steal,
    Restart,
}

fn steps(parties: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..parties, any::<bool>()).prop_map(|(who, is_lost)| Step::Open { who, is_lost }),
        2 => Just(Step::Break),
        2 => prop_oneof![0..2_000_u64, 20_000..40_000_u64, 500_000..700_000_u64].prop_map(Step::Wait),
        1 => Just(Step::Steal),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// However often responses are lost and connections break: whoever comes back in time is let in.
    #[test]
    fn one_party_is_let_in_again_and_again(has_key in any::<bool>(), steps in steps(1)) {
        let mut world = World::new(has_key.then_some(KEY));
        let mut started = NOON;
        for step in steps {
            match step {
                Step::Open { is_lost, .. } => {
                    let expected = world.is_in_time(0);
                    let is_new = world.streams == 0;
                    let opened = world.try_open(0, is_lost);
                    // The ticket alone may be remembered, and not count any more.
                    prop_assert!(opened || !expected || is_new && world.today - NOON >= GRACE);
                    prop_assert!(opened == expected || expected || has_key && world.today - started < LINGER);
                    if !opened {
                        return Ok(());
                    }
                }
                Step::Break => world.end(),
                Step::Wait(millis) => world.today += millis,
                Step::Restart if has_key => {
                    let limits = Limits { of_subject: 8, in_all: 8, bytes: 2000, lifetime: 40 * DAY };
                    world.tickets = Tickets::new(Some(KEY), limits, world.today).expect("random bytes");
                    started = world.today;
                    (world.open, world.ended) = (None, world.today);
                    // What was answered before is forgotten, so what was shown counts anew.
                    world.parties[0].tried = None;
                }
                Step::Restart | Step::Steal => {}
            }
        }
    }

    /// Two who have the same ticket and the same secret do not go on side by side: after each of them was let in and has heard
    /// its secret, the first of them is not let in again.
    #[test]
    fn two_parties_are_found_out(has_key in any::<bool>(), steps in steps(2)) {
        let mut world = World::new(has_key.then_some(KEY));
        let mut heard = Vec::new();
        for step in steps {
            match step {
                Step::Open { who, is_lost } => {
                    let opened = world.try_open(who, is_lost);
                    let would_alternate = heard.len() >= 2 && heard.last() != Some(&who) && heard.contains(&who);
                    prop_assert!(!(opened && would_alternate), "{:?}", heard);
                    if opened && !is_lost && heard.last() != Some(&who) {
                        heard.push(who);
                    }
                }
                Step::Break => world.end(),
                Step::Wait(millis) => world.today += millis,
                // The second one sees what the first one has.
                Step::Steal if heard.last() != Some(&1) => {
                    world.parties[1] = world.parties[0].clone();
                    heard.clear();
                }
                // A restart forgets who was found out, but not within one process.
                Step::Restart | Step::Steal => {}
            }
        }
    }

    /// The table and its lists agree, however tickets come and go, and it is never larger than it may be.
    #[test]
    fn the_table_is_bounded_and_keeps_open_streams(
        steps in proptest::collection::vec((0..6_u8, 0..4_usize, 0..8_usize, 0..400_000_u64), 1..120)
    ) {
        let (of_subject, in_all) = (3, 7);
        let tickets = tickets(None, of_subject, in_all);
        let (mut today, mut open, mut given) = (NOON, Vec::<(u64, usize)>::new(), Vec::new());
        for (number, (what, subject, which, millis)) in steps.into_iter().enumerate() {
            let stream = number as u64;
            match what {
                0 | 1 => {
                    let live = open.iter().filter(|(_, of)| *of == subject).count();
                    match tickets.issue(verified(&format!("s{subject}"), None), None, today) {
                        Ok(ticket) => given.push((ticket, subject)),
                        Err(IssueError::OfSubject(_)) => prop_assert_eq!(live, of_subject),
                        Err(IssueError::Full(_)) => prop_assert_eq!(open.len(), in_all),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                2 => {
                    if let Some((ticket, of)) = given.get(which)
                        && let Ok(opening) = tickets.open(shown(ticket, None), stream, today)
                    {
                        open.retain(|(stream, _)| Some(*stream) != opening.former);
                        open.push((stream, *of));
                    }
                }
                3 if !open.is_empty() => {
                    let (stream, _) = open.remove(which % open.len());
                    tickets.ended(stream, [End::NotBegun, End::ForNow, End::ForGood][millis as usize % 3], || today);
                }
                4 => {
                    tickets.end_subject(&format!("s{subject}"));
                    open.retain(|(_, of)| *of != subject);
                }
                _ => today += millis,
            }
            let (all, live) = tickets.counts();
            prop_assert!(all <= in_all);
            prop_assert_eq!(live, open.len());
        }
    }
}

#[test]
fn a_ticket_alone_opens_for_half_a_minute_and_until_a_secret_was_shown() {
    let tickets = tickets(None, 8, 8);
    let ticket = tickets.issue(verified("ann", None), None, NOON).expect("room");
    assert_eq!(ticket.len(), 32);
    let first = tickets.open(shown(&ticket, None), 1, NOON + 1).expect("it is new");
    let second = tickets.open(shown(&ticket, None), 2, NOON + GRACE - 1).expect("the response was lost");
    assert_eq!((first.former, second.former), (None, Some(1)));
    assert_eq!(tickets.open(shown(&ticket, None), 3, NOON + GRACE).unwrap_err().ends, None, "late");
    let third = tickets.open(shown(&ticket, Some(&second.secret)), 4, NOON + GRACE).expect("the last secret");
    assert!(tickets.open(shown(&ticket, None), 5, NOON + 5).is_err(), "a secret was shown");
    let refused = tickets.open(shown(&ticket, Some(&first.secret)), 6, NOON + GRACE).unwrap_err();
    assert_eq!(refused, Refusal { error: TokenError::TicketShared, ends: Some(4) });
    assert!(tickets.open(shown(&ticket, Some(&third.secret)), 7, NOON + GRACE).is_err(), "it is void");
}

#[test]
fn secrets_of_others_pages_of_others_and_what_is_no_ticket_change_nothing() {
    for key in [None, Some(KEY)] {
        let tickets = tickets(key, 8, 8);
        let origin = Some("https://a.example");
        let [one, two] =
            ["ann", "ben"].map(|it| tickets.issue(verified(it, None), origin, NOON).expect("room"));
        let [of_one, of_two] = [(&one, 1), (&two, 2)].map(|(it, stream)| {
            tickets.open(Shown { origin, ..shown(it, None) }, stream, NOON).expect("new").secret
        });
        for (ticket, secret, from, error) in [
            (&*one, Some(&*of_two), origin, TokenError::BadTicket),
            (&*two, Some(&*of_one), origin, TokenError::BadTicket),
            (&*one, Some("x"), origin, TokenError::BadTicket),
            (&*of_one, None, origin, TokenError::BadTicket),
            ("", None, None, TokenError::BadTicket),
            (&one[1..], None, None, TokenError::BadTicket),
            (&*one, Some(&*of_one), Some("https://b.example"), TokenError::TicketOrigin),
        ] {
            let refused = tickets.open(Shown { ticket, secret, origin: from }, 9, NOON).unwrap_err();
            assert_eq!(refused, Refusal { error, ends: None }, "{ticket} {secret:?}");
        }
        for from in [None, Some("HTTPS://A.example")] {
            assert!(tickets.open(Shown { ticket: &one, secret: None, origin: from }, 10, NOON).is_ok());
        }
    }
}

#[test]
fn the_ticket_ends_with_its_identity_its_subject_and_when_its_secret_was_seen() {
    let tickets = tickets(None, 8, 8);
    let open = |ticket: &str, stream, today| tickets.open(shown(ticket, None), stream, today);
    let short = tickets.issue(verified("ann", Some(NOON + 5)), None, NOON).expect("room");
    assert_eq!(open(&short, 1, NOON + 5).unwrap_err().error, TokenError::Expired);
    assert_eq!(tickets.issue(verified("ann", Some(NOON)), None, NOON), Err(IssueError::Ended));
    assert_eq!(tickets.issue(verified("", None), None, NOON), Err(IssueError::Nobody));
    let long = Verified { claims: "x".repeat(2000).into(), ..verified("ann", None) };
    assert!(matches!(tickets.issue(long, None, NOON), Err(IssueError::TooLong { .. })));
    let seen = tickets.issue(verified("ann", None), None, NOON).expect("room");
    let secret = open(&seen, 2, NOON).expect("new").secret;
    assert_eq!(tickets.expose("x"), None);
    assert_eq!(tickets.expose(&secret), Some(2));
    assert!(open(&seen, 3, NOON).is_err());
    let revoked = tickets.issue(verified("ann", None), None, NOON).expect("room");
    let other = tickets.issue(verified("ben", None), None, NOON).expect("room");
    tickets.end_subject("ann");
    assert!(open(&revoked, 4, NOON).is_err() && open(&other, 5, NOON).is_ok());
    tickets.ended(5, End::ForGood, || NOON);
    assert!(open(&other, 6, NOON).is_err(), "its client is not to come back");
    assert_eq!(tickets.counts(), (0, 0));
}

#[test]
fn a_ticket_is_forgotten_some_minutes_after_its_stream() {
    let tickets = tickets(None, 8, 8);
    let ticket = tickets.issue(verified("ann", None), None, NOON).expect("room");
    let secret = tickets.open(shown(&ticket, None), 1, NOON).expect("new").secret;
    tickets.ended(1, End::ForNow, || NOON + DAY);
    let again =
        tickets.open(shown(&ticket, Some(&secret)), 2, NOON + DAY + LINGER - 1).expect("in time").secret;
    tickets.ended(2, End::ForNow, || NOON + DAY);
    assert!(tickets.open(shown(&ticket, Some(&again)), 3, NOON + DAY + LINGER).is_err());
    assert_eq!(tickets.counts(), (0, 0));
}

#[test]
fn an_opening_that_does_not_come_about_changes_nothing() {
    let tickets = tickets(None, 8, 8);
    let ticket = tickets.issue(verified("ann", None), None, NOON).expect("room");
    let open = |secret: Option<&str>, stream, today| tickets.open(shown(&ticket, secret), stream, today);
    open(None, 1, NOON).expect("new");
    tickets.ended(1, End::NotBegun, || NOON);
    let secret = open(None, 2, NOON).expect("it is as new").secret;
    // Its client is turned away for a long time, always with the same secret.
    for number in 3..20 {
        let today = NOON + number * GRACE;
        open(Some(&secret), number, today).expect("nobody has heard another secret");
        tickets.ended(number, End::NotBegun, || today);
    }
    let unused = tickets.issue(verified("ann", None), None, NOON).expect("room");
    tickets.open(shown(&unused, None), 1, NOON).expect("new");
    tickets.ended(1, End::NotBegun, || NOON);
    assert!(tickets.open(shown(&unused, None), 2, NOON + GRACE).is_err(), "it is late all the same");
}

#[test]
fn after_a_restart_tickets_with_a_key_count_once_more_and_what_ended_here_does_not() {
    let limits = Limits { of_subject: 2, in_all: 8, bytes: 2000, lifetime: 40 * DAY };
    let restart = |today| Tickets::new(Some(KEY), limits, today).expect("random bytes");
    let before = tickets(Some(KEY), 8, 8);
    let give =
        |subject| before.issue(verified(subject, None), Some("https://a.example"), NOON).expect("room");
    let [ann, ben, cid, dan] = ["ann", "ben", "cid", "dan"].map(give);
    let [ann_1, ben_1, cid_1] = [(&ann, 1), (&ben, 2), (&cid, 3)]
        .map(|(it, stream)| before.open(shown(it, None), stream, NOON).expect("new").secret);
    let later = NOON + 300_000;
    let after = restart(later);
    assert!(after.open(shown(&ann, None), 1, later).is_err(), "the ticket alone is late");
    let foreign = Shown { origin: Some("https://b.example"), ..shown(&ann, Some(&ann_1)) };
    assert_eq!(after.open(foreign, 1, later).unwrap_err().error, TokenError::TicketOrigin);
    let ann_2 = after.open(shown(&ann, Some(&ann_1)), 1, later).expect("neither has ended it").secret;
    assert!(after.open(shown(&ann, Some(&ann_1)), 2, later + GRACE).unwrap_err().ends == Some(1));
    for secret in [&ann_1, &ann_2] {
        assert!(after.open(shown(&ann, Some(secret)), 3, later).is_err(), "void stays void");
    }
    after.end_subject("ben");
    assert!(after.open(shown(&ben, Some(&ben_1)), 4, later).is_err(), "revoked");
    after.expose(&cid_1);
    assert!(after.open(shown(&cid, Some(&cid_1)), 5, later).is_err(), "its secret was seen");
    let soon = restart(NOON + 1);
    assert!(soon.open(shown(&dan, None), 6, NOON + 1).is_ok(), "it was not opened before");
    let long_after = restart(NOON);
    assert!(long_after.open(shown(&ann, Some(&ann_1)), 8, NOON + LINGER).is_err(), "the past is over");
    let much_later = restart(NOON + 40 * DAY);
    assert!(much_later.open(shown(&ann, Some(&ann_1)), 8, NOON + 40 * DAY).is_err(), "it is too old");
    let days_later = restart(NOON + 39 * DAY);
    assert!(days_later.open(shown(&ann, Some(&ann_1)), 8, NOON + 39 * DAY).is_ok());
    let without = tickets(None, 8, 8);
    assert!(without.open(shown(&ann, Some(&ann_1)), 9, NOON).is_err());
    let here = long_after.issue(verified("eve", None), None, NOON).expect("room");
    long_after.end_subject("eve");
    assert!(long_after.open(shown(&here, None), 10, NOON).is_err(), "it is of this process");
}
