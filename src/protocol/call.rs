//! Calls: what programs ask for over HTTP, one request after another on a connection that is kept.

use std::collections::VecDeque;
use std::ops::Range;

use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::http::{HttpError, Method, Request, form_decode, form_pairs};
use super::origins::{Cors, Origins, check_page};
use crate::position::Position;

/// Where calls are made. `None`: not here.
#[derive(Clone, Copy, Debug)]
pub struct CallPaths<'a> {
    /// To publish.
    pub publish: Option<&'a str>,
    /// To read what a channel still has. The name of the channel comes below it.
    pub history: Option<&'a str>,
    /// To get a ticket.
    pub ticket: Option<&'a str>,
    /// To have a session on a stream. Its messages are posted below it.
    pub session: Option<&'a str>,
}

/// Longest bodies, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// Of publications, and of lists of messages.
    pub list: usize,
    /// Of a first message.
    pub first: usize,
}

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// To publish what its body says.
    Publish {
        /// Bytes of the body.
        length: usize,
        /// What a repetition of the call names, too.
        key: Option<Box<str>>,
    },
    /// To get a ticket for an event stream.
    Ticket,
    /// To have a session on a stream, which its response is.
    Session {
        /// Bytes of the body.
        length: usize,
    },
    /// To say something to a session on a stream.
    Messages {
        /// Bytes of the body.
        length: usize,
        /// The token of the session. Empty: none is shown.
        token: Box<str>,
    },
    /// To read what a channel still has.
    History {
        /// Its name, which was not checked.
        channel: Box<str>,
        /// Where the reader stands.
        after: Option<Position>,
        /// Publications at most.
        most: usize,
    },
}

/// What becomes of the head of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallHead {
    /// It is to be made.
    Call(CallKind, Cors),
    /// The page that asks whether it may make it is told so. These are the methods that it may use.
    Preflight(&'static str, Cors),
}

impl CallPaths<'_> {
    /// Whether a request is for a path of calls, whatever its method.
    pub fn has(&self, path: &str) -> bool {
        [self.publish, self.ticket].contains(&Some(path))
            || self.channel(path).is_some()
            || self.session(path).is_some()
    }

    /// What comes after the path of sessions.
    fn session<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.session?).filter(|below| ["", MESSAGES].contains(below))
    }

    /// The channel whose history is asked for.
    fn channel<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.history?)?.strip_prefix('/')
    }

    /// Judges a head.
    ///
    /// # Errors
    /// The refusal, and whether the page may read it. The body was not read, so the connection has to end.
    pub fn judge(
        &self,
        request: &Request,
        origins: &Origins,
        longest: Longest,
    ) -> Result<CallHead, (HttpError, Cors)> {
        let cors = check_page(request, origins).map_err(|error| (error, Cors::default()))?;
        let channel = self.channel(request.path());
        let kind = match (request.method(), channel) {
            (Method::Options, _) => {
                return Ok(CallHead::Preflight(if channel.is_some() { GET } else { POST }, cors));
            }
            (Method::Get, Some(channel)) => history(request, channel),
            (_, Some(_)) => Err(ONLY_GET),
            (Method::Post, None) if self.ticket == Some(request.path()) => ticket(request),
            (Method::Post, None) => match self.session(request.path()) {
                Some(below) => session_call(request, below, longest),
                None => publish(request, longest.list),
            },
            (_, None) => Err(ONLY_POST),
        };
        match kind {
            Ok(kind) => Ok(CallHead::Call(kind, cors)),
            Err(error) => Err((error, cors)),
        }
    }
}

/// A browser adds the cookie for pages of any site, and a form sends no preflight.
fn check_cookie(request: &Request) -> Result<(), HttpError> {
    let says = |name| request.headers(name).next().is_some();
    let is_alone = says("cookie") && !says("origin") && !says("sec-fetch-site");
    if is_alone { Err(COOKIE_ALONE) } else { Ok(()) }
}

fn ticket(request: &Request) -> Result<CallKind, HttpError> {
    check_cookie(request)?;
    if request.has_body() { Err(BODY) } else { Ok(CallKind::Ticket) }
}

fn publish(request: &Request, longest: usize) -> Result<CallKind, HttpError> {
    check_cookie(request)?;
    let length = json_length(request, longest)?;
    let mut keys = request.headers("idempotency-key");
    let key = match (keys.next(), keys.next()) {
        (None, _) => None,
        (Some(key), None) if is_key(key) => Some(key.into()),
        _ => return Err(BAD_KEY),
    };
    Ok(CallKind::Publish { length, key })
}

