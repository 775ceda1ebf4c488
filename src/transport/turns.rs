//! Whose turn it is: of clients that ask for much, and of those with tokens that were not verified before.

use std::collections::VecDeque;
use std::time::Duration;

use crate::hub::ReaderKey;
use crate::moment::Moment;
use crate::transport::sockets::Sockets;
use crate::transport::turn::{Turn, WORK_AT_A_TURN};

/// Those that wait for their turn, in the order in which they came. Those that ask for much do not keep others out, who would come in.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Those that ask for much.
    busy: VecDeque<ReaderKey>,
    /// Those with signatures to be verified, and what that costs.
    verifying: VecDeque<(ReaderKey, usize)>,
    /// What was allowed to be verified since the sockets were looked at.
    allowed: usize,
    /// Those that wait for the keys of their tokens, and until when.
    for_keys: VecDeque<(ReaderKey, Moment)>,
}

impl Turns {
    /// Lets a connection wait that asks for much.
    pub fn wait(&mut self, sockets: &mut Sockets, key: ReaderKey) {
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return };
        connection.turn = Turn::Waits;
        self.busy.push_back(key);
    }

    /// Whether a signature of a connection may be verified now, which costs this. Otherwise the connection waits.
    pub fn may_verify(&mut self, sockets: &mut Sockets, key: ReaderKey, cost: usize) -> bool {
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return true };
        if std::mem::take(&mut connection.turn) == Turn::Given {
            return true;
        }
        // Others were there first.
        if self.verifying.is_empty() && self.allowed < WORK_AT_A_TURN {
            self.allowed += cost;
            return true;
        }
        connection.turn = Turn::Waits;
        self.verifying.push_back((key, cost));
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

    /// Lets those go on that have waited longest: one that asks for much, and as many signatures as cost no more than that.
    pub fn begin(&mut self, sockets: &mut Sockets) {
        while let Some(key) = self.busy.pop_front()
            && !give(sockets, key)
        {}
        self.allowed = 0;
        while self.allowed < WORK_AT_A_TURN
            && let Some((key, cost)) = self.verifying.pop_front()
        {
            self.allowed += if give(sockets, key) { cost } else { 0 };
        }
    }

    pub fn is_empty(&self) -> bool {
        self.busy.is_empty() && self.verifying.is_empty()
    }
}

/// Gives a connection its turn. Returns `false` when another one has its place, which asked for nothing.
fn give(sockets: &mut Sockets, key: ReaderKey) -> bool {
    let connection = sockets.slots.get_mut(key as usize);
    let Some(connection) = connection.filter(|connection| connection.turn == Turn::Waits) else {
        return false;
    };
    connection.turn = Turn::Given;
    connection.wake();
    true
}

/// How long a client waits for the key of its token.
pub(crate) const KEYS_PATIENCE: Duration = Duration::from_secs(3);

/// Clients of a shard that wait for the keys of their tokens. More are judged without.
pub(crate) const MOST_FOR_KEYS: usize = 1024;
