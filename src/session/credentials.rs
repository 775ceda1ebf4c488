//! The credentials of a client while it is connected: they run out, and may be renewed.

use std::collections::HashSet;
use std::sync::Arc;

use super::carrier::{Carrier, Judged};
use super::resumable::Subscription;
use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::identity::{Identity, Validity};
use crate::protocol::message::ServerMessage;
use crate::rules::Rules;
use crate::token_error::TokenError;

/// Who a client is, as a session keeps it. An anonymous one is nobody.
pub(super) fn somebody(identity: &Arc<Identity>) -> Option<Arc<Identity>> {
    Some(identity).filter(|identity| !identity.subject.is_empty()).cloned()
}

/// Looks whether the credentials of a client are still good. `today` is milliseconds of Unix time. Tells the client when they will end,
/// unless it was told already, and ends the conversation when they are not good any more.
///
/// Returns after how many milliseconds to look again; `None`: they are good for ever.
pub fn look_at_credentials(
    identity: Option<&Identity>,
    today: u64,
    was_told: &mut bool,
    carrier: &mut impl Carrier,
) -> Option<u64> {
    let Validity { expires, ends, warns } = **identity?.validity.as_ref()?;
    if ends <= today {
        carrier.close(CloseReason::Expired);
        return None;
    }
    if today < warns {
        return Some(warns - today);
    }
    if !std::mem::replace(was_told, true) {
        let expires_in = expires.saturating_sub(today).div_ceil(1000);
        carrier.reply(|out| ServerMessage::TokenExpiring { expires_in }.write(out));
    }
    Some(ends - today)
}

/// Why credentials are not taken on an open connection.
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub text: &'static str,
    /// JSON text.
    pub details: Option<String>,
    /// The conversation ends.
    pub ends: Option<CloseReason>,
}

/// What becomes of credentials that were judged: who the client is now, and for how many seconds they are good.
/// An error that is `None`: they are not judged yet.
pub(super) fn renewed(judged: Judged) -> Result<(Arc<Identity>, Option<u64>), Option<Refusal>> {
    let (code, text, details, ends) = match judged {
        Judged::Known { identity, expires_in } => return Ok((identity, expires_in)),
        Judged::Later => return Err(None),
        Judged::Refused(error) => (error.error_code(), error.text(), Some(error.details()), None),
        Judged::OtherSubject => {
            let ends = CloseReason::OtherSubject;
            (ErrorCode::NotAllowed, "the token is of another subject", None, Some(ends))
        }
        Judged::Impossible => {
            let text = "only the first message says who the client is (subprotocol umbel.v1.first)";
            (ErrorCode::BadMessage, text, None, None)
        }
    };
    Err(Some(Refusal { code, text, details, ends }))
}

/// The channels that a client reads by claims that it had, and has not any more. What the server has made stays.
pub(super) fn withdrawn(
    former: &Identity,
    now: &Identity,
    subscriptions: &[Subscription],
    rules: &Rules,
    carrier: &impl Carrier,
) -> Vec<ChannelName> {
    if !rules.use_claims() || former.rights == now.rights {
        return Vec::new();
    }
    let by_server: HashSet<_> =
        subscriptions.iter().filter(|had| had.by_server).map(|had| &had.channel).collect();
    let mut channels = carrier.channels();
    channels.retain(|channel| {
        !by_server.contains(channel) && rules.withdraw(channel.as_str(), former, Some(now))
    });
    channels
}

/// Tells a client that is not let in what is wrong with its token.
pub fn tell_refused(error: TokenError, carrier: &mut impl Carrier) {
    let (timestamp, details) = (carrier.timestamp(), error.details());
    let details = serde_json::from_str(&details).ok();
    let (code, message) = (error.error_code().name(), error.text());
    let error = ServerMessage::Error { code, message, channel: None, details, id: None, timestamp };
    carrier.reply(|out| error.write(out));
}

#[cfg(test)]
mod tests {
    use super::super::conversation::tests::Talk;
    use super::*;

    const NOON: u64 = 1_800_000_000_000;

    /// Good for a minute from noon, and for ten seconds more.
    fn of_ann() -> Identity {
        let validity = Validity::new(NOON + 60_000, 10_000, NOON);
        Identity { subject: "ann".into(), validity: Some(validity), rights: None }
    }

    #[test]
    fn a_client_is_told_once_and_closed_at_the_end() {
        let mut talk = Talk::new();
        let identity = Arc::new(of_ann());

        let mut was_told = false;
        let mut look = |millis: u64| {
            let next = look_at_credentials(Some(&identity), NOON + millis, &mut was_told, &mut talk.notes);
            (next, std::mem::take(&mut talk.notes.replies))
        };
        assert_eq!(look(0), (Some(30_000), vec![]));
        let (next, told) = look(30_500);
        assert_eq!(
            (next, told[0]["type"].as_str(), told[0]["expiresIn"].as_u64()),
            (Some(39_500), Some("token_expiring"), Some(30))
        );
        assert_eq!(look(60_001), (Some(9_999), vec![]), "the leeway");
        assert_eq!(look(70_000), (None, vec![]));
        assert_eq!(talk.notes.closed, Some(CloseReason::Expired));
    }

    #[test]
    fn credentials_without_an_end_are_not_looked_at() {
        let mut talk = Talk::new();
        let for_ever = Identity::of_application("ann", None, None);
        for identity in [None, Some(&for_ever)] {
            assert_eq!(look_at_credentials(identity, u64::MAX, &mut false, &mut talk.notes), None);
        }
        assert!(talk.notes.closed.is_none() && talk.notes.replies.is_empty());
    }
}
