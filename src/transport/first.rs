//! The first message of a client that says who it is: `authenticate` or `resume`.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::close::CloseReason;
use crate::config::ResumeSetting;
use crate::error_code::ErrorCode;
use crate::protocol::message::{Id, Kind, Resume, parse};
use crate::session::{Claim, Proof, Session, Verdict};
use crate::transport::admission::{Introduction, greet, has_room, has_room_to_return, introduce, let_in};
use crate::transport::client_id::ClientId;
use crate::transport::commands::Command;
use crate::transport::connection::{Connection, Endpoint};
use crate::transport::events::Event;
use crate::transport::opener::{First, Opener, Returning};
use crate::transport::parcel::Parcel;
use crate::transport::peer::Peer;
use crate::transport::sessions::{found_at, judge, take_session};

/// Reads the first message. It is acted on by [`go_on`].
pub(crate) fn receive(peer: &mut Peer<'_>, text: &str) {
    let message = match parse(text) {
        Ok(message) => message,
        Err(error) => return refuse(peer, error.code(), &error.to_string(), error.id()),
    };
    let shared = &peer.connections.shared;
    let (token, returning) = match message.kind {
        Kind::Authenticate { token } => (token, None),
        Kind::Resume(resume)
            if resume.positions.len() > shared.config.max_subscriptions.saturating_add(1) =>
        {
            let text = "\"positions\" names more channels than a session may have (max_subscriptions)";
            return refuse(peer, ErrorCode::BadMessage, text, message.id);
        }
        Kind::Resume(Resume { session, attempt, positions, token }) => {
            let session = shared.session_of(&session);
            let wanted = positions.into_iter().map(|(channel, start)| (channel.into(), start)).collect();
            (token, Some(Returning { session, attempt, wanted }))
        }
        _ => {
            let text = "the first message must be of type authenticate or resume";
            return refuse(peer, ErrorCode::BadMessage, text, message.id);
        }
    };
    let first = First { token: token.map(Into::into), returning, bytes: text.len() };
    if let Some(opener) = peer.live().and_then(Connection::opener) {
        opener.said = Some(first);
    }
}

fn refuse(peer: &mut Peer<'_>, code: ErrorCode, text: &str, id: Option<Id<'_>>) {
    Session::default().refuse(code, text, id, peer);
    peer.close(CloseReason::NoFirst);
}

/// Acts on the first message. Returns `false` while the application has no room for a new client.
pub(crate) fn go_on(peer: &mut Peer<'_>) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(opener) = peer.connection().and_then(Connection::opener) else { return true };
    let Some(First { token, returning, .. }) = &opener.said else { return true };
    let credential = token.as_deref().filter(|_| shared.config.authenticate);
    let credential = credential.map(|token| shared.hasher.hash_one(token));
    let claimed = returning.as_ref().and_then(|it| Some((it.session?, it.attempt)));
    let mut other_credential = false;
    if let Some(((client, secret), attempt)) = claimed {
        // A shard that stops has no sessions, and may have ended.
        if client.shard() != peer.connections.index && !shared.is_draining() {
            hand_over(peer, client);
            return true;
        }
        if !has_room_to_return(&shared) {
            peer.connections.wait_for_room(peer.key);
            return false;
        }
        let asks = shared.config.resume == ResumeSetting::Authenticate;
        let proof = if asks { Proof::None } else { Proof::Credential(credential) };
        let claim = Claim { secret, attempt, proof };
        match judge(peer.connections, client, &claim) {
            Verdict::Accepted => {
                come_back(peer, client);
                return true;
            }
            Verdict::Outdated => {
                peer.close(CloseReason::Superseded);
                return true;
            }
            Verdict::Unproven => other_credential = true,
            Verdict::Unknown | Verdict::OtherSubject => {}
        }
    }
    if !has_room(&shared) {
        peer.connections.wait_for_room(peer.key);
        return false;
    }
    let Some(opener) = peer.connection().and_then(Connection::opener) else { return true };
    let Some(request) = opener.request.take() else { return true };
    opener.other_credential = other_credential;
    let token = opener.said.as_ref().and_then(|first| first.token.clone());
    introduce(peer, Introduction { request, route: None, params: Vec::new(), token, other_credential });
    if !shared.config.authenticate {
        admitted(peer, "", None);
    }
    peer.flush_replies();
    true
}

