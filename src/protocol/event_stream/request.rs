//! What the client of an event stream wants: all of it is in its request.

use super::positions::{ChannelHash, StreamPositions};
use crate::position::Start;
use crate::protocol::http::{HttpError, Request, form_decode, form_pairs};

/// What a client wants of a stream.
#[derive(Debug)]
pub struct StreamRequest {
    /// The channels, in the order of the request and each of them once. The names are not checked.
    pub channels: Box<[(Box<str>, Start)]>,
    /// How far the client has come in them, by its own words.
    pub positions: StreamPositions,
    /// The client was here before: it says so in the header that browsers send by themselves.
    pub comes_back: bool,
    /// Each update is an event.
    pub single: bool,
    /// Heartbeats are events, which the script of a page can see.
    pub named_heartbeats: bool,
    /// The tickets in the query: at most one should be there.
    pub tickets: Vec<Box<str>>,
    /// The secret of an earlier opening.
    pub secret: Option<Box<str>>,
    /// One that was in the URL, where others can read it.
    pub exposed: Option<Box<str>>,
}

/// What comes after the path of the streams: the name of a channel, or nothing. `None` for other paths.
pub fn stream_channel<'a>(path: &'a str, stream_path: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(stream_path)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

impl StreamRequest {
    /// Reads a request. `in_path` is the [`stream_channel`] of its path.
    ///
    /// # Errors
    /// When it names no channel or too many, or asks for what does not exist.
    pub fn parse(request: &Request, in_path: &str) -> Result<Self, HttpError> {
        let mut names: Vec<Box<str>> = Vec::new();
        names.extend((!in_path.is_empty()).then(|| in_path.into()));
        let (mut after, mut single, mut named_heartbeats, mut tickets) = (None, false, false, Vec::new());
        for (name, value) in form_pairs(request.query().unwrap_or_default()) {
            match name {
                "channel" => {
                    let value = form_decode(value).ok_or(BAD_QUERY)?;
                    if names.iter().all(|other| **other != *value) {
                        names.push(value.into());
                    }
                }
                "after" if after.is_some() => return Err(TWO_POSITIONS),
                // Digits that need no escape. One that has some can't be read, and is unknown.
                "after" => after = Some(value),
                "events" if value == "single" => single = true,
                "events" => return Err(BAD_EVENTS),
                "heartbeat" if value == "event" => named_heartbeats = true,
                "heartbeat" => return Err(BAD_HEARTBEAT),
                name if form_decode(name).as_deref() == Some(TICKET) => {
                    tickets.push(form_decode(value).unwrap_or_default().into());
                }
                // Tokens of the application, and what clients add so that no cache answers.
                _ => {}
            }
            if names.len() > MAX_STREAM_CHANNELS {
                return Err(TOO_MANY_CHANNELS);
            }
        }
        if names.is_empty() {
            return Err(NO_CHANNEL);
        }
        let mut headers = request.headers("last-event-id").filter(|id| !id.is_empty());
        let header = headers.next();
        // Of two of them, nobody knows which one counts.
        let header = header.map(|id| if headers.next().is_some() { "" } else { id });
        let (secret, header) = header.map_or((None, None), |id| {
            let (secret, positions) = StreamPositions::split_secret(id);
            (secret, Some(positions))
        });
        let (exposed, after) = StreamPositions::split_secret(after.unwrap_or_default());
        let id = header.or(Some(after).filter(|id| !id.is_empty()));
        // An id that can't be read says that the client was here before.
        let known = id.map(|id| StreamPositions::parse(id).ok_or(()));
        let start = |name: &str| match &known {
            None => Start::Newcomer,
            Some(Err(())) => Start::Unknown,
            Some(Ok(positions)) => match positions.get(ChannelHash::of(name)) {
                None => Start::Newcomer,
                Some(None) => Start::Unknown,
                Some(Some(position)) => Start::After(position),
            },
        };
        let starts: Vec<_> = names.iter().map(|name| start(name)).collect();
        let channels: Box<[_]> = names.into_iter().zip(starts).collect();
        let positions = StreamPositions::new(channels.iter().map(|(name, start)| {
            let position = if let Start::After(position) = start { Some(*position) } else { None };
            (ChannelHash::of(name), position)
        }));
        let (secret, exposed) = (secret.map(Into::into), exposed.map(Into::into));
        let comes_back = header.is_some();
        Ok(Self { channels, positions, comes_back, single, named_heartbeats, tickets, secret, exposed })
    }
}

/// The parameter that has a ticket.
pub const TICKET: &str = "ticket";

/// Channels of one stream. The `id` of each of its events names them all.
pub const MAX_STREAM_CHANNELS: usize = 32;

const NO_CHANNEL: HttpError =
    HttpError::new(400, "an event stream needs a channel, in its path or as ?channel=");
