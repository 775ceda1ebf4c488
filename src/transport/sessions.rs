//! What becomes of a session when its connection ends, and when its client comes back.

use std::sync::Arc;

use crate::channel::ChannelName;
use crate::close::{CloseCode, CloseReason};
use crate::hub::ReaderKey;
use crate::moment::Moment;
use crate::position::{Position, Start, Subscribed};
use crate::printable::Printable;
use crate::protocol::message::{Id, PresenceChange, Timestamp};
use crate::publication::Content;
use crate::session::{Carrier, Claim, FoundEntry, Question, Unpublished, Unseen, Verdict, forget_renewal};
use crate::ticket::End;
use crate::transport::away::Kept;
use crate::transport::client_id::ClientId;
use crate::transport::commands::ClientCommand;
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::credit::held_by;
use crate::transport::events::Event;
use crate::transport::members;
use crate::transport::peer::Peer;
use crate::transport::pending::Pending;
use crate::transport::phase::{Endpoint, Phase, Upgraded, excess_of};
use crate::transport::publishing::{append, find_entry};

/// Drops a connection.
pub(crate) fn finish(connections: &mut Connections, key: ReaderKey, reason: &CloseReason) {
    if let Some(excess) = connections.get(key).and_then(|connection| excess_of(&mut connection.phase)) {
        // First, or another shard sees one connection fewer, this place still taken, and lets a newcomer in.
        *excess = None;
    }
    let Some(mut connection) = connections.release(key) else { return };
    connections.hub.leave(key);
    connection.wake();
    if connection.is_live() {
        // What the client has said itself counts, however its connection ends after that.
        let ending = connection.upgraded().and_then(Upgraded::ending).cloned();
        let closing = Phase::Closing { ended: true, reply: None };
        let mut phase = std::mem::replace(&mut connection.phase, closing);
        let leaving = Leaving::of(&mut connection, &phase);
        ended(connections, leaving, &mut phase, ending.as_ref().unwrap_or(reason));
    }
}

/// A connection ends, which was in some phase until now. It is counted. If its client may come back, its session is kept.
pub(crate) fn ended(
    connections: &mut Connections,
    leaving: Leaving,
    phase: &mut Phase,
    reason: &CloseReason,
) {
    let Leaving { client, mut pending, known, paused, from } = leaving;
    connections.counters.closed.add(reason.index(), 1);
    settle(connections, client);
    if let Phase::Open(Upgraded { endpoint: Endpoint::Umbel(session), .. }) = phase
        && session.lasts
        && session.lives(connections.shared.config.session_lifetime, connections.now())
        // A session that was lent is lost with a panic.
        && (*reason != CloseReason::Panic || session.owner().is_some())
        && !reason.ends_session()
        && !connections.shared.is_draining()
    {
        let (mut session, since) = (std::mem::take(session), connections.now());
        forget_renewal(&mut session);
        pending.iter_mut().for_each(|pending| pending.seat.leave());
        let kept = Kept { session, pending, known, paused, since, reason: reason.clone() };
        return go_away(connections, client, kept);
    }
    if matches!(phase, Phase::Deciding(_)) {
        // Before its end is that of a stream.
        connections.shared.tickets.ended(client.0, End::NotBegun, || connections.shared.clock.unix_millis());
    }
    if let Some(from) = from.filter(|_| *reason != CloseReason::Response) {
        connections.refuse_connection(|| from, reason);
    }
    end_session(connections, client, known, reason);
}

/// A client is gone for ever: it is forgotten, and the application is told where it knew the client.
pub(crate) fn end_session(
    connections: &mut Connections,
    client: ClientId,
    known: bool,
    reason: &CloseReason,
) {
    members::end(&connections.shared, client);
    connections.away.left(client);
    let end = if reason.code().is_none_or(CloseCode::comes_back) { End::ForNow } else { End::ForGood };
    connections.shared.tickets.ended(client.0, end, || connections.shared.clock.unix_millis());
    let known_client = connections.shared.clients().remove(&client);
    if known_client.as_ref().is_some_and(|known| known.has_private) {
        connections.shared.forget_private(client);
    }
    if let Some(known) = known_client {
        connections.shared.trace_connection(client, known.connection, || {
            format!("closed with {}: {}", reason.number(), Printable(reason.text()))
        });
    }
    if known {
        let (code, reason) = (reason.number(), reason.text().to_owned());
        connections.shared.inbox.push(Event::Closed { client, code, reason });
    }
}

/// What is left of a connection that ends.
pub(crate) struct Leaving {
    client: ClientId,
    pending: Option<Box<Pending>>,
    known: bool,
    paused: bool,
    /// Where it came from, when it was not let in.
    from: Option<String>,
}

