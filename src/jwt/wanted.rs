//! Whether keys are wanted that have to be had from elsewhere. Who has them brings them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How it stands with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// They never come: the keys are fixed.
    Never,
    /// They are asked for, and come soon.
    Coming,
    /// They have just come, or have not. They are not asked for again yet.
    Resting,
    /// They can be asked for.
    Ready,
}

/// The questions for keys that have to be had from elsewhere.
pub struct Wanted {
    /// Locked to read or to change it.
    state: Mutex<State>,
    changed: Condvar,
}

impl Wanted {
    /// Keys that come are asked for already.
    pub(super) fn new(comes: bool) -> Self {
        let state = if comes { State::Coming } else { State::Never };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Asks for them. `false`: they do not come soon.
    pub fn ask(&self) -> bool {
        let mut state = self.lock();
        if *state == State::Ready {
            *state = State::Coming;
            self.changed.notify_all();
        }
        *state == State::Coming
    }

    /// They have come, or have not.
    pub fn settle(&self) {
        self.change(State::Resting);
    }

    /// They come, asked for or not. Ends the wait for a question.
    pub fn begin(&self) {
        self.change(State::Coming);
        self.changed.notify_all();
    }

    /// Waits until they are asked for, at most so long.
    pub fn wait(&self, at_most: Duration) {
        let mut state = self.lock();
        if *state == State::Resting {
            *state = State::Ready;
        }
        if *state == State::Ready {
            // It returns for other reasons, too: who waits looks what there is to do.
            drop(self.changed.wait_timeout(state, at_most));
        }
    }

    fn change(&self, to: State) {
        let mut state = self.lock();
        if *state != State::Never {
            *state = to;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_asked_for_once_however_many_ask() {
        let wanted = Wanted::new(true);
        assert!(wanted.ask(), "they come at the start");
        wanted.settle();
        assert!(!wanted.ask());
        wanted.wait(Duration::ZERO);
        assert!(wanted.ask() && wanted.ask());
        wanted.settle();
        assert!(!wanted.ask());
        wanted.begin();
        assert!(wanted.ask());
    }

    #[test]
    fn who_brings_them_is_woken_by_a_question() {
        let wanted = std::sync::Arc::new(Wanted::new(true));
        wanted.settle();
        let bringer = std::thread::spawn({
            let wanted = std::sync::Arc::clone(&wanted);
            move || wanted.wait(Duration::from_secs(600))
        });
        while !wanted.ask() {
            std::thread::yield_now();
        }
        bringer.join().expect("it is woken");
    }

    #[test]
    fn keys_that_are_fixed_are_never_asked_for() {
        let wanted = Wanted::new(false);
        wanted.begin();
        wanted.wait(Duration::from_secs(600));
        assert!(!wanted.ask());
    }
}
