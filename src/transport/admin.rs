//! The listener for operators. A thread of its own answers `/metrics` and shows the dashboard, so neither a busy shard nor a blocked
//! interpreter delays it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, LocalSet, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::moment::Moment;
use crate::protocol::hosts::{Hosts, Reach};
use crate::protocol::http::{HeadLimits, HeadReader, HttpError, Method, Request, endless_head, response};
use crate::session::RateLimit;
use crate::transport::dashboard::{Dashboard, Place, send};
use crate::transport::events::Level;
use crate::transport::repeated::RepeatedKinds;
use crate::transport::shared::{Page, Shared};
use crate::transport::{metrics, process};

/// A listener for operators that is bound.
#[derive(Debug)]
pub(crate) struct Admin {
    runtime: Runtime,
    listener: tokio::net::TcpListener,
    gate: Gate,
}

/// Who may ask.
#[derive(Debug)]
struct Gate {
    /// `None`: the listener can be reached from a network, where the token decides.
    hosts: Option<Hosts>,
    token: Option<String>,
    /// When the process was started, if the system says it.
    started: Option<f64>,
    /// Requests that were refused, for the log.
    refused: RepeatedKinds<1>,
    /// Wrong tokens.
    failures: Cell<RateLimit>,
    /// Held by each answer about a wrong token that is kept back.
    kept_back: Arc<()>,
}

/// What is done about a request.
enum Answer {
    /// These bytes are sent, and that is all.
    Whole(Vec<u8>),
    /// The same, after a pause.
    KeptBack(Vec<u8>, Arc<()>),
    /// A stream begins with these bytes.
    Stream(Place, Vec<u8>),
}

impl Admin {
    /// Binds what the configuration names, if it names something.
    ///
    /// # Errors
    /// What the system says: the address is in use, needs privileges, or does not exist here.
    pub fn bind(config: &Config) -> io::Result<Option<Self>> {
        let Some((host, port)) = config.admin_address() else { return Ok(None) };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let listener = std::net::TcpListener::bind((bare, port))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let watching = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        drop(watching);
        let is_near = Reach::of(host) == Reach::Loopback;
        let hosts = is_near.then(|| Hosts::new(Reach::Loopback, &config.allowed_hosts));
        let gate = Gate {
            hosts,
            token: config.admin_token.clone(),
            started: process::started(),
            refused: RepeatedKinds::default(),
            failures: Cell::default(),
            kept_back: Arc::default(),
        };
        Ok(Some(Self { runtime, listener, gate }))
    }

    /// Where it listens: `http://127.0.0.1:8001`.
    pub fn address(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.listener.local_addr()?))
    }

    /// Answers until the server has ended. It has a thread for itself.
    pub fn run(self, shared: &Arc<Shared>) {
        let desk =
            Desk { gate: self.gate, dashboard: Rc::new(Dashboard::new(shared)), shared: Arc::clone(shared) };
        LocalSet::new().block_on(&self.runtime, async {
            spawn_local(accept(self.listener, Rc::new(desk)));
            shared.ended.notified().await;
        });
    }
}

/// What all requests are answered with.
struct Desk {
    gate: Gate,
    dashboard: Rc<Dashboard>,
    shared: Arc<Shared>,
}

/// Accepts for ever. It ends with its runtime, as all connections do.
async fn accept(listener: tokio::net::TcpListener, desk: Rc<Desk>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // No descriptors, or a connection that has gone already.
            sleep(FAILED_PAUSE).await;
            continue;
        };
        open.retain(|task| !task.is_finished());
        if open.len() == MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let desk = Rc::clone(&desk);
        let task = spawn_local(async move {
            // One that breaks off, or is too slow, is gone.
            let _ = timeout(TIME_LIMIT, answer(stream, from, &desk)).await;
        });
        open.push_back(task.abort_handle());
        // It is heard before others come, so that many at once do not end each other unheard.
        yield_now().await;
    }
}

/// Reads a request and answers it. What takes longer becomes another task, which keeps no other connection out.
async fn answer(stream: TcpStream, from: SocketAddr, desk: &Desk) -> io::Result<()> {
    let (mut head, mut reader) = (Vec::new(), HeadReader::default());
    let answer = loop {
        if read(&stream, &mut head).await? == 0 {
            return Ok(());
        }
        match reader.read(&head, &HeadLimits::default()) {
            Ok(None) => {}
            Ok(Some((request, _))) => break desk.respond(&request, from),
            Err(error) => break Answer::Whole(error.to_response_with(SECURITY)),
        }
    };
    match answer {
        Answer::Whole(bytes) => return finish(&stream, &bytes).await,
        Answer::KeptBack(bytes, place) => {
            spawn_local(async move {
                sleep(FAILURE_PAUSE).await;
                let _ = timeout(TIME_LIMIT, finish(&stream, &bytes)).await;
                drop(place);
            });
        }
        Answer::Stream(place, head) => drop(spawn_local(place.stream(stream, head))),
    }
    Ok(())
}

