//! The first message of a client that says who it is: `authenticate` or `resume`.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use crate::close::{CloseCode, CloseReason};
use crate::config::ResumeSetting;
use crate::error_code::ErrorCode;
use crate::identity::Identity;
use crate::jwt::{Needs, Verified};
use crate::protocol::http::Request;
use crate::protocol::message::{Id, Kind, Resume, parse};
use crate::session::{Claim, Proof, Secret, Session, Verdict};
use crate::token_error::TokenError;
use crate::transport::admission::{
    Introduction, greet, has_room, has_room_to_return, introduce, let_in, refuse_seat, refuse_token,
};
use crate::transport::client_id::ClientId;
use crate::transport::connection::Connection;
use crate::transport::credentials::{Place, needs, verify};
use crate::transport::events::Event;
use crate::transport::opener::{First, Opener, Returning};
use crate::transport::parcel::hand_over;
use crate::transport::parts;
use crate::transport::peer::Peer;
use crate::transport::phase::Endpoint;
use crate::transport::renewal::look_at_credentials;
use crate::transport::session_stream::{self, refuse_attempt};
use crate::transport::sessions::{found_at, judge, take_session};
use crate::transport::shared::Shared;

/// Reads the first message. It is acted on by [`go_on`].
pub(crate) fn receive(peer: &mut Peer<'_>, text: &str) {
    let message = match parse(text) {
        Ok(message) => message,
        Err(error) => return refuse(peer, error.code(), &error.to_string(), error.id()),
    };
    let shared = &peer.connections.shared;
    let (token, part, returning) = match message.kind {
        Kind::Authenticate { part: Some(2..), .. } => {
            let text = "only a session that is there goes on with a later part";
            return refuse(peer, ErrorCode::BadMessage, text, message.id);
        }
        Kind::Authenticate { token, part } => (token, part, None),
        Kind::Resume(resume)
            if resume.positions.len() > shared.config.max_subscriptions.saturating_add(1) =>
        {
            let text = "\"positions\" names more channels than a session may have (max_subscriptions)";
            return refuse(peer, ErrorCode::BadMessage, text, message.id);
        }
        Kind::Resume(Resume { session, attempt, positions, token, part }) => {
            let session = shared.session_of(&session);
            let wanted = positions.into_iter().map(|(channel, start)| (channel.into(), start)).collect();
            (token, part, Some(Returning { session, attempt, wanted }))
        }
        _ => {
            let text = "the first message must be of type authenticate or resume";
            return refuse(peer, ErrorCode::BadMessage, text, message.id);
        }
    };
    let first = First { token: token.map(Into::into), returning, part, bytes: text.len() };
    if let Some(opener) = peer.live().and_then(Connection::opener) {
        opener.stream.iter_mut().for_each(|stream| stream.in_parts = part.is_some());
        opener.said = Some(first);
    }
}

fn refuse(peer: &mut Peer<'_>, code: ErrorCode, text: &str, id: Option<Id<'_>>) {
    Session::default().refuse(code, text, id, peer);
    peer.close(CloseReason::NoFirst);
}

