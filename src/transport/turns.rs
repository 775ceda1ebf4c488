//! Whose turn it is: of clients that ask for much, and of those with tokens that were not verified before.

use std::collections::VecDeque;

use crate::hub::ReaderKey;
use crate::transport::sockets::Sockets;
use crate::transport::turn::{Turn, WORK_AT_A_TURN};

/// Those that wait for their turn, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// With what their turns cost.
    waiting: VecDeque<(ReaderKey, usize)>,
    /// What the turns cost that were given since the sockets were looked at.
    given: usize,
}

impl Turns {
    /// Lets a connection wait.
    pub fn wait(&mut self, sockets: &mut Sockets, key: ReaderKey, cost: usize) {
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return };
        connection.turn = Turn::Waits;
        self.waiting.push_back((key, cost));
    }

    /// Whether a connection may do now what costs this. Otherwise it waits.
    pub fn may(&mut self, sockets: &mut Sockets, key: ReaderKey, cost: usize) -> bool {
        let Some(connection) = sockets.slots.get_mut(key as usize) else { return true };
        if cost == 0 || std::mem::take(&mut connection.turn) == Turn::Given {
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