/// Sends the last bytes, and waits for the end of the peer.
async fn finish(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    send(stream, bytes).await?;
    socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)?;
    // What still comes is read. Otherwise the kernel answers it with a reset, which takes our last bytes from the peer.
    let mut rest = Vec::new();
    while read(stream, &mut rest).await? > 0 {
        rest.clear();
    }
    Ok(())
}

/// Appends what comes next. Returns how much that was.
async fn read(stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            Ok(count) => {
                into.extend_from_slice(&chunk[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl Desk {
    fn respond(&self, request: &Request, from: SocketAddr) -> Answer {
        let answered = self.check(request).and_then(|page| self.find(request, page));
        answered.unwrap_or_else(|error| {
            if matches!(error.status, 401 | 403) {
                self.gate.log(&error, from, &self.shared);
            }
            let now = self.shared.clock.now();
            if error.status == 401 { self.gate.pace(error, now) } else { whole(error) }
        })
    }

    /// Whether somebody may ask for this at all. Returns the part of the dashboard's page that is asked for: it has nothing secret, and its
    /// reader types the token in there.
    fn check(&self, request: &Request) -> Result<Option<&Page>, HttpError> {
        self.gate.check_host(request)?;
        let page = self.shared.pages.get(&[Page::OF_OPERATORS, request.path()].concat());
        if page.is_none() {
            self.gate.check_token(request)?;
        }
        if page.is_none() && !self.has(request.path()) {
            return Err(HttpError::NOT_FOUND);
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return Err(ONLY_GET);
        }
        if request.has_body() { Err(HttpError::BODY_TOO_LONG) } else { Ok(page) }
    }

    fn has(&self, path: &str) -> bool {
        path == "/metrics" || path == "/stats" && self.shared.pages.contains_key(DASHBOARD)
    }

    /// Answers a request that was checked.
    fn find(&self, request: &Request, page: Option<&Page>) -> Result<Answer, HttpError> {
        let is_head = request.method() == Method::Head;
        if let Some(page) = page {
            let headers = page.headers.iter().map(|(name, value)| (&**name, &**value));
            return full(headers, &page.body, is_head);
        }
        if request.path() == "/stats" {
            return self.stream(request, is_head);
        }
        let text = metrics::text(&self.shared, self.gate.started);
        full([("Content-Type", metrics::CONTENT_TYPE)], text.as_bytes(), is_head)
    }

    fn stream(&self, request: &Request, is_head: bool) -> Result<Answer, HttpError> {
        let site = request.header("sec-fetch-site");
        if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            // It could not read the stream, but take its place.
            return Err(OTHER_SITE);
        }
        // A proxy of nginx would gather events otherwise.
        let own = [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no")];
        let headers: Vec<_> = own.into_iter().chain(SECURITY).collect();
        let head = endless_head(&headers, false);
        if is_head {
            return Ok(Answer::Whole(head));
        }
        Ok(Answer::Stream(self.dashboard.place().ok_or(TOO_MANY_STREAMS)?, head))
    }
}

fn whole(error: HttpError) -> Answer {
    Answer::Whole(error.to_response_with(SECURITY))
}

fn full<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    is_head: bool,
) -> Result<Answer, HttpError> {
    let headers: Vec<_> = headers.into_iter().chain(SECURITY).collect();
    let mut bytes = response(200, &headers, body).ok_or(HttpError::INTERNAL)?;
    if is_head {
        bytes.truncate(bytes.len() - body.len());
    }
    Ok(Answer::Whole(bytes))
}

impl Gate {
    fn check_host(&self, request: &Request) -> Result<(), HttpError> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let is_known = request.host().is_some_and(|host| hosts.knows(host));
        if is_known { Ok(()) } else { Err(UNKNOWN_HOST) }
    }

    fn check_token(&self, request: &Request) -> Result<(), HttpError> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = request.header("authorization").and_then(|value| value.split_once(' '));
        let is_right = given.is_some_and(|(scheme, given)| {
            let given = given.trim_start_matches(' ').as_bytes();
            scheme.eq_ignore_ascii_case("bearer") && bool::from(token.as_bytes().ct_eq(given))
        });
        if is_right { Ok(()) } else { Err(NO_TOKEN) }
    }

    /// How somebody is told that a token is wrong. Whoever tries one after the other waits for each. Nobody else does: a right token is
    /// never kept back, and those that are wait in places of their own.
    fn pace(&self, error: HttpError, now: Moment) -> Answer {
        let mut failures = self.failures.get();
        let is_rare = failures.allows(1, FAILURES_PER_SECOND, FAILURES_BURST, now);
        self.failures.set(failures);
        if is_rare {
            whole(error)
        } else if Arc::strong_count(&self.kept_back) <= MOST_KEPT_BACK {
            Answer::KeptBack(error.to_response_with(SECURITY), Arc::clone(&self.kept_back))
        } else {
            whole(TOO_MANY_FAILURES)
        }
    }

    fn log(&self, error: &HttpError, from: SocketAddr, shared: &Shared) {
        if let Some(count) = self.refused.note(0, shared.clock.now()) {
            let HttpError { status, reason, setting, .. } = error;
            let setting = setting.unwrap_or("admin");
            let line = format!(
                "admin requests refused: {count}, the last one from {from}, with {status}: {reason} (setting {setting})"
            );
            shared.log(Level::Warning, line);
        }
    }
}

/// Its page is here if there is a dashboard.
const DASHBOARD: &str = "operators:/dashboard";

/// Everything that is answered may be shown by its own page only, and kept by nobody.
const SECURITY: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
];

