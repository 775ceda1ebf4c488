//! What a client posts whose session is on a stream: lists of messages, and requests for the parts of its stream.

use super::conversation::Session;
use super::resumable::{Resumable, Secret};

/// What becomes of a list of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListVerdict {
    /// It is the next one. It is not noted as seen.
    Next,
    /// It was seen before.
    Seen,
    /// Another one has to come before it.
    Skips {
        /// The number of that.
        expected: u64,
    },
    /// It is for another stream of the session.
    Superseded {
        /// The attempt that was accepted last.
        attempt: u64,
    },
    /// It is of somebody who does not know the secret of the session.
    Unknown,
}

/// Judges a list of messages.
pub fn judge_list(session: &mut Session, secret: Secret, attempt: u64, number: u64) -> ListVerdict {
    match known(session, secret) {
        None => ListVerdict::Unknown,
        Some(it) if it.attempt != attempt => ListVerdict::Superseded { attempt: it.attempt },
        Some(it) if number <= it.lists => ListVerdict::Seen,
        Some(it) if number == it.lists + 1 => ListVerdict::Next,
        Some(it) => ListVerdict::Skips { expected: it.lists + 1 },
    }
}

/// Notes that the next list was taken.
pub fn take_list(session: &mut Session) {
    session.resumable_part().into_iter().for_each(|it| it.lists += 1);
}

/// Notes that the stream of the session comes in parts, and that this is the first one.
pub fn begin_parts(session: &mut Session) {
    session.resumable_part().into_iter().for_each(|it| it.part = 1);
}

/// Takes the next part of the stream, if that is what a client asks for.
///
/// # Errors
/// The attempt that was accepted last. `None`: it is not the session's client.
pub fn take_part(session: &mut Session, secret: Secret, attempt: u64, part: u64) -> Result<(), Option<u64>> {
    match known(session, secret) {
        None => Err(None),
        Some(it) if it.attempt == attempt && it.part > 0 && part == it.part + 1 => {
            it.part = part;
            Ok(())
        }
        Some(it) => Err(Some(it.attempt)),
    }
}

/// The attempt of the session that was accepted last, for its client.
pub fn last_attempt(session: &mut Session, secret: Secret) -> Option<u64> {
    known(session, secret).map(|it| it.attempt)
}

/// What a client has to know of the session.
pub fn secret_of(session: &mut Session) -> Option<Secret> {
    session.resumable_part()?.secret
}

fn known(session: &mut Session, secret: Secret) -> Option<&mut Resumable> {
    session.resumable_part().filter(|it| it.is_it(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret::new([7; 16]);

    #[test]
    fn lists_are_taken_in_their_order_and_once() {
        let mut session = Session::resumable(Some(SECRET), None);
        assert_eq!(judge_list(&mut session, Secret::new([8; 16]), 0, 1), ListVerdict::Unknown);
        for _ in 0..2 {
            assert_eq!(judge_list(&mut session, SECRET, 0, 1), ListVerdict::Next, "judging notes nothing");
        }
        take_list(&mut session);
        let mut judge = |attempt, number| judge_list(&mut session, SECRET, attempt, number);
        assert_eq!((judge(0, 1), judge(0, 2)), (ListVerdict::Seen, ListVerdict::Next));
        assert_eq!(judge(0, 4), ListVerdict::Skips { expected: 2 });
        assert_eq!(judge(1, 2), ListVerdict::Superseded { attempt: 0 });
    }

    #[test]
    fn only_the_next_part_of_a_stream_that_comes_in_parts_is_taken() {
        let mut session = Session::resumable(Some(SECRET), None);
        assert_eq!(take_part(&mut session, SECRET, 0, 1), Err(Some(0)), "it is whole");
        begin_parts(&mut session);
        assert_eq!(take_part(&mut session, Secret::new([8; 16]), 0, 2), Err(None));
        assert_eq!(take_part(&mut session, SECRET, 1, 2), Err(Some(0)));
        assert_eq!(take_part(&mut session, SECRET, 0, 2), Ok(()));
        assert_eq!(take_part(&mut session, SECRET, 0, 2), Err(Some(0)), "once");
        assert_eq!(take_part(&mut session, SECRET, 0, 3), Ok(()));
        assert_eq!(
            (last_attempt(&mut session, SECRET), last_attempt(&mut Session::default(), SECRET)),
            (Some(0), None)
        );
    }
}
