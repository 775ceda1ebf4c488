//! Credentials that wait to be judged. Until they are, the session does not want to hear more.

use super::carrier::Carrier;
use super::conversation::Session;
use crate::protocol::message::Id;
use crate::rules::Rules;

/// Whether credentials of its client wait to be judged.
pub fn waits_to_renew(session: &Session) -> bool {
    session.requests.as_ref().is_some_and(|requests| requests.renewal.is_some())
}

/// Has credentials judged that waited for that.
pub fn renew_again(session: &mut Session, rules: &Rules, carrier: &mut impl Carrier) {
    let Some(renewal) = session.requests.as_mut().and_then(|requests| requests.renewal.take()) else {
        return;
    };
    session.acting_for = renewal.message;
    let id = renewal.id.as_deref().and_then(Id::from_json);
    session.renew(renewal.token.as_deref(), id, rules, carrier);
}

/// Credentials that a client has shown on a connection that has ended are not judged any more.
pub fn forget_renewal(session: &mut Session) {
    if let Some(requests) = &mut session.requests {
        requests.renewal = None;
    }
}