const UNKNOWN_HOST: HttpError =
    HttpError::new(403, "this listener does not answer to this host name").with_setting("allowed_hosts");
const NO_TOKEN: HttpError = HttpError::new(401, "a bearer token is needed here")
    .with_headers(&[("WWW-Authenticate", "Bearer")])
    .with_setting("admin_token");
const TOO_MANY_FAILURES: HttpError =
    HttpError::new(429, "too many wrong tokens").with_headers(&[("Retry-After", "1")]);
const OTHER_SITE: HttpError = HttpError::new(403, "pages of other sites are shown nothing");
const TOO_MANY_STREAMS: HttpError =
    HttpError::new(503, "too many dashboards are open").with_headers(&[("Retry-After", "10")]);
const ONLY_GET: HttpError =
    HttpError::new(405, "only GET and HEAD are answered here").with_headers(&[("Allow", "GET, HEAD")]);

/// One more ends the oldest: it has had its time, and a scraper that hangs must not keep others out.
const MOST_CONNECTIONS: usize = 32;

/// From the accept to the end of the connection. Prometheus itself waits for 10 s.
const TIME_LIMIT: Duration = Duration::from_secs(5);

const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// Wrong tokens in a second, of all peers together, that are answered at once.
const FAILURES_PER_SECOND: u32 = 5;

/// 20 at once.
const FAILURES_BURST: Duration = Duration::from_secs(4);

/// For which the answers about others are kept back.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Answers that are kept back at a time. About more than that, nothing is kept: they cost less than the wait.
const MOST_KEPT_BACK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_are_answered_ever_more_slowly_and_then_in_short() {
        let gate = Gate {
            hosts: None,
            token: Some("right".to_owned()),
            started: None,
            refused: RepeatedKinds::default(),
            failures: Cell::default(),
            kept_back: Arc::default(),
        };
        let now = Moment::default() + Duration::from_secs(60);
        let status = |answer: &Answer| match answer {
            Answer::Whole(bytes) => String::from_utf8_lossy(&bytes[9..12]).into_owned(),
            Answer::KeptBack(bytes, _) => format!("{}, later", String::from_utf8_lossy(&bytes[9..12])),
            Answer::Stream(..) => unreachable!(),
        };
        let mut answers: Vec<_> = (0..60).map(|_| gate.pace(NO_TOKEN, now)).collect();
        assert!(answers[..20].iter().all(|answer| status(answer) == "401"));
        assert!(answers[20..52].iter().all(|answer| status(answer) == "401, later"));
        assert!(answers[52..].iter().all(|answer| status(answer) == "429"));
        answers.clear();
        assert_eq!(status(&gate.pace(NO_TOKEN, now)), "401, later");
        assert_eq!(status(&gate.pace(NO_TOKEN, now + Duration::from_secs(1))), "401");
    }
}
