//! How much a client of a websocket path may say before the application has taken it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::transport::client_id::ClientId;
use crate::transport::commands::{Command, CommandQueue};

/// What one message takes of its client's allowance. It is given back when this is dropped: then the application has taken the
/// message. So one client can't fill the queue of all.
#[derive(Debug)]
pub struct Credit {
    client: ClientId,
    amount: usize,
    untaken: Arc<AtomicUsize>,
    commands: Arc<CommandQueue>,
}

impl Credit {
    pub(crate) fn new(
        client: ClientId,
        bytes: usize,
        untaken: &Arc<AtomicUsize>,
        commands: &Arc<CommandQueue>,
    ) -> Self {
        // An empty message takes a place too.
        let amount = bytes + PLACE;
        untaken.fetch_add(amount, Ordering::AcqRel);
        Self { client, amount, untaken: Arc::clone(untaken), commands: Arc::clone(commands) }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let before = self.untaken.fetch_sub(self.amount, Ordering::AcqRel);
        if before >= ALLOWANCE && before - self.amount < ALLOWANCE {
            self.commands.push(Command::ReadAgain(self.client));
        }
    }
}

/// Bytes of messages of one client of a websocket path, and of their places in the queue, that wait for the application
/// before the client is not read any more.
pub(crate) const ALLOWANCE: usize = 128 * 1024;

/// Bytes that a message's place in the queue of events takes, at most.
pub(crate) const PLACE: usize = 128;
