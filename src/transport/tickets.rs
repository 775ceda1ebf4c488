//! Tickets that clients show for their event streams, and what becomes of the streams of others.

use std::sync::Arc;

use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::jwt::Verified;
use crate::protocol::event_stream::{StreamPositions, StreamRequest, TICKET};
use crate::protocol::http::Request;
use crate::ticket::{GRACE, IssueError, Opening, Shown};
use crate::token_error::TokenError;
use crate::transport::client_id::ClientId;
use crate::transport::commands::ClientCommand;
use crate::transport::credentials::{Place, shows_token, verify};
use crate::transport::shared::Shared;

/// Gives a ticket to somebody, for a page of this origin if there is one.
///
/// # Errors
/// [`IssueError`].
pub(crate) fn issue(shared: &Shared, verified: Verified, origin: Option<&str>) -> Result<String, IssueError> {
    shared.tickets.issue(verified, origin, shared.clock.unix_millis())
}

/// Why a client that asks for a ticket gets none.
pub(crate) enum NotIssued {
    /// Its token does not count any more.
    Token(TokenError),
    /// There is none for it: the status of the response, and what it says.
    Ticket(u16, ErrorCode, String),
}

/// Gives a ticket to the client of a request, and says it as JSON. `judged` is who it is, where the application said so.
pub(crate) fn issue_to(
    shared: &Shared,
    request: &Request,
    judged: Option<&Verified>,
) -> Result<Vec<u8>, NotIssued> {
    let judge = |verifier| verify(shared, verifier, Place::Anywhere, request, None).map_err(NotIssued::Token);
    let shown = shared.verifier.as_deref().map(judge).transpose()?.flatten();
    let Some(verified) = shown.as_ref().or(judged) else {
        let text = "only a client with an identity gets a ticket".to_owned();
        return Err(NotIssued::Ticket(403, ErrorCode::NotAllowed, text));
    };
    let issued = issue(shared, verified.clone(), request.header("origin"));
    // Meanwhile its subject may have been revoked, and its tickets ended before there was this one.
    if let Some(Err(error)) = shared.verifier.as_deref().map(judge) {
        shared.tickets.end_subject(&verified.identity.subject);
        return Err(error);
    }
    let ticket = issued.map_err(|error| {
        let (status, code) = match error {
            IssueError::OfSubject(_) => (429, ErrorCode::LimitExceeded),
            IssueError::Full(_) => (503, ErrorCode::LimitExceeded),
            IssueError::Ended => (401, ErrorCode::Unauthenticated),
            IssueError::Nobody | IssueError::TooLong { .. } => (403, ErrorCode::NotAllowed),
            IssueError::NoJson | IssueError::Random => (500, ErrorCode::Internal),
        };
        NotIssued::Ticket(status, code, error.to_string())
    })?;
    let seconds = GRACE / 1000;
    Ok(format!("{{\"type\":\"ticket\",\"ticket\":\"{ticket}\",\"expiresIn\":{seconds}}}").into_bytes())
}

/// Judges the ticket that a client shows. `None`: it shows none. If it counts, the stream that was open with it ends.
///
/// # Errors
/// [`TokenError`], also when the client shows a token, too.
pub(crate) fn judge(
    shared: &Arc<Shared>,
    client: ClientId,
    request: &Request,
    stream: &StreamRequest,
) -> Result<Option<Opening>, TokenError> {
    // First: it may be that of this ticket.
    if let Some(stream) = stream.exposed.as_deref().and_then(|secret| shared.tickets.expose(secret)) {
        end(shared, stream, CloseReason::TicketVoid);
    }
    let ticket = match &stream.tickets[..] {
        [] => return Ok(None),
        [ticket] if !shows_token(request) => ticket,
        _ => return Err(TokenError::TwoCredentials),
    };
    let shown = Shown { ticket, secret: stream.secret.as_deref(), origin: request.header("origin") };
    match shared.tickets.open(shown, client.0, shared.clock.unix_millis()) {
        Ok(opening) => {
            if let Some(former) = opening.former {
                end(shared, former, CloseReason::Reopened);
            }
            Ok(Some(opening))
        }
        Err(refusal) => {
            if let Some(stream) = refusal.ends {
                end(shared, stream, CloseReason::TicketVoid);
            }
            Err(refusal.error)
        }
    }
}

/// Takes out of a request what nobody else may see of it.
pub(crate) fn hide(request: &mut Request) {
    request.hide_parameter(TICKET);
    request.shorten_parameter("after", |id| StreamPositions::split_secret(id).1);
    request.shorten_header("last-event-id", |id| StreamPositions::split_secret(id).1);
}

/// Ends a stream, on whichever shard it is.
fn end(shared: &Shared, stream: u64, reason: CloseReason) {
    let client = ClientId(stream);
    if let Some(commands) = shared.commands_for(client) {
        commands.push_for(client, ClientCommand::End(reason));
    }
}