impl Leaving {
    /// Takes it out of a connection that was in this phase.
    pub fn of(connection: &mut Connection, phase: &Phase) -> Self {
        Self {
            client: connection.id,
            pending: connection.pending.take(),
            known: std::mem::take(&mut connection.known),
            paused: connection.paused,
            from: is_newcomer(phase).then(|| connection.peer()),
        }
    }
}

/// Whether nobody was let in on a connection in this phase.
fn is_newcomer(phase: &Phase) -> bool {
    match phase {
        Phase::Head(_) | Phase::Deciding(_) => true,
        Phase::Calls(caller) => !caller.is_in(),
        Phase::Open(_) | Phase::Closing { .. } => false,
    }
}

/// Judges a claim to the session of a client.
pub(crate) fn judge(connections: &mut Connections, client: ClientId, claim: &Claim<'_>) -> Verdict {
    let (now, today) = (connections.now(), connections.shared.clock.unix_millis());
    let lifetime = connections.shared.config.session_lifetime;
    let session = match connections.away.get(client) {
        Some(kept) => Some(&mut kept.session),
        None => {
            let open = connections.find(client).filter(|(_, connection)| connection.is_open());
            open.and_then(|(_, connection)| connection.session())
        }
    };
    session.map_or(Verdict::Unknown, |session| session.judge(claim, lifetime, now, today))
}

/// Takes a session from where it is. If it has a connection, that one is closed; what it said and was not acted on does not count.
pub(crate) fn take_session(connections: &mut Connections, client: ClientId) -> Option<Kept> {
    if let Some(kept) = connections.away.remove(client) {
        return Some(kept);
    }
    let now = connections.now();
    let (key, connection) = connections.find(client)?;
    let mut session = std::mem::take(connection.session()?);
    forget_renewal(&mut session);
    let kept = Kept {
        session,
        pending: connection.pending.take(),
        known: std::mem::take(&mut connection.known),
        paused: connection.paused,
        since: now,
        reason: CloseReason::Superseded,
    };
    connections.disown(key);
    members::cut(&connections.shared, client);
    connections.away.left(client);
    settle(connections, client);
    Peer::act(connections, key, |peer| peer.close(CloseReason::Superseded));
    Some(kept)
}

/// A session wants to hear more, or has lost its stream: the requests that wait for either go on.
pub(crate) fn settle(connections: &mut Connections, client: ClientId) {
    for (key, _) in connections.lists.take(client) {
        connections.get(key).into_iter().for_each(|connection| connection.wake());
    }
}

/// A client is in this slot from now on.
pub(crate) fn found_at(connections: &mut Connections, client: ClientId, key: ReaderKey) {
    if client.slot() != key {
        connections.away.at(client, key);
    }
}

/// A session loses its connection, and waits for its client.
pub(crate) fn go_away(connections: &mut Connections, client: ClientId, kept: Kept) {
    let end = kept.since + connections.shared.config.session_ttl;
    let reason = &kept.reason;
    connections.shared.trace_client(client, || {
        format!("away, closed with {}: {}", reason.number(), Printable(reason.text()))
    });
    if kept.known {
        let (code, reason) = (reason.number(), reason.text().to_owned());
        connections.shared.inbox.push(Event::Away { client, code, reason });
    }
    members::cut(&connections.shared, client);
    connections.away.left(client);
    connections.away.add(client, kept);
    connections.wake_at(end);
    let most = connections.shared.config.max_away.unwrap_or(connections.shared.config.max_connections);
    // Each shard has its part, so that it can choose among all of its own.
    if connections.away.len() > most.div_ceil(connections.shared.commands.len())
        && let Some(other) = connections.away.first_to_go()
        && let Some(kept) = connections.away.remove(other)
    {
        connections
            .shared
            .trace_client(other, || "gives way: too many sessions are away (max_away)".to_owned());
        end_session(connections, other, kept.known, &kept.reason);
    }
}

