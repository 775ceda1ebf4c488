//! Carries out what other threads ask for one client.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::RoomFor;
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::protocol::message::Id;
use crate::session::{Session, begin_stream};
use crate::transport::admission::{admit, close_for_application};
use crate::transport::calls;
use crate::transport::client_id::ClientId;
use crate::transport::commands::{ClientCommand, Command};
use crate::transport::connection::Connection;
use crate::transport::connections::Connections;
use crate::transport::event_stream;
use crate::transport::events::Event;
use crate::transport::first;
use crate::transport::peer::Peer;
use crate::transport::sessions;
use crate::transport::websocket::{REPLIES_AT_ONCE, send_route};

/// Carries out a command for a client, and those for the same client that come next. What they say is sent at once: to send
/// each answer by itself would be most of what it costs.
pub(crate) fn carry_out(
    connections: &mut Connections,
    client: ClientId,
    first: ClientCommand,
    following: &mut VecDeque<Command>,
) {
    let Some((key, _)) = connections.find(client) else { return carry_out_away(connections, client, first) };
    // One by one, so that a panic takes no command with it that is not carried out yet.
    let mut next = Some(first);
    Peer::act(connections, key, |peer| {
        while let Some(command) = next.take() {
            if peer.connection().is_none_or(|connection| connection.id != client) {
                carry_out_away(peer.connections, client, command);
            } else {
                carry_out_one(peer, client, command);
            }
            if peer.replies.len() >= REPLIES_AT_ONCE {
                peer.flush_replies();
            }
            next = take_for(client, following);
        }
    });
}

/// Takes the next command if it is for this client.
fn take_for(client: ClientId, commands: &mut VecDeque<Command>) -> Option<ClientCommand> {
    match commands.pop_front_if(|next| matches!(next, Command::Client(next, _) if *next == client)) {
        Some(Command::Client(_, command)) => Some(command),
        _ => None,
    }
}

/// Carries out a command for a client that has no connection.
fn carry_out_away(connections: &mut Connections, client: ClientId, command: ClientCommand) {
    match command {
        command if connections.away.has(client) => sessions::carry_out(connections, client, command),
        ClientCommand::Subscribe { number: Some(number), .. } => {
            connections.shared.inbox.push(Event::Subscribed { number, subscribed: false });
        }
        ClientCommand::WhenRoom(number) => connections.shared.inbox.push(Event::Room { number }),
        _ => {}
    }
}