/// Judges a request to the path of sessions, or below it.
fn session_call(request: &Request, below: &str, longest: Longest) -> Result<CallKind, HttpError> {
    match below {
        "" => {
            check_cookie(request)?;
            Ok(CallKind::Session { length: json_length(request, longest.first)? })
        }
        _ => {
            let shown = request.header("authorization").and_then(|value| value.split_once(' '));
            let token = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
            let token = token.map_or("", |(_, token)| token.trim()).into();
            Ok(CallKind::Messages { length: json_length(request, longest.list + ENVELOPE)?, token })
        }
    }
}

/// Bytes of a body that is JSON.
fn json_length(request: &Request, longest: usize) -> Result<usize, HttpError> {
    let kind = request.header("content-type").and_then(|value| value.split(';').next());
    if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(ONLY_JSON);
    }
    let length = request.content_length().ok_or(NO_LENGTH)?;
    usize::try_from(length).ok().filter(|length| *length <= longest).ok_or(TOO_LONG)
}

fn is_key(key: &str) -> bool {
    (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn history(request: &Request, channel: &str) -> Result<CallKind, HttpError> {
    if request.has_body() {
        return Err(BODY);
    }
    let (mut epoch, mut offset, mut most) = (None, None, None);
    for (name, value) in form_pairs(request.query().unwrap_or_default()) {
        let field = match name {
            "epoch" => &mut epoch,
            "offset" => &mut offset,
            "limit" => &mut most,
            _ => continue,
        };
        if field.replace(form_decode(value).ok_or(BAD_QUERY)?).is_some() {
            return Err(BAD_QUERY);
        }
    }
    let after = match (epoch, offset) {
        (None, None) => None,
        (Some(epoch), Some(offset)) => {
            let (epoch, offset) = (epoch.parse().ok(), offset.parse().ok());
            Some(epoch.zip(offset).map(|(epoch, offset)| Position { epoch, offset }).ok_or(BAD_QUERY)?)
        }
        _ => return Err(BAD_QUERY),
    };
    let most = most.map_or(Ok(HISTORY), |most| most.parse().map_err(|_| BAD_QUERY))?;
    if !(1..=MOST_HISTORY).contains(&most) {
        return Err(BAD_QUERY);
    }
    Ok(CallKind::History { channel: channel.into(), after, most })
}

/// The publications in the body of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publications {
    /// Where each of them is in the body.
    pub items: VecDeque<Range<usize>>,
    /// They are a list, and so is the answer.
    pub is_list: bool,
}

impl Publications {
    /// No publications.
    pub const fn none() -> Self {
        Self { items: VecDeque::new(), is_list: false }
    }

    /// Finds them in a body that is one JSON object, or a list of values, which are looked at later.
    ///
    /// # Errors
    /// Why the body is neither.
    pub fn find(body: &str) -> Result<Self, String> {
        if !body.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('[') {
            let whole = 0..body.len();
            return Ok(Self { items: [whole].into(), is_list: false });
        }
        let mut deserializer = serde_json::Deserializer::from_str(body);
        let items = deserializer.deserialize_seq(Items(body)).and_then(|items| {
            deserializer.end()?;
            Ok(items)
        });
        match items {
            Ok(Some(items)) => Ok(Self { items, is_list: true }),
            Ok(None) => Err(format!("a list has at most {MOST_ITEMS} items")),
            Err(error) => Err(format!("not acceptable JSON: {error}")),
        }
    }
}

/// Finds the items of a list in this text. `None` when there are too many: the rest is skipped.
struct Items<'a>(&'a str);

impl<'de> Visitor<'de> for Items<'de> {
    type Value = Option<VecDeque<Range<usize>>>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let mut items = VecDeque::new();
        while let Some(value) = values.next_element::<&'de RawValue>()? {
            if items.len() == MOST_ITEMS {
                while values.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            let start = value.get().as_ptr() as usize - self.0.as_ptr() as usize;
            items.push_back(start..start + value.get().len());
        }
        Ok(Some(items))
    }
}

/// Bytes of a list beside a message. So what a WebSocket takes can be posted, too.
const ENVELOPE: usize = 1024;

