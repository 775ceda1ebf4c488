//! One shard: a thread with its own event loop, its connections, and its part of the subscriptions.
//!
//! Everything of a shard is touched only between two awaits, so nothing is locked and nothing is shared. A connection's task
//! does nothing but wait for its socket. The flush writes to all sockets directly and wakes no task.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::close::CloseReason;
use crate::hub::Due;
use crate::moment::Moment;
use crate::protocol::http::HttpError;
use crate::session::tell_presence;
use crate::transport::alive::ping;
use crate::transport::carry_out::carry_out;
use crate::transport::commands::{Accepted, Command, MOMENT};
use crate::transport::connections::Connections;
use crate::transport::deadlines::Verdict;
use crate::transport::drain::Drain;
use crate::transport::drive::{Newcomer, accept, unpack};
use crate::transport::events::Level;
use crate::transport::forgotten::{end_forgotten, give_way};
use crate::transport::io::Stream;
use crate::transport::look::look;
use crate::transport::members;
use crate::transport::parts;
use crate::transport::peer::Peer;
use crate::transport::phase::Phase;
use crate::transport::renewal::{end_subject, look_at_credentials};

/// The loop of one shard.
pub(crate) struct Shard {
    connections: Rc<RefCell<Connections>>,
    /// Commands that were taken and not carried out yet.
    commands: VecDeque<Command>,
    drain: Option<Drain>,
    /// The task that accepts connections, where this shard has one.
    accepting: Option<AbortHandle>,
}

/// What a shard does after a turn.
enum Next {
    /// Take another turn after the runtime has looked at the sockets.
    Again,
    WaitUntil(Moment),
    Wait,
    End,
}

impl Shard {
    pub fn new(connections: Rc<RefCell<Connections>>, accepting: Option<AbortHandle>) -> Self {
        Self { connections, commands: VecDeque::new(), drain: None, accepting }
    }

    /// Runs until the server stops. Its connections are tasks of the same runtime.
    pub async fn run(mut self) {
        let (commands, clock) = {
            let connections = self.connections.borrow();
            (Arc::clone(&connections.commands), connections.shared.clock.clone())
        };
        loop {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn()));
            match turn.unwrap_or_else(|_| self.recover()) {
                // Lets the runtime look at the sockets.
                Next::Again => tokio::task::yield_now().await,
                Next::WaitUntil(moment) => {
                    let deadline = clock.instant(moment).into();
                    // A deadline and a command mean the same: another turn.
                    let _ = tokio::time::timeout_at(deadline, commands.wait_command()).await;
                }
                Next::Wait => commands.wait_command().await,
                Next::End => break,
            }
        }
    }

    fn recover(&self) -> Next {
        let connections = self.connections.borrow();
        connections.counters.panics.add(1);
        connections.shared.log(Level::Error, "a turn of a shard panicked; its connections go on");
        Next::Again
    }

    /// Carries out commands, looks at deadlines, flushes a slice.
    fn turn(&mut self) -> Next {
        {
            let mut connections = self.connections.borrow_mut();
            connections.update_now();
            connections.commands.take(&mut self.commands);
        }
        // Taken one by one. What a panic leaves is done in the next turn. The same is true of deadlines and feeds.
        while let Some(command) = self.commands.pop_front() {
            self.perform(command);
        }
        let connections = &mut *self.connections.borrow_mut();
        connections.shared.inbox.wake();
        look_at_deadlines(connections);
        flush(connections);
        connections.turns.begin(&mut connections.sockets);
        if self.drain.as_mut().is_some_and(|drain| drain.advance(connections)) {
            return Next::End;
        }
        let next = next(connections, self.drain.as_ref().map(Drain::due));
        connections.asleep_until = if let Next::WaitUntil(moment) = next { Some(moment) } else { None };
        next
    }

    /// Does what another thread asked for.
    fn perform(&mut self, command: Command) {
        match command {
            Command::Accepted(Accepted { socket, counted, excess, at }) => match Stream::new(socket) {
                Ok(stream) => accept(&self.connections, stream, Newcomer { counted, excess, at }),
                Err(error) => {
                    let connections = self.connections.borrow();
                    connections.refuse_socket(connections.index, &error);
                }
            },
            Command::HandedOver(parcel) => {
                if let Ok(parcel) = parcel.downcast() {
                    unpack(&self.connections, *parcel);
                }
            }
            Command::Moved(feed) => self.connections.borrow_mut().hub.moved(feed),
            Command::Look(it) => look(&mut self.connections.borrow_mut(), it),
            Command::GiveWay(subject) => give_way(&mut self.connections.borrow_mut(), &subject),
            Command::KeysSettled => {
                let connections = &mut *self.connections.borrow_mut();
                connections.turns.settle_keys(&mut connections.sockets, true);
            }
            Command::RoomForEvents => self.connections.borrow_mut().wake_waiting(),
            Command::Drain(within) => self.begin_drain(within),
            Command::EndSubject(subject, reason) => {
                end_subject(&mut self.connections.borrow_mut(), &subject, &reason);
            }
            Command::Client(client, command) => {
                carry_out(&mut self.connections.borrow_mut(), client, command, &mut self.commands);
            }
        }
    }

    fn begin_drain(&mut self, within: Duration) {
        let connections = &mut *self.connections.borrow_mut();
        if let Some(drain) = &mut self.drain {
            return drain.hasten(connections.now(), within);
        }
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        self.drain = Some(Drain::begin(connections, within));
    }
}

