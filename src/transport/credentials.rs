//! What a client shows of itself, where tokens are verified here.

use std::sync::Arc;

use crate::hub::ReaderKey;
use crate::identity::Identity;
use crate::jwt::{Needs, Verified, Verifier};
use crate::protocol::http::Request;
use crate::refusal::Refusal;
use crate::session::Judged;
use crate::token_error::TokenError;
use crate::transport::connections::Connections;
use crate::transport::events::{Event, Level};
use crate::transport::shared::Shared;

/// Where a token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where the client shows it by itself: in a header, or in its first message.
    Shown,
    /// There, and without one also in the cookie, which a browser sends by itself.
    Anywhere,
}

impl Place {
    /// The token of a client. `None`: it shows none.
    ///
    /// # Errors
    /// [`TokenError::TwoCredentials`].
    fn token<'a>(
        self,
        verifier: &Verifier,
        request: &'a Request,
        said: Option<&'a str>,
    ) -> Result<Option<&'a str>, TokenError> {
        let bearers = request.headers("authorization").filter_map(bearer);
        let mut shown = bearers.chain(said);
        let token = shown.next();
        if shown.next().is_some() {
            return Err(TokenError::TwoCredentials);
        }
        let name = verifier.cookie().filter(|_| self == Self::Anywhere);
        Ok(token.or_else(|| cookie(request, name?)))
    }
}

/// Judges the token of a client. `None`: it shows none, and it could be anywhere else.
///
/// # Errors
/// [`TokenError`], also when it shows two, or there is none anywhere.
pub(crate) fn verify(
    shared: &Shared,
    verifier: &Verifier,
    place: Place,
    request: &Request,
    said: Option<&str>,
) -> Result<Option<Verified>, TokenError> {
    match place.token(verifier, request, said)? {
        Some(token) => judge(shared, verifier, token).map(Some),
        None if place == Place::Shown => Ok(None),
        None => Err(TokenError::Missing),
    }
}

/// What has to be done before the token of a client can be judged.
pub(crate) fn needs(shared: &Shared, place: Place, request: &Request, said: Option<&str>) -> Needs {
    let Some(verifier) = &shared.verifier else { return Needs::Nothing };
    let token = place.token(verifier, request, said).ok().flatten();
    token.map_or(Needs::Nothing, |token| verifier.needs(token, shared.clock.unix_millis()))
}

/// Judges a token that a client shows on its open connection, when it is the turn of that. If it counts, the application is told, and
/// the end of the connection is another one.
pub(crate) fn judge_later(
    connections: &mut Connections,
    key: ReaderKey,
    token: Option<&str>,
    client: Option<&Arc<Identity>>,
) -> Judged {
    let shared = Arc::clone(&connections.shared);
    let (now, today) = (connections.now(), shared.clock.unix_millis());
    let Some(verifier) = &shared.verifier else { return Judged::Impossible };
    let Some(token) = token else { return Judged::Refused(TokenError::Missing) };
    if !connections.may_judge(key, verifier.needs(token, today)) {
        return Judged::Later;
    }
    let verified = match judge(&shared, verifier, token) {
        Ok(verified) => verified,
        Err(error) => {
            log_refused(connections, key, error.text());
            return Judged::Refused(error);
        }
    };
    let identity = Arc::clone(&verified.identity);
    if client.is_none_or(|client| client.subject != identity.subject) {
        log_refused(connections, key, "the token is of another subject");
        return Judged::OtherSubject;
    }
    // The same token says nothing new, however often it comes.
    let is_new = client.is_some_and(|client| !Arc::ptr_eq(client, &identity));
    let Connections { sockets, commands, .. } = &mut *connections;
    if let Some(connection) = sockets.slots.get_mut(key as usize) {
        // It is told once of the same end, or it would show the same token on and on.
        let was_told = connection.deadlines.was_told()
            && client.is_some_and(|client| client.expires() == identity.expires());
        connection.deadlines.look_at_credentials(Some(now), was_told);
        if connection.known && is_new {
            let client = connection.id;
            let credit = connection.credit(verified.claims.len(), &shared, commands);
            shared.inbox.push(Event::Renewed { client, verified: Box::new(verified), credit });
        }
    }
    connections.schedule(key);
    let left = identity.expires().map(|expires| expires.saturating_sub(today));
    Judged::Known { identity, expires_in: left.map(|left| left / 1000) }
}

/// Logs that a token on an open connection does not count: a line for ten seconds. With DEBUG, each has a line.
fn log_refused(connections: &Connections, key: ReaderKey, why: &str) {
    let (shared, from) = (&connections.shared, connections.peer_of(key));
    match shared.refusals.note(Refusal::LABELS.len(), shared.clock.now()) {
        Some(count) => shared.log(
            Level::Info,
            format!("tokens refused on open connections: {count}, the last one from {from}: {why}"),
        ),
        None => shared.trace(|| format!("a token from {from} was refused on its open connection: {why}")),
    }
}

/// Judges a token, wherever it was.
fn judge(shared: &Shared, verifier: &Verifier, token: &str) -> Result<Verified, TokenError> {
    let verified = verifier.verify(token, shared.clock.unix_millis())?;
    // Others may give these claims another meaning.
    let is_wrong = verified.identity.rights.is_none() && shared.rules.use_claims();
    if is_wrong { Err(TokenError::BadClaims) } else { Ok(verified) }
}

/// Whether a client shows a token in a header.
pub(crate) fn shows_token(request: &Request) -> bool {
    request.headers("authorization").any(|value| bearer(value).is_some())
}

/// The token of a header `Authorization` (RFC 6750 §2.1). Other schemes are somebody else's.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// The first cookie of this name.
fn cookie<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let pairs = request.headers("cookie").flat_map(|line| line.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim_matches(' ').split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| value.trim_matches('"'))
}