/// Acts on the first message, when it is the turn of its token. Returns `false` while the application has no room for a new client.
pub(crate) fn go_on(peer: &mut Peer<'_>) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(opener) = peer.connection().and_then(Connection::opener) else { return true };
    let claimed = claimed(opener);
    if let Some(((client, _), _)) = claimed {
        // A shard that stops has no sessions, and may have ended.
        if client.shard() != peer.connections.index && !shared.is_draining() {
            hand_over(peer, client);
            return true;
        }
    }
    if let Some(part) = later_part(peer) {
        match claimed {
            Some(((client, secret), attempt)) => parts::go_on(peer, client, secret, attempt, part),
            None => refuse_attempt(peer, None),
        }
        return true;
    }
    if is_beyond_limit(peer) {
        let text = "too many connections now".to_owned();
        peer.close(CloseReason::Application { code: CloseCode::TOO_MANY, text });
        return true;
    }
    if claimed.is_some() && !has_room_to_return(&shared) {
        peer.connections.wait_for_room(peer.key);
        return false;
    }
    if !may_judge(peer, Place::Shown) {
        return true;
    }
    let mut known = match verify_with(peer, Place::Shown) {
        Ok(verified) => verified,
        Err(error) => return refused(peer, error),
    };
    let (mut verdict, mut other_credential) = (Verdict::Unknown, false);
    if let Some(((client, secret), attempt)) = claimed {
        let proof = proof(peer, known.as_ref());
        verdict = judge(peer.connections, client, &Claim { secret, attempt, proof });
        if verdict == Verdict::Unproven {
            if !may_judge(peer, Place::Anywhere) {
                return true;
            }
            known = match verify_with(peer, Place::Anywhere) {
                Ok(verified) => verified,
                Err(error) => return refused(peer, error),
            };
            match &known {
                Some(Verified { identity, .. }) => {
                    let proof = Proof::Identity { identity, credential: None };
                    verdict = judge(peer.connections, client, &Claim { secret, attempt, proof });
                }
                None => other_credential = true,
            }
        }
        match verdict {
            Verdict::Accepted => {
                come_back(peer, client, known);
                return true;
            }
            Verdict::Outdated { accepted } => {
                refuse_attempt(peer, Some(accepted));
                return true;
            }
            Verdict::Unproven | Verdict::Unknown | Verdict::OtherSubject => {}
        }
    }
    if !has_room(&shared) {
        peer.connections.wait_for_room(peer.key);
        return false;
    }
    if known.is_none() && !may_judge(peer, Place::Anywhere) {
        return true;
    }
    let Some(opener) = peer.connection().and_then(Connection::opener) else { return true };
    let Some(request) = opener.request.take() else { return true };
    opener.other_credential = other_credential;
    let token = opener.said.as_ref().and_then(|first| first.token.clone());
    let introduction = Introduction { token, verified: known, other_credential, ..Introduction::of(request) };
    if let Some(identity) = introduce(peer, introduction) {
        begin(peer, &identity, None, verdict);
    }
    peer.flush_replies();
    true
}

/// Whether there is no place for its connection. A later part has the place of the one before.
fn is_beyond_limit(peer: &mut Peer<'_>) -> bool {
    let opener = peer.connection().and_then(Connection::opener);
    opener.and_then(|opener| opener.stream.as_ref()).is_some_and(|stream| stream.excess.is_some())
}

/// Which part of its stream a client wants, if that is not the first.
fn later_part(peer: &mut Peer<'_>) -> Option<u64> {
    let opener = peer.connection().and_then(Connection::opener)?;
    opener.stream.as_ref()?;
    opener.said.as_ref()?.part.filter(|part| *part > 1)
}

/// The session that a client wants to have again, and which attempt this is.
fn claimed(opener: &Opener) -> Option<((ClientId, Secret), u64)> {
    let returning = opener.said.as_ref()?.returning.as_ref()?;
    Some((returning.session?, returning.attempt))
}

/// Judges the token of a client. `None`: it shows none, or tokens are not verified here.
fn verify_with(peer: &mut Peer<'_>, place: Place) -> Result<Option<Verified>, TokenError> {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(verifier) = &shared.verifier else { return Ok(None) };
    let Some((request, said)) = shown(peer) else { return Ok(None) };
    verify(&shared, verifier, place, request, said)
}

/// Whether it is the turn of that. Otherwise the client waits for it.
fn may_judge(peer: &mut Peer<'_>, place: Place) -> bool {
    let shared = Arc::clone(&peer.connections.shared);
    let needs = shown(peer).map_or(Needs::Nothing, |(request, said)| needs(&shared, place, request, said));
    peer.connections.may_judge(peer.key, needs)
}

/// Where a client may show a token: its request, and what it has said.
fn shown<'a>(peer: &'a mut Peer<'_>) -> Option<(&'a Request, Option<&'a str>)> {
    let opener = peer.connection().and_then(Connection::opener)?;
    let said = opener.said.as_ref().and_then(|first| first.token.as_deref());
    Some((opener.request.as_ref()?, said))
}

fn refused(peer: &mut Peer<'_>, error: TokenError) -> bool {
    refuse_token(peer, error);
    true
}

/// What speaks for a client that wants its session, before the application is asked.
fn proof<'a>(peer: &mut Peer<'_>, known: Option<&'a Verified>) -> Proof<'a> {
    let shared = Arc::clone(&peer.connections.shared);
    match known {
        Some(Verified { identity, .. }) => Proof::Identity { identity, credential: None },
        None if shared.config.resume == ResumeSetting::Authenticate => Proof::None,
        None => Proof::Credential(credential(peer, &shared)),
    }
}

/// A hash of the token that a client has named, where the application judges it.
fn credential(peer: &mut Peer<'_>, shared: &Shared) -> Option<u64> {
    let opener = peer.connection().and_then(Connection::opener)?;
    let token = opener.said.as_ref()?.token.as_deref().filter(|_| shared.config.authenticate);
    token.map(|token| shared.hasher.hash_one(token))
}