fn carry_out_one(peer: &mut Peer<'_>, client: ClientId, command: ClientCommand) {
    match command {
        ClientCommand::Admit(mut identity, claims) => for_client(peer, |peer| {
            if let Some(validity) = &mut Arc::make_mut(&mut identity).validity {
                validity.begin(peer.connections.shared.clock.unix_millis());
            }
            if peer.connection().and_then(Connection::opener).is_some() {
                first::admitted(peer, &identity);
            } else if peer.connection().and_then(Connection::caller).is_some() {
                calls::admitted(peer, &identity, claims);
            } else if peer.connection().is_some_and(|connection| connection.asked().is_some()) {
                event_stream::admitted(peer, &identity);
            } else {
                admit(peer, &identity);
            }
        }),
        ClientCommand::Answer(answer, id) => for_session(peer, |session, peer| {
            session.answer(&answer, id.as_deref().and_then(Id::from_json), peer);
        }),
        ClientCommand::SendRoute(is_text, data) => for_client(peer, |peer| send_route(peer, is_text, &data)),
        ClientCommand::Close(code, text) => for_client(peer, |peer| close_for_application(peer, code, text)),
        ClientCommand::End(reason) => peer.close(reason),
        ClientCommand::GiveWay => peer.connections.shared.inbox.push(Event::Stays { client }),
        ClientCommand::Evict(share) => evict(peer, share),
        ClientCommand::ForgetAnswers(share) => {
            if peer.live().is_some_and(|connection| connection.remembers_by(share)) {
                peer.converse(|session, _| session.forget_answers());
            }
        }
        ClientCommand::Subscribe { channel, from, request, number } => {
            let mut subscribed = false;
            for_session(peer, |session, peer| {
                let id = request.as_deref().and_then(Id::from_json);
                let rules = Arc::clone(&peer.connections.shared.rules);
                subscribed = session.subscribe_for_application(&channel, from, id, &rules, peer);
            });
            if let Some(number) = number {
                peer.connections.shared.inbox.push(Event::Subscribed { number, subscribed });
            }
        }
        ClientCommand::Unsubscribe(channel, reason) => for_session(peer, |session, peer| {
            let rules = Arc::clone(&peer.connections.shared.rules);
            session.unsubscribe_for_application(&channel, &reason, &rules, peer);
        }),
        ClientCommand::WhenRoom(number) => {
            let shared = &peer.connections.shared;
            let channel = ChannelName::private(&shared.public_id(client));
            if shared.tell_room(&channel, RoomFor::Everybody, number) {
                shared.inbox.push(Event::Room { number });
            }
        }
        ClientCommand::Decide(number, decision) => {
            for_session(peer, |session, peer| {
                let rules = Arc::clone(&peer.connections.shared.rules);
                session.decide(number, decision, &rules, peer);
            });
            listen_again(peer, |_| {});
        }
        ClientCommand::Published(number, outcome) => {
            for_session(peer, |session, peer| session.published(number, outcome, peer));
            listen_again(peer, |_| {});
        }
        ClientCommand::BeginReading => {
            for_session(peer, |session, peer| {
                let rules = Arc::clone(&peer.connections.shared.rules);
                begin_stream(session, &rules, peer);
            });
            listen_again(peer, |connection| connection.paused = false);
        }
        ClientCommand::ReadAgain => listen_again(peer, |_| {}),
    }
}

/// Changes what a connection wants to hear, and lets it look at its socket again.
fn listen_again(peer: &mut Peer<'_>, change: impl FnOnce(&mut Connection)) {
    if let Some(connection) = peer.connection() {
        change(connection);
        connection.wake();
    }
}

/// Acts for a client that was upgraded and is not closed.
fn for_client(peer: &mut Peer<'_>, act: impl FnOnce(&mut Peer<'_>)) {
    let speaks =
        |connection: &mut Connection| connection.upgraded().is_some() || connection.caller().is_some();
    if peer.connection().is_some_and(speaks) {
        act(peer);
    }
}