const TOO_MANY_CHANNELS: HttpError = HttpError::new(400, "an event stream has at most 32 channels");
const TWO_POSITIONS: HttpError = HttpError::new(400, "there must be one ?after=");
const BAD_EVENTS: HttpError = HttpError::new(400, "?events= must be single");
const BAD_HEARTBEAT: HttpError = HttpError::new(400, "?heartbeat= must be event");
const BAD_QUERY: HttpError = HttpError::new(400, "the query is not percent-encoded UTF-8");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Epoch, Position};
    use crate::protocol::http::{HeadLimits, HeadReader};

    fn ask(target: &str, headers: &str) -> Result<StreamRequest, HttpError> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let (request, _) =
            HeadReader::default().read(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        let channel = stream_channel(request.path(), "/s").expect("a stream").to_owned();
        StreamRequest::parse(&request, &channel)
    }

    fn starts(target: &str, headers: &str) -> Vec<(String, Start)> {
        let request = ask(target, headers).expect("it is legal");
        request.channels.iter().map(|(name, start)| (name.to_string(), *start)).collect()
    }

    fn id(channels: &[(&str, Option<u64>)]) -> String {
        let mut out = Vec::new();
        let position = |offset| Position { epoch: Epoch::new(7), offset };
        StreamPositions::new(
            channels.iter().map(|(name, offset)| (ChannelHash::of(name), offset.map(position))),
        )
        .write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tickets_and_secrets_are_taken_apart_from_what_they_stand_with() {
        let positions = id(&[("a", Some(3))]);
        let [old, new] = ["o", "n"].map(|letter| letter.repeat(36));
        let it = ask(&format!("/s/a?ticket=t&after={old}.{positions}"), "").unwrap();
        assert_eq!(
            (&*it.tickets, &it.secret, it.exposed.as_deref()),
            (&["t".into()][..], &None, Some(&*old))
        );
        assert!(matches!(it.channels[0].1, Start::After(position) if position.offset == 3));
        let header = format!("Last-Event-ID: {new}.{positions}\r\n");
        let it = ask(&format!("/s/a?ticket=t&%74icket=u&after={old}."), &header).unwrap();
        assert_eq!(
            (it.tickets.len(), it.secret.as_deref(), it.exposed.as_deref()),
            (2, Some(&*new), Some(&*old))
        );
        assert!(it.comes_back && matches!(it.channels[0].1, Start::After(_)));
        let it = ask("/s/a", &format!("Last-Event-ID: {new}.\r\n")).unwrap();
        assert_eq!((it.secret.as_deref(), it.channels[0].1), (Some(&*new), Start::Unknown));
    }

    #[test]
    fn only_the_path_itself_and_what_is_below_it_is_a_stream() {
        for (path, channel) in [("/s", Some("")), ("/s/", Some("")), ("/s/a/b", Some("a/b")), ("/sa", None)] {
            assert_eq!(stream_channel(path, "/s"), channel, "{path}");
        }
    }

    #[test]
    fn channels_are_in_the_path_or_in_the_query_and_each_counts_once() {
        let names = |target| starts(target, "").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("/s/room:7%2Fa"), ["room:7/a"]);
        assert_eq!(names("/s?channel=b&token=x&channel=a+%C3%A9&channel=b"), ["b", "a é"]);
        assert_eq!(names("/s/a?channel=b&channel=a"), ["a", "b"]);
        let many = |count| (0..count).map(|n| format!("channel={n}&")).collect::<String>();
        assert_eq!(names(&format!("/s?{}", many(32))).len(), 32);
        assert_eq!(ask(&format!("/s?{}", many(33)), "").unwrap_err().status, 400);
        for wrong in [
            "/s",
            "/s?",
            "/s?x=1",
            "/s/a?after=1&after=1",
            "/s/a?heartbeat=no",
            "/s/a?events=all",
            "/s?channel=%ff",
        ] {
            assert_eq!(ask(wrong, "").unwrap_err().status, 400, "{wrong}");
        }
    }

    #[test]
    fn each_channel_goes_on_where_the_id_says_in_whatever_order() {
        let after = |offset| Start::After(Position { epoch: Epoch::new(7), offset });
        let id = id(&[("a", Some(3)), ("b", None), ("c", Some(9))]);
        let expected = [("c", after(9)), ("new", Start::Newcomer), ("b", Start::Unknown)]
            .map(|(name, start)| (name.to_owned(), start));
        let target = "/s?channel=c&channel=new&channel=b";
        assert_eq!(starts(target, &format!("Last-Event-ID: {id}\r\n")), expected);
        assert_eq!(starts(&format!("{target}&after={id}"), "Last-Event-ID:\r\n"), expected);
        let stream = ask(&format!("/s/c?after={id}"), "").unwrap();
        assert!(!stream.comes_back && ask("/s/c", "last-event-id: x\r\n").unwrap().comes_back);
        assert_eq!(stream.positions.get(ChannelHash::of("c")).flatten().map(|it| it.offset), Some(9));
    }

    #[test]
    fn the_header_counts_more_than_the_query_and_what_it_says_wrongly_is_unknown() {
        let (good, other) = (id(&[("a", Some(3))]), id(&[("a", Some(4))]));
        let after = |offset| Start::After(Position { epoch: Epoch::new(7), offset });
        for (target, headers, expected) in [
            (format!("/s/a?after={other}"), format!("Last-Event-ID: {good}\r\n"), after(3)),
            (format!("/s/a?after={good}"), format!("Last-Event-ID: {}\r\n", &good[1..]), Start::Unknown),
            ("/s/a".into(), format!("Last-Event-ID: {good}\r\nLast-Event-ID: {other}\r\n"), Start::Unknown),
            (format!("/s/a?after={}", &good[..9]), String::new(), Start::Unknown),
            ("/s/a?after=".into(), "Last-Event-ID: \r\n".into(), Start::Newcomer),
        ] {
            assert_eq!(starts(&target, &headers), [("a".to_owned(), expected)], "{target} {headers}");
        }
    }
}
