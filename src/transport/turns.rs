//! Whose turn it is: of clients that ask for much, and of those with tokens that were not verified before.

use std::collections::VecDeque;
use std::time::Duration;

use crate::hub::ReaderKey;
use crate::moment::Moment;
use crate::transport::sockets::Sockets;
use crate::transport::turn::{Turn, WORK_AT_A_TURN};

/// Those that wait for their turn, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// With what their turns cost.
    waiting: VecDeque<(ReaderKey, usize)>,
    /// What the turns cost that were given since the sockets were looked at.
    given: usize,
    /// Those that wait for the keys of their tokens, and until when.
    for_keys: VecDeque<(ReaderKey, Moment)>,
}

impl Turns {
    /// Lets a connection wait.
    pub fn wait(&mut self, sockets: &mut Sockets, key: ReaderKey, cost: usize) {
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return };
        connection.turn = Turn::Waits;
        self.waiting.push_back((key, cost));
    }

    /// Whether a signature of a connection may be verified now, which costs this. Otherwise the connection waits.
    pub fn may_verify(&mut self, sockets: &mut Sockets, key: ReaderKey, cost: usize) -> bool {
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return true };
        if std::mem::take(&mut connection.turn) == Turn::Given {
            return true;
        }
        // Others were there first.
        if self.waiting.is_empty() && self.given < WORK_AT_A_TURN {
            self.given += cost;
            return true;
        }
        self.wait(sockets, key, cost);
        false
    }

    /// Lets a connection wait for the key of its token, if that comes soon and few others wait.
    pub fn wait_for_keys(
        &mut self,
        sockets: &mut Sockets,
        key: ReaderKey,
        come: impl FnOnce() -> bool,
    ) -> bool {
        let now = sockets.now;
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return false };
        let has_waited = std::mem::take(&mut connection.turn) == Turn::KeysSettled;
        if has_waited || self.for_keys.len() >= MOST_FOR_KEYS || !come() {
            return false;
        }
        connection.turn = Turn::WaitsForKeys;
        self.for_keys.push_back((key, now + KEYS_PATIENCE));
        true
    }

    /// Lets those go on that have waited long enough for keys, or all, because the keys have come or do not come.
    pub fn settle_keys(&mut self, sockets: &mut Sockets, all: bool) {
        let now = sockets.now;
        while let Some((key, _)) = self.for_keys.pop_front_if(|(_, until)| all || *until <= now) {
            let connection = sockets.slots.get_mut(key as usize);
            if let Some(connection) = connection.filter(|it| it.turn == Turn::WaitsForKeys) {
                connection.turn = Turn::KeysSettled;
                connection.wake();
            }
        }
    }

    /// When the first one has waited long enough for keys.
    pub fn next_for_keys(&self) -> Option<Moment> {
        self.for_keys.front().map(|(_, until)| *until)
    }

    /// Lets those go on that have waited longest: one that asks for much, or several that ask for little.
    pub fn begin(&mut self, sockets: &mut Sockets) {
        self.given = 0;
        while self.given < WORK_AT_A_TURN
            && let Some((key, cost)) = self.waiting.pop_front()
        {
            // Another connection may have its place, which asked for nothing.
            let connection = sockets.slots.get_mut(key as usize);
            if let Some(connection) = connection.filter(|connection| connection.turn == Turn::Waits) {
                connection.turn = Turn::Given;
                connection.wake();
                self.given += cost;
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// How long a client waits for the key of its token.
pub(crate) const KEYS_PATIENCE: Duration = Duration::from_secs(3);

/// Clients of a shard that wait for the keys of their tokens. More are judged without.
pub(crate) const MOST_FOR_KEYS: usize = 1024;
