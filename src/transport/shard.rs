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

use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::hub::Due;
use crate::json::push_line;
use crate::moment::Moment;
use crate::protocol::http::HttpError;
use crate::protocol::message::Id;
use crate::session::{Carrier as _, Session};
use crate::transport::admission::{admit, close_for_application};
use crate::transport::client_id::ClientId;
use crate::transport::commands::{Accepted, Command};
use crate::transport::connection::{Connection, Phase};
use crate::transport::connections::Connections;
use crate::transport::deadlines::Verdict;
use crate::transport::drain::Drain;
use crate::transport::drive::accept;
use crate::transport::events::Level;
use crate::transport::io::Stream;
use crate::transport::peer::Peer;
use crate::transport::websocket::send_route;

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
            (Arc::clone(&connections.commands), connections.shared.clock)
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
        look_at_deadlines(connections);
        flush(connections);
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
            Command::Accepted(Accepted { socket, counted, at }) => match Stream::new(socket) {
                Ok(stream) => accept(&self.connections, stream, counted, at),
                Err(_) => self.connections.borrow().refuse_socket(),
            },
            Command::Moved(feed) => self.connections.borrow_mut().hub.moved(feed),
            Command::RoomForEvents => self.connections.borrow_mut().wake_waiting(),
            Command::Drain(within) => self.begin_drain(within),
            Command::ReadAgain(client) => self.change(client, |_| {}),
            Command::PauseReading(client) => self.change(client, |connection| connection.paused = true),
            Command::ResumeReading(client) => self.change(client, |connection| connection.paused = false),
            Command::Admit(client) => self.for_client(client, admit),
            Command::SendRoute(client, is_text, data) => {
                self.for_client(client, |peer| send_route(peer, is_text, &data));
            }
            Command::Close(client, code, text) => {
                self.for_client(client, |peer| close_for_application(peer, code, text));
            }
            Command::Evict(client, share) => self.for_connection(client, |peer| evict(peer, share)),
            Command::OpenPrivate(client) => self.for_session(client, |session, peer| {
                let channel = ChannelName::private(&peer.connections.shared.public_id(client));
                session.open_private(&channel, peer);
            }),
            Command::Reply(client, text) => self.for_session(client, |_, peer| pass_on(peer, &text)),
            Command::ReplyError(client, text) => self.for_session(client, |session, peer| {
                pass_on(peer, &text);
                session.count_error(peer);
            }),
            Command::Subscribe(client, channel, from, id) => self.for_session(client, |session, peer| {
                let id = id.as_deref().and_then(Id::from_json);
                session.subscribe_for_application(&channel, from, id, peer);
            }),
            Command::Unsubscribe(client, channel, reason) => self.for_session(client, |session, peer| {
                session.unsubscribe_for_application(&channel, &reason, peer);
            }),
            Command::Decide(client, number, decision) => {
                self.for_session(client, |session, peer| {
                    let rules = Arc::clone(&peer.connections.shared.rules);
                    session.decide(number, decision, &rules, peer);
                });
                self.change(client, |_| {});
            }
            Command::Published(client, number, outcome) => {
                self.for_session(client, |session, peer| session.published(number, outcome, peer));
                self.change(client, |_| {});
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

    /// Changes what a connection wants to hear, and lets it look at its socket again.
    fn change(&self, client: ClientId, change: impl FnOnce(&mut Connection)) {
        if let Some((_, connection)) = self.connections.borrow_mut().find(client) {
            change(connection);
            connection.wake();
        }
    }

    fn for_connection(&self, client: ClientId, act: impl FnOnce(&mut Peer<'_>)) {
        let connections = &mut *self.connections.borrow_mut();
        if let Some((key, _)) = connections.find(client) {
            Peer::act(connections, key, act);
        }
    }

    /// Acts for a client that was upgraded and is not closed.
    fn for_client(&self, client: ClientId, act: impl FnOnce(&mut Peer<'_>)) {
        self.for_connection(client, |peer| {
            if peer.connection().is_some_and(|connection| connection.upgraded().is_some()) {
                act(peer);
            }
        });
    }

    /// Acts in the conversation of a client that was let in.
    fn for_session(&self, client: ClientId, act: impl FnOnce(&mut Session, &mut Peer<'_>)) {
        self.for_client(client, |peer| {
            if peer.connection().is_some_and(|connection| connection.is_open()) {
                peer.converse(act);
            }
        });
    }
}

/// What there is to do, and when, after a turn.
fn next(connections: &Connections, drain: Option<Moment>) -> Next {
    let flush = match connections.hub.due(connections.now()) {
        Due::Now => return Next::Again,
        Due::At(moment) => {
            connections.commands.defer_notifications();
            Some(moment)
        }
        Due::Rest(moment) => Some(moment),
        Due::Never => None,
    };
    let soonest = [flush, connections.next_deadline(), drain].into_iter().flatten().min();
    soonest.map_or(Next::Wait, Next::WaitUntil)
}

/// Tells a client what the application has written. Line breaks become spaces: between the tokens of JSON they mean nothing.
fn pass_on(peer: &mut Peer<'_>, text: &[u8]) {
    peer.reply(|out| push_line(text, out));
}

fn flush(connections: &mut Connections) {
    if connections.is_due() {
        let (now, time) = (connections.now(), connections.timestamp());
        let Connections { hub, sockets, .. } = &mut *connections;
        let written = catch_unwind(AssertUnwindSafe(|| hub.flush(now, time, sockets)));
        Peer::end_unserved(connections, written);
    }
}

fn look_at_deadlines(connections: &mut Connections) {
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
    let listening = connection.listens() && shared.inbox.has_room();
    match connection.deadlines.check(now, listening, &shared.timeouts) {
        Verdict::Wait(_) => {}
        Verdict::Ping => peer.ping(),
        Verdict::Late => late(peer),
        Verdict::Close(reason) => peer.close(reason),
        Verdict::Drop if connection.route().is_some_and(|route| route.ending.is_some()) => {
            peer.close(CloseReason::ClosedInTurn);
        }
        Verdict::Drop => peer.finish(&CloseReason::NotClosing),
    }
    peer.connections.schedule(peer.key);
}

fn late(peer: &mut Peer<'_>) {
    let Some(connection) = peer.live() else { return };
    match &connection.phase {
        Phase::Head(head) if !head.buffer.is_empty() => {
            peer.connections.counters.refused.add(1);
            peer.say_last(&HttpError::TIMEOUT.to_response(), &CloseReason::Response);
        }
        Phase::Deciding(_) => peer.close(CloseReason::NotDecided),
        Phase::Head(_) | Phase::Open(_) | Phase::Closing { .. } => peer.finish(&CloseReason::Silent),
    }
}

/// Ends a connection for the sake of others, unless it no longer holds the share of this number.
fn evict(peer: &mut Peer<'_>, number: u64) {
    let Some(connection) = peer.connection() else { return };
    let unread = connection.outbox.as_ref().and_then(|outbox| outbox.share.as_ref());
    if unread.is_some_and(|share| share.number() == number) {
        peer.finish(&CloseReason::UnreadTooLong);
    } else if connection.share.as_ref().is_some_and(|share| share.number() == number) {
        peer.close(CloseReason::HeldTooLong);
    }
}

#[cfg(test)]
mod tests;