/// Goes on with a client that the application lets in: it gets its session if that is of the same subject, and otherwise a new one.
pub(crate) fn admitted(peer: &mut Peer<'_>, identity: &Arc<Identity>) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(newcomer) = peer.connection().map(|connection| connection.id) else { return };
    let credential = credential(peer, &shared);
    let claimed = peer.connection().and_then(Connection::opener).and_then(|opener| claimed(opener));
    let mut verdict = Verdict::Unknown;
    if let Some(((client, secret), attempt)) = claimed.filter(|_| shared.config.authenticate) {
        let claim = Claim { secret, attempt, proof: Proof::Identity { identity, credential } };
        verdict = judge(peer.connections, client, &claim);
        match verdict {
            Verdict::Accepted => {
                shared.clients().remove(&newcomer);
                shared.inbox.push(Event::Merged { client: newcomer, into: client });
                return come_back(peer, client, None);
            }
            Verdict::Outdated { accepted } => return refuse_attempt(peer, Some(accepted)),
            Verdict::Unknown | Verdict::Unproven | Verdict::OtherSubject => {}
        }
    }
    begin(peer, identity, credential, verdict);
}

/// Gives a client that is let in a new session. If it wanted to have another one, the verdict says why it has not.
fn begin(peer: &mut Peer<'_>, identity: &Arc<Identity>, credential: Option<u64>, verdict: Verdict) {
    let shared = Arc::clone(&peer.connections.shared);
    let Some(connection) = peer.connection() else { return };
    let newcomer = connection.id;
    if connection.opener().is_none_or(|opener| opener.said.is_none()) {
        return;
    }
    let Some(upgraded) = connection.upgraded_mut() else { return };
    let session = Session::resumable(shared.new_secret(), credential);
    let Endpoint::First(opener) = std::mem::replace(&mut upgraded.endpoint, Endpoint::Umbel(session)) else {
        return;
    };
    if opener.other_credential {
        shared.inbox.push(Event::Begun { client: newcomer });
    }
    session_stream::begin(peer, opener.stream.as_deref());
    let reason = if verdict == Verdict::OtherSubject { "subject" } else { "unknown" };
    let lost = opener.said.and_then(|first| first.returning).map(|returning| (reason, returning.wanted));
    greet(peer, identity, lost);
    session_stream::begun(peer, opener.stream.as_deref());
}

/// Gives a session to this connection. Of its client is known now who it is, if that was verified.
fn come_back(peer: &mut Peer<'_>, client: ClientId, verified: Option<Verified>) {
    let Some(mut kept) = take_session(peer.connections, client) else { return };
    if kept.pending.as_mut().is_some_and(|pending| !pending.seat.come_back()) {
        // It may have the next place, unless it gives way before.
        peer.connections.away.add(client, kept);
        return refuse_seat(peer);
    }
    let (key, shared) = (peer.key, Arc::clone(&peer.connections.shared));
    let Some(connection) = peer.connection() else { return };
    let Some(upgraded) = connection.upgraded_mut() else { return };
    let session = Endpoint::Umbel(kept.session);
    let Endpoint::First(opener) = std::mem::replace(&mut upgraded.endpoint, session) else { return };
    let may_ask = kept.pending.as_ref().is_none_or(|pending| pending.has_room());
    let client_id = shared.public_id(client);
    if let Some(known) = shared.clients().get_mut(&client) {
        known.connection = connection.serial;
    }
    shared.trace_connection(client, connection.serial, || format!("came back from {}", connection.peer()));
    let Opener { request, said, stream, .. } = *opener;
    let Some(First { token, returning, .. }) = said else { return };
    // Otherwise the application has the request already.
    if let Some(request) = request.filter(|_| kept.known) {
        let introduction = Introduction { token, verified, ..Introduction::of(request) };
        let opening = introduction.opening(connection, client_id.clone());
        shared.inbox.push(Event::Back { client, opening });
    }
    (connection.id, connection.known, connection.pending) = (client, kept.known, kept.pending);
    found_at(peer.connections, client, key);
    let_in(peer, kept.paused);
    session_stream::begin(peer, stream.as_deref());
    let wanted = returning.map(|returning| returning.wanted).unwrap_or_default();
    peer.converse(|session, peer| {
        session.come_back(&client_id, &shared.terms, wanted, may_ask, &shared.rules, peer);
    });
    session_stream::begun(peer, stream.as_deref());
    look_at_credentials(peer);
}
