//! The session of an event stream: its client has said everything in its request, and says no more.

use super::carrier::Carrier;
use super::conversation::Session;
use super::credentials::somebody;
use super::replies::Newcomer;
use super::requests::{Action, StreamChannels};
use crate::protocol::message::ServerMessage;
use crate::rules::Rules;

/// Tells the client of a stream that it was let in. What it wants is done by [`begin_stream`].
pub fn greet_stream(
    session: &mut Session,
    newcomer: &Newcomer<'_>,
    wanted: StreamChannels,
    sees_heartbeats: bool,
    carrier: &mut impl Carrier,
) {
    let Newcomer { client_id, identity, .. } = *newcomer;
    session.identity = somebody(identity);
    let names: Vec<_> = wanted.iter().map(|(name, _)| &**name).collect();
    let (channel, channels) = match names[..] {
        [one] => (Some(one), None),
        _ => (None, Some(&names[..])),
    };
    let timestamp = carrier.timestamp();
    let subject = Some(&*identity.subject).filter(|subject| !subject.is_empty());
    let connected = ServerMessage::Connected { client_id, subject, channel, channels, timestamp };
    carrier.reply(|out| connected.write(out));
    session.sees_heartbeats = sees_heartbeats;
    session.requests().stream = Some(wanted);
}

/// Asks for the channels of a stream, once. For other sessions it does nothing.
pub fn begin_stream(session: &mut Session, rules: &Rules, carrier: &mut impl Carrier) {
    let wanted = session.requests.as_mut().and_then(|requests| requests.stream.take());
    for (channel, start) in wanted.into_iter().flatten() {
        session.request(&channel, Action::Subscribe { start, restart: false }, None, rules, carrier);
    }
}

/// Shows that a stream is alive. Returns `false` when its client does not want to see that.
pub fn show_heartbeat(session: &Session, carrier: &mut impl Carrier) -> bool {
    if session.sees_heartbeats {
        let timestamp = carrier.timestamp();
        carrier.reply(|out| ServerMessage::Heartbeat { timestamp }.write(out));
    }
    session.sees_heartbeats
}

#[cfg(test)]
mod tests {
    use super::super::conversation::tests::{Talk, newcomer};
    use super::*;
    use crate::position::Start;

    #[test]
    fn a_stream_asks_once_for_what_it_wants_and_is_blamed_once() {
        let Talk { mut session, mut notes, rules } = Talk::new();
        let wanted = (0..30).map(|number| (format!("none:{number}").into(), Start::Newcomer)).collect();
        greet_stream(&mut session, &newcomer("ann"), wanted, true, &mut notes);
        let connected = notes.replies.remove(0);
        assert_eq!((&connected["type"], &connected["subject"]), (&"connected".into(), &"ann".into()));
        assert_eq!(connected["channels"][29], "none:29");
        for expected in [30, 0] {
            begin_stream(&mut session, &rules, &mut notes);
            assert_eq!(notes.replies.len(), expected);
            assert!(notes.replies.drain(..).all(|reply| reply["code"] == "unknown_channel"));
        }
        assert!(session.listens(notes.now), "one request, one error");
        assert!(show_heartbeat(&session, &mut notes));
        assert_eq!(notes.replies[0]["type"], "heartbeat");
        assert!(!show_heartbeat(&Session::default(), &mut notes));
    }
}