/// Carries out a command for a client that is away.
pub(crate) fn carry_out(connections: &mut Connections, client: ClientId, command: ClientCommand) {
    let Some(mut kept) = connections.away.remove(client) else { return };
    let pending = kept.pending.take();
    let channels = kept.session.subscriptions().cloned().collect();
    let mut carrier = Absent { connections, client, pending, channels, ended: None };
    let session = &mut kept.session;
    match command {
        ClientCommand::Answer(answer, id) => {
            session.answer(&answer, id.as_deref().and_then(Id::from_json), &mut carrier);
        }
        ClientCommand::Close(code, text) => carrier.ended = Some(CloseReason::Application { code, text }),
        ClientCommand::GiveWay => {
            let shared = &carrier.connections.shared;
            shared.trace_client(client, || "gives way: another client of its identity has come".to_owned());
            carrier.ended = Some(kept.reason.clone());
        }
        ClientCommand::Subscribe { channel, from, request, number } => {
            let id = request.as_deref().and_then(Id::from_json);
            let rules = Arc::clone(&carrier.connections.shared.rules);
            let subscribed = session.subscribe_for_application(&channel, from, id, &rules, &mut carrier);
            if let Some(number) = number {
                carrier.connections.shared.inbox.push(Event::Subscribed { number, subscribed });
            }
        }
        ClientCommand::Unsubscribe(channel, reason) => {
            let rules = Arc::clone(&carrier.connections.shared.rules);
            session.unsubscribe_for_application(&channel, &reason, &rules, &mut carrier);
        }
        ClientCommand::WhenRoom(number) => {
            // Nothing waits for its socket.
            carrier.connections.shared.inbox.push(Event::Room { number });
        }
        ClientCommand::Decide(number, decision) => {
            let rules = Arc::clone(&carrier.connections.shared.rules);
            session.decide(number, decision, &rules, &mut carrier);
        }
        ClientCommand::Published(number, outcome) => session.published(number, outcome, &mut carrier),
        ClientCommand::ForgetAnswers(share) => {
            if carrier.pending.as_ref().is_some_and(|pending| pending.remembers_by(share)) {
                session.forget_answers();
            }
        }
        ClientCommand::BeginReading => kept.paused = false,
        ClientCommand::Admit(..)
        | ClientCommand::End(_)
        | ClientCommand::SendRoute(..)
        | ClientCommand::Evict(_)
        | ClientCommand::ReadAgain => {}
    }
    let Absent { pending, ended, .. } = carrier;
    kept.pending = pending;
    let (waiting, remembered) = kept.session.kept_bytes();
    if waiting > 0 || remembered > 0 || kept.pending.is_some() {
        let Connections { shared, commands, .. } = &*connections;
        let pending = kept.pending.get_or_insert_with(|| Pending::of_session(client, shared, commands));
        pending.hold_requests(waiting, &shared.budget);
        if pending.hold_answers(remembered, client, &shared.budget) {
            connections.forget_oldest_answers();
        }
    }
    match ended {
        Some(reason) => end_session(connections, client, kept.known, &reason),
        None => connections.away.add(client, kept),
    }
}

/// Carries a session whose client is away: what is said to it leads nowhere, what is done for it is done.
struct Absent<'a> {
    connections: &'a mut Connections,
    client: ClientId,
    pending: Option<Box<Pending>>,
    /// What the session is subscribed to.
    channels: Vec<ChannelName>,
    ended: Option<CloseReason>,
}

impl Carrier for Absent<'_> {
    fn now(&self) -> Moment {
        self.connections.now()
    }

    fn timestamp(&self) -> Timestamp {
        self.connections.timestamp()
    }

    fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // The session may remember it.
        write(&mut Vec::new());
    }

    fn catch_up(&mut self) {}

    fn subscribe(&mut self, channel: &ChannelName, start: Start) -> Subscribed {
        let most = self.connections.shared.config.max_subscriptions;
        let has_it = self.channels.contains(channel);
        if !has_it && !channel.is_private() && self.channels.len() >= most {
            return Subscribed::TooMany { most };
        }
        // It is seated when it comes back.
        let position = match start {
            Start::After(position) | Start::Promised(position) => position,
            Start::Newcomer | Start::Foreign | Start::Unknown => {
                self.connections.shared.broker.promise(channel, self.now())
            }
        };
        let top = position.offset;
        if has_it {
            return Subscribed::Existing { position, top, is_state: false };
        }
        self.channels.push(channel.clone());
        Subscribed::From { position, top, recovered: None, is_state: false }
    }

    fn restart(&mut self, _channel: &str, _start: Start) -> Option<Subscribed> {
        None
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.left(channel);
        true
    }

    fn left(&mut self, channel: &str) {
        members::leave(&self.connections.shared, self.client, channel);
    }

    fn reads(&self, channel: &str) -> bool {
        self.channels.iter().any(|other| other.as_str() == channel)
    }

    fn present(&mut self, channel: &ChannelName, change: &PresenceChange) -> Result<(), Unseen> {
        members::change(&self.connections.shared, self.client, channel, change)
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        content: Content<'_>,
        number: u64,
    ) -> Option<Result<Position, Unpublished>> {
        append(self.connections, self.client, channel, content, number)
    }

    fn entry(&mut self, channel: &ChannelName, key: &str, base: Option<Position>) -> FoundEntry {
        // Nobody hears of it: it is read again when the client asks again.
        find_entry(self.connections, channel, key, base, false)
    }

    fn ask(&mut self, question: Question) {
        let Connections { shared, commands, .. } = &*self.connections;
        let pending = self.pending.get_or_insert_with(|| Pending::of_session(self.client, shared, commands));
        let credit = pending.credit(held_by(&question));
        self.connections.tell(Event::Question { client: self.client, question, credit });
    }

    fn close(&mut self, reason: CloseReason) {
        self.ended = Some(reason);
    }
}
