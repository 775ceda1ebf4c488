//! What became of a publication: known at once, or later.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::change::StateRefusal;
use crate::position::Position;

/// What [`Broker::append`](crate::broker::Broker::append) returns. Clones tell the same.
#[derive(Clone)]
pub struct Receipt(State);

#[derive(Clone)]
enum State {
    Confirmed(Position),
    Pending(Arc<Pending>),
}

/// The position of a publication, or why it may have none.
pub type Outcome = Result<Position, PublishError>;

/// Why a publication has no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Certain: nobody gets it. Publishing it again makes no duplicate.
    #[error("not published: {0}")]
    NotPublished(String),
    /// Unknown: readers may have it, get it later, or never get it. Publishing it again may make a duplicate.
    #[error("perhaps published: {0}")]
    MaybePublished(String),
    /// Certain: a state does not take the change.
    #[error("{0}")]
    Refused(StateRefusal),
}

impl Receipt {
    /// For a publication that is in the log. Costs no allocation and no lock.
    pub fn confirmed(position: Position) -> Self {
        Self(State::Confirmed(position))
    }

    /// For a publication that is not in the log, and never will be.
    pub fn refused(refusal: StateRefusal) -> Self {
        Self::failed(PublishError::Refused(refusal))
    }

    /// For a publication whose end is known.
    pub fn failed(error: PublishError) -> Self {
        Self(State::Pending(Arc::new(Pending(Mutex::new(Progress::Known(Err(error)))))))
    }

    /// For a publication that is on its way, and the broker's end of it.
    pub fn pending() -> (Self, Confirmation) {
        let pending = Arc::new(Pending(Mutex::new(Progress::Waiting(Vec::new()))));
        (Self(State::Pending(Arc::clone(&pending))), Confirmation(pending))
    }

    /// `None` until it is confirmed, and for ever when it has failed.
    pub fn position(&self) -> Option<Position> {
        self.outcome()?.ok()
    }

    /// `None` until it is known.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.0 {
            State::Confirmed(position) => Some(Ok(*position)),
            State::Pending(pending) => match &*pending.lock() {
                Progress::Waiting(_) => None,
                Progress::Known(outcome) => Some(outcome.clone()),
            },
        }
    }

    /// Acts once when the outcome is known: now and here, or later on the broker's thread. Several actions run in
    /// the order of the calls. An action must not block.
    pub fn when_known(&self, act: impl FnOnce(Outcome) + Send + 'static) {
        let outcome = match &self.0 {
            State::Confirmed(position) => Ok(*position),
            State::Pending(pending) => match &mut *pending.lock() {
                Progress::Waiting(actions) => return actions.push(Box::new(act)),
                Progress::Known(outcome) => outcome.clone(),
            },
        };
        act(outcome);
    }
}

/// The broker's end of a pending receipt. When it is dropped without an answer, the publication may have happened:
/// [`PublishError::MaybePublished`].
#[must_use]
pub struct Confirmation(Arc<Pending>);

impl Confirmation {
    /// Tells the outcome, and runs on this thread what waits for it. Call it without a lock that an action could want.
    pub fn resolve(self, outcome: Outcome) {
        self.0.resolve(outcome);
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        self.0.resolve(Err(PublishError::MaybePublished("the broker ended without an answer".into())));
    }
}

/// Locked for a look or a change, never while an action runs.
struct Pending(Mutex<Progress>);

enum Progress {
    Waiting(Vec<Box<dyn FnOnce(Outcome) + Send>>),
    Known(Outcome),
}

impl Pending {
    /// Only the first outcome counts.
    fn resolve(&self, outcome: Outcome) {
        let mut progress = self.lock();
        let Progress::Waiting(actions) = &mut *progress else { return };
        let actions = std::mem::take(actions);
        *progress = Progress::Known(outcome.clone());
        drop(progress);
        for act in actions {
            act(outcome.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Receipt").field(&self.outcome()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::position::Epoch;

    const POSITION: Position = Position { epoch: Epoch::new(7), offset: 1 };

    #[test]
    fn a_confirmed_receipt_answers_at_once() {
        let receipt = Receipt::confirmed(POSITION);
        let (send, told) = mpsc::channel();
        receipt.when_known(move |outcome| send.send(outcome).unwrap());
        assert_eq!(told.try_recv(), Ok(Ok(POSITION)));
        assert_eq!((receipt.position(), receipt.outcome()), (Some(POSITION), Some(Ok(POSITION))));
    }

    #[test]
    fn a_pending_receipt_answers_every_clone_once_the_broker_has() {
        let (receipt, confirmation) = Receipt::pending();
        let (send, told) = mpsc::channel();
        for number in 0..2 {
            let send = send.clone();
            receipt.clone().when_known(move |outcome| send.send((number, outcome)).unwrap());
        }
        assert_eq!((receipt.position(), receipt.outcome(), told.try_recv().ok()), (None, None, None));
        confirmation.resolve(Ok(POSITION));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(0, Ok(POSITION)), (1, Ok(POSITION))]);
        receipt.when_known(move |outcome| send.send((2, outcome)).unwrap());
        assert_eq!(told.try_recv(), Ok((2, Ok(POSITION))));
        assert_eq!(receipt.position(), Some(POSITION));
    }

    #[test]
    fn an_action_may_ask_the_receipt_that_it_belongs_to() {
        let (receipt, confirmation) = Receipt::pending();
        let (send, told) = mpsc::channel();
        let again = receipt.clone();
        receipt.when_known(move |_| send.send(again.position()).unwrap());
        confirmation.resolve(Ok(POSITION));
        assert_eq!(told.try_recv(), Ok(Some(POSITION)));
    }

    #[test]
    fn a_broker_that_forgets_to_answer_has_perhaps_published() {
        let (receipt, confirmation) = Receipt::pending();
        drop(confirmation);
        assert!(matches!(receipt.outcome(), Some(Err(PublishError::MaybePublished(_)))));
        assert_eq!(receipt.position(), None);
    }
}