/// Acts in the conversation of a client that was let in.
fn for_session(peer: &mut Peer<'_>, act: impl FnOnce(&mut Session, &mut Peer<'_>)) {
    let listens = |peer: &mut Peer<'_>| {
        let now = peer.now();
        peer.connection().and_then(Connection::session).is_some_and(|session| session.listens(now))
    };
    if peer.connection().is_some_and(|connection| connection.is_open() || connection.caller().is_some()) {
        let did_listen = listens(peer);
        peer.converse(act);
        if !did_listen && listens(peer) {
            listen_again(peer, |_| {});
        }
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
mod tests {
    use std::cell::RefCell;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::close::CloseCode;
    use crate::moment::Moment;
    use crate::session::{Answer, Decision};
    use crate::transport::tests::{arrived, connect, with_settings, with_shard};

    fn perform(cell: &RefCell<Connections>, client: ClientId, command: ClientCommand) {
        carry_out(&mut cell.borrow_mut(), client, command, &mut VecDeque::new());
    }

    fn result(number: u32) -> ClientCommand {
        let (message_type, data) = ("ask".into(), Bytes::from(number.to_string()));
        ClientCommand::Answer(Answer::Result { message_type, data }, Some(number.to_string()))
    }

    #[test]
    fn commands_in_a_row_are_carried_out_together_and_in_order() {
        with_shard(|cell| {
            let [(key, client), (other_key, other)] = [(); 2].map(|()| connect(cell));
            let [id, other_id] =
                [key, other_key].map(|key| cell.borrow_mut().get(key).expect("it is open").id);
            let close = ClientCommand::Close(CloseCode::NORMAL, String::new());
            let mut following: VecDeque<_> =
                [(id, result(2)), (id, result(3)), (other_id, result(4)), (id, close)]
                    .map(|(client, command)| Command::Client(client, command))
                    .into();
            carry_out(&mut cell.borrow_mut(), id, result(1), &mut following);
            let heard = String::from_utf8_lossy(&arrived(&client)).into_owned();
            let answers: Vec<_> =
                (1..4).filter_map(|number| heard.find(&format!("\"data\":{number}"))).collect();
            assert!(answers.len() == 3 && answers.is_sorted());
            assert_eq!(arrived(&other), b"", "its turn comes next");
            assert_eq!(following.len(), 2);
        });
    }

    #[test]
    fn what_follows_a_close_is_not_said() {
        with_shard(|cell| {
            let (key, client) = connect(cell);
            let id = cell.borrow_mut().get(key).expect("it is open").id;
            let mut following = VecDeque::from([Command::Client(id, result(1))]);
            let close = ClientCommand::Close(CloseCode::NORMAL, String::new());
            carry_out(&mut cell.borrow_mut(), id, close, &mut following);
            assert_eq!(arrived(&client), [0x88, 2, 3, 232]);
            assert!(following.is_empty());
        });
    }

    #[test]
    fn a_client_is_not_to_blame_for_the_channels_that_the_application_gives_it() {
        with_settings(&json!({"max_subscriptions": 1}), |cell| {
            let (key, client) = connect(cell);
            let id = cell.borrow_mut().get(key).expect("it is open").id;
            for number in 0..30 {
                let channel = ChannelName::new(&format!("c{number}")).expect("legal");
                let from = cell.borrow().shared.broker.promise(&channel, Moment::default());
                perform(cell, id, ClientCommand::Subscribe { channel, from, request: None, number: None });
            }
            let mut shard = cell.borrow_mut();
            let heard = String::from_utf8_lossy(&arrived(&client)).into_owned();
            assert_eq!(heard.matches("subscription_established").count(), 1);
            assert_eq!(heard.matches("limit_exceeded").count(), 29);
            assert!(shard.live(key).is_some());
        });
    }

    #[test]
    fn a_client_that_is_not_let_in_is_told_only_why_it_is_closed() {
        with_settings(&json!({"authenticate": true}), |cell| {
            let (key, client) = connect(cell);
            let id = cell.borrow_mut().get(key).expect("it waits").id;
            let channel = ChannelName::new("a").expect("legal");
            let other = channel.clone();
            let from = cell.borrow().shared.broker.promise(&channel, Moment::default());
            for command in [
                result(1),
                ClientCommand::Subscribe { channel, from, request: None, number: None },
                ClientCommand::Unsubscribe(other, "moved".into()),
                ClientCommand::Decide(1, Decision::Allow),
                ClientCommand::SendRoute(true, Bytes::from_static(b"{}")),
            ] {
                perform(cell, id, command);
                assert_eq!(arrived(&client), b"");
            }
            perform(cell, id, ClientCommand::Close(CloseCode::UNAUTHENTICATED, "no token".into()));
            let heard = arrived(&client);
            let close = [&[0x88, 10][..], &4401_u16.to_be_bytes(), b"no token"].concat();
            let error = heard.strip_suffix(&*close).expect("the close frame comes last");
            assert!(String::from_utf8_lossy(error).contains(r#""code":"unauthenticated""#));
            assert_eq!(cell.borrow().counters.refused.load(), 1);
            perform(cell, id, ClientCommand::Admit(Arc::default(), None));
            assert_eq!(arrived(&client), b"", "it is too late");
        });
    }

    #[test]
    fn a_client_that_is_let_in_is_greeted_once() {
        with_settings(&json!({"authenticate": true}), |cell| {
            let (key, client) = connect(cell);
            let id = cell.borrow_mut().get(key).expect("it waits").id;
            perform(cell, id, ClientCommand::Admit(Arc::default(), None));
            assert!(String::from_utf8_lossy(&arrived(&client)).contains("connection_established"));
            perform(cell, id, ClientCommand::Admit(Arc::default(), None));
            assert_eq!(arrived(&client), b"");
        });
    }
}