/// Goes on with a client that the application lets in: it gets its session if that is of the same subject, and otherwise a new one.
pub(crate) fn admitted(peer: &mut Peer<'_>, subject: &str, expires: Option<u64>) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection() else { return };
    let newcomer = connection.id;
    let Some(First { token, returning, .. }) = connection.opener().and_then(|opener| opener.said.as_ref())
    else {
        return;
    };
    let credential = token.as_deref().map(|token| shared.hasher.hash_one(token));
    let claimed = returning.as_ref().and_then(|it| Some((it.session?, it.attempt)));
    let mut verdict = Verdict::Unknown;
    if let Some(((client, secret), attempt)) = claimed.filter(|_| shared.config.authenticate) {
        let claim = Claim { secret, attempt, proof: Proof::Identity { subject, credential, expires } };
        verdict = judge(peer.connections, client, &claim);
        match verdict {
            Verdict::Accepted => {
                shared.clients().remove(&newcomer);
                shared.inbox.push(Event::Merged { client: newcomer, into: client });
                return come_back(peer, client);
            }
            Verdict::Outdated => return peer.close(CloseReason::Superseded),
            Verdict::Unknown | Verdict::Unproven | Verdict::OtherSubject => {}
        }
    }
    let Some(upgraded) = peer.connection().and_then(Connection::upgraded_mut) else { return };
    let session = Session::resumable(shared.new_secret(), credential);
    let Endpoint::First(opener) = std::mem::replace(&mut upgraded.endpoint, Endpoint::Umbel(session)) else {
        return;
    };
    if opener.other_credential {
        shared.inbox.push(Event::Begun { client: newcomer });
    }
    let reason = if verdict == Verdict::OtherSubject { "subject" } else { "unknown" };
    let lost = opener.said.and_then(|first| first.returning).map(|returning| (reason, returning.wanted));
    greet(peer, subject, expires, lost);
}

/// Gives a session to this connection.
fn come_back(peer: &mut Peer<'_>, client: ClientId) {
    let Some(kept) = take_session(peer.connections, client) else { return };
    let (key, shared) = (peer.key, Arc::clone(&peer.connections.shared));
    let Some(connection) = peer.connection() else { return };
    let Some(upgraded) = connection.upgraded_mut() else { return };
    let session = Endpoint::Umbel(kept.session);
    let Endpoint::First(opener) = std::mem::replace(&mut upgraded.endpoint, session) else { return };
    let may_ask = kept.pending.as_ref().is_none_or(|pending| pending.has_room());
    let client_id = shared.public_id(client);
    shared.trace_client(client, || format!("came back from {}", connection.io.peer()));
    let Opener { request, said, .. } = *opener;
    let Some(First { token, returning, .. }) = said else { return };
    // Otherwise the application has the request already.
    if let Some(request) = request.filter(|_| kept.known) {
        let introduction =
            Introduction { request, route: None, params: Vec::new(), token, other_credential: false };
        let opening = introduction.opening(connection, client_id.clone());
        shared.inbox.push(Event::Back { client, opening });
    }
    (connection.id, connection.known, connection.pending) = (client, kept.known, kept.pending);
    found_at(peer.connections, client, key);
    let_in(peer, kept.paused);
    let wanted = returning.map(|returning| returning.wanted).unwrap_or_default();
    peer.converse(|session, peer| {
        session.come_back(&client_id, &shared.terms, wanted, may_ask, &shared.rules, peer);
    });
    peer.connections.schedule(key);
}

/// Moves the connection to the shard that has the session.
fn hand_over(peer: &mut Peer<'_>, client: ClientId) {
    let shared = Arc::clone(&peer.connections.shared);
    let (key, home) = (peer.key, client.shard());
    let Some(parcel) = peer.connections.release(key).and_then(Parcel::of) else { return };
    shared.loads[home].fetch_add(1, Ordering::Relaxed);
    if let Some(commands) = shared.commands.get(home) {
        commands.push(Command::HandedOver(Box::new(parcel)));
    }
}