/// What there is to do, and when, after a turn.
fn next(connections: &mut Connections, drain: Option<Moment>) -> Next {
    let flush = match connections.hub.due(connections.now()) {
        _ if !connections.turns.is_empty() => return Next::Again,
        Due::Now => return Next::Again,
        Due::At(moment) => {
            connections.tick_due = Some(moment);
            connections.commands.defer_notifications();
            Some(moment)
        }
        Due::Rest(moment) => Some(moment),
        Due::Never => None,
    };
    let batch = connections.shared.inbox.is_busy().then(|| {
        connections.commands.wait_for_batch();
        connections.now() + MOMENT
    });
    let soonest = [flush, connections.next_deadline(), drain, batch].into_iter().flatten().min();
    soonest.map_or(Next::Wait, Next::WaitUntil)
}

fn flush(connections: &mut Connections) {
    if connections.is_due() {
        connections.note_tick();
        let (now, time) = (connections.now(), connections.timestamp());
        let Connections { hub, sockets, .. } = &mut *connections;
        let written = catch_unwind(AssertUnwindSafe(|| hub.flush(now, time, sockets)));
        Peer::end_unserved(connections, written);
        let Connections { hub, shared, .. } = &mut *connections;
        hub.end_tick(|| shared.clock.now());
    }
}

fn look_at_deadlines(connections: &mut Connections) {
    end_forgotten(connections);
    members::advance(connections);
    connections.turns.settle_keys(&mut connections.sockets, false);
    connections.advance_wheel();
    while let Some(key) = connections.due.pop() {
        Peer::act(connections, key, look_at_deadline);
    }
}

fn look_at_deadline(peer: &mut Peer<'_>) {
    let now = peer.now();
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection() else { return };
    if connection.timer > now {
        return;
    }
    if connection.quiet_until().is_some() {
        connection.wake();
    }
    if connection.is_paused(now, &shared) {
        if connection.io.is_ended() {
            return peer.finish(&CloseReason::Ended);
        }
        connection.wake(); // there may be room to read ahead
        if connection.is_to_be_shown(now) {
            peer.converse(|_, peer| tell_presence(peer));
        }
    }
    let Some(connection) = peer.connection() else { return };
    let listening = connection.listens(now) && connection.has_room(&shared);
    match connection.deadlines.check(now, listening, &shared.timeouts) {
        Verdict::Wait(_) => {}
        Verdict::Ping => ping(peer),
        Verdict::EndPart => parts::end(peer),
        Verdict::Credentials => look_at_credentials(peer),
        Verdict::Late => late(peer),
        Verdict::Close(reason) => peer.close(reason),
        Verdict::Gone => peer.finish(&CloseReason::Ended),
        Verdict::Drop if connection.route().is_some_and(|route| route.ending.is_some()) => {
            peer.close(CloseReason::ClosedInTurn);
        }
        Verdict::Drop => peer.finish(&CloseReason::NotClosing),
    }
    peer.connections.schedule(peer.key);
}

fn late(peer: &mut Peer<'_>) {
    let Some(connection) = peer.live() else { return };
    if connection.opener().is_some_and(|opener| opener.listens()) {
        return peer.close(CloseReason::NoFirstInTime);
    }
    match &connection.phase {
        Phase::Head(head) if head.excess.is_some() => {
            let reason = head.excess.as_ref().map_or(HttpError::TIMEOUT, |excess| excess.reason);
            peer.refuse(&reason, None);
            peer.finish(&CloseReason::Response);
        }
        Phase::Head(head) if !head.buffer.is_empty() => {
            peer.refuse(&HttpError::TIMEOUT, None);
        }
        Phase::Calls(caller) if caller.call.is_none() && !caller.head.buffer.is_empty() => {
            peer.refuse(&HttpError::TIMEOUT, None);
        }
        Phase::Deciding(_) | Phase::Calls(_) => peer.close(CloseReason::NotDecided),
        Phase::Head(_) | Phase::Open(_) | Phase::Closing { .. } => peer.finish(&CloseReason::Silent),
    }
}

#[cfg(test)]
mod tests;