/// Where lists of messages are posted, below the path of sessions.
const MESSAGES: &str = "/messages";

/// RFC 9110 §11.4: what the token of a session is shown as.
const SCHEME: &str = "Umbel-Session";

/// Items of one call. Each is answered, also where it is shorter than its answer.
const MOST_ITEMS: usize = 1000;

/// Publications of a history, unless another number is asked for.
const HISTORY: usize = 100;
const MOST_HISTORY: usize = 1000;

/// In bytes of visible ASCII and spaces.
const LONGEST_KEY: usize = 255;

const GET: &str = "GET, OPTIONS";
const POST: &str = "POST, OPTIONS";
const ONLY_GET: HttpError =
    HttpError::new(405, "a history is asked for with GET").with_headers(&[("Allow", GET)]);
const ONLY_POST: HttpError =
    HttpError::new(405, "this is asked for with POST").with_headers(&[("Allow", POST)]);
const ONLY_JSON: HttpError = HttpError::new(415, "the body must be application/json");
const NO_LENGTH: HttpError = HttpError::new(411, "the body needs a Content-Length");
const TOO_LONG: HttpError = HttpError::new(413, "the body is too long").with_setting("max_message");
const BODY: HttpError = HttpError::new(400, "the request for a history has no body");
const COOKIE_ALONE: HttpError =
    HttpError::new(403, "with a cookie, the request must say which page made it (Origin or Sec-Fetch-Site)");
const BAD_KEY: HttpError =
    HttpError::new(400, "there must be one Idempotency-Key of 1 to 255 visible characters");
const BAD_QUERY: HttpError =
    HttpError::new(400, "a history takes ?epoch= and &offset= together, and limit= from 1 to 1000");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;
    use crate::protocol::http::{HeadLimits, HeadReader};

    const PATHS: CallPaths<'_> =
        CallPaths { publish: Some("/p"), history: Some("/h"), ticket: Some("/t"), session: Some("/s") };
    const JSON: &str = "Content-Type: application/json\r\nContent-Length: 2\r\n";

    fn judge(line: &str, headers: &str) -> Result<CallHead, u16> {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let (request, _) =
            HeadReader::default().read(head.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        assert!(PATHS.has(request.path()));
        PATHS
            .judge(&request, &Origins::Any, Longest { list: 10, first: 20 })
            .map_err(|(error, _)| error.status)
    }

    #[test]
    fn a_publish_is_json_of_a_known_length() {
        let kind = |headers: &str| match judge("POST /p", headers) {
            Ok(CallHead::Call(CallKind::Publish { length, key }, _)) => Ok((length, key)),
            Ok(other) => panic!("{other:?}"),
            Err(status) => Err(status),
        };
        assert_eq!(kind(JSON), Ok((2, None)));
        assert_eq!(kind(&JSON.replace("json", "JSON; charset=utf-8")), Ok((2, None)));
        assert_eq!(kind(&format!("{JSON}Idempotency-Key: a b\r\n")), Ok((2, Some("a b".into()))));
        let long = format!("{JSON}Idempotency-Key: {}\r\n", "k".repeat(256));
        for (headers, status) in [
            ("Content-Length: 2\r\n", 415),
            ("Content-Type: text/plain\r\nContent-Length: 2\r\n", 415),
            ("Content-Type: application/json\r\n", 411),
            ("Content-Type: application/json\r\nContent-Length: 11\r\n", 413),
            (&format!("{JSON}Idempotency-Key: a\r\nIdempotency-Key: a\r\n"), 400),
            (&format!("{JSON}Idempotency-Key: \r\n"), 400),
            (&long, 400),
            (&format!("{JSON}Cookie: a=b\r\n"), 403),
        ] {
            assert_eq!(kind(headers), Err(status), "{headers}");
        }
        assert!(kind(&format!("{JSON}Cookie: a=b\r\nSec-Fetch-Site: same-origin\r\n")).is_ok());
        assert_eq!(judge("GET /p", ""), Err(405));
        assert!(matches!(judge("OPTIONS /p", ""), Ok(CallHead::Preflight(POST, _))));
    }

    #[test]
    fn a_history_is_read_from_a_position_or_from_its_end() {
        let kind = |target: &str| match judge(&format!("GET /h/{target}"), "") {
            Ok(CallHead::Call(CallKind::History { channel, after, most }, _)) => Ok((channel, after, most)),
            Ok(other) => panic!("{other:?}"),
            Err(status) => Err(status),
        };
        assert_eq!(kind("a:1"), Ok(("a:1".into(), None, 100)));
        let epoch = Epoch::new(7);
        let after = Position { epoch, offset: 3 };
        assert_eq!(kind(&format!("a?epoch={epoch}&offset=3&limit=5")), Ok(("a".into(), Some(after), 5)));
        for query in [
            "epoch=x&offset=1",
            "offset=1",
            "epoch=0000000000000007",
            "limit=0",
            "limit=1001",
            "limit=1&limit=1",
        ] {
            assert_eq!(kind(&format!("a?{query}")), Err(400), "{query}");
        }
        assert_eq!(judge("POST /h/a", JSON), Err(405));
        assert_eq!(judge("GET /h/a", JSON), Err(400));
        assert!(matches!(judge("OPTIONS /h/a", ""), Ok(CallHead::Preflight(GET, _))));
        assert!(!PATHS.has("/h") && !PATHS.has("/p/a") && !PATHS.has("/ha"));
    }

    #[test]
    fn a_ticket_is_asked_for_without_a_body() {
        let is_asked = |headers: &str| match judge("POST /t", headers) {
            Ok(CallHead::Call(kind, _)) => Ok(kind == CallKind::Ticket),
            Ok(other) => panic!("{other:?}"),
            Err(status) => Err(status),
        };
        for headers in ["", "Content-Length: 0\r\n", "Cookie: a=b\r\nOrigin: http://a\r\n"] {
            assert_eq!(is_asked(headers), Ok(true), "{headers}");
        }
        assert_eq!((is_asked(JSON), is_asked("Cookie: a=b\r\n")), (Err(400), Err(403)));
        assert_eq!(judge("GET /t", ""), Err(405));
        assert!(matches!(judge("OPTIONS /t", ""), Ok(CallHead::Preflight(POST, _))) && !PATHS.has("/t/a"));
    }

    #[test]
    fn messages_of_a_session_name_it_and_its_first_one_may_be_longer() {
        let kind = |line: &str, headers: &str| match judge(line, headers) {
            Ok(CallHead::Call(kind, _)) => Ok(kind),
            Ok(other) => panic!("{other:?}"),
            Err(status) => Err(status),
        };
        let long = JSON.replace(" 2", " 20");
        assert_eq!(kind("POST /s", &long), Ok(CallKind::Session { length: 20 }));
        assert_eq!(kind("POST /s", &format!("{JSON}Cookie: a=b\r\n")), Err(403));
        assert_eq!(kind("POST /s", &JSON.replace(" 2", " 21")), Err(413));
        assert_eq!(kind("POST /s/messages", &JSON.replace(" 2", " 1035")), Err(413));
        for (shown, token) in [("Umbel-Session a.b", "a.b"), ("umbel-session  c ", "c"), ("Bearer d", "")] {
            let kind = kind("POST /s/messages", &format!("{JSON}Authorization: {shown}\r\n"));
            assert_eq!(kind, Ok(CallKind::Messages { length: 2, token: token.into() }));
        }
        assert_eq!((kind("GET /s", ""), kind("DELETE /s/messages", "")), (Err(405), Err(405)));
        assert!(!PATHS.has("/s/") && !PATHS.has("/s/messages/a") && !PATHS.has("/sa"));
    }

    #[test]
    fn a_body_is_one_publication_or_a_list() {
        let one = Publications::find(" {\"a\":1}").unwrap();
        let whole = 0..8;
        assert_eq!((one.items, one.is_list), ([whole].into(), false));
        let body = r#" [ {"a":1} ,2]"#;
        let list = Publications::find(body).unwrap();
        let texts: Vec<_> = list.items.iter().map(|range| &body[range.clone()]).collect();
        assert_eq!((texts, list.is_list), (vec![r#"{"a":1}"#, "2"], true));
        assert!(Publications::find("[]").unwrap().items.is_empty());
        for wrong in ["[", "[1] 2", "[1,]"] {
            assert!(Publications::find(wrong).is_err(), "{wrong}");
        }
        let many = |count| format!("[{}]", vec!["1"; count].join(","));
        assert_eq!(Publications::find(&many(1000)).unwrap().items.len(), 1000);
        assert!(Publications::find(&many(1001)).unwrap_err().contains("1000"));
    }
}
