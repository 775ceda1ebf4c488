//! The listener for operators. A thread of its own answers `/metrics`, so neither a busy shard nor a blocked interpreter delays it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::protocol::hosts::{Hosts, Reach};
use crate::protocol::http::{HeadLimits, HeadReader, HttpError, Method, Request, response};
use crate::transport::events::Level;
use crate::transport::repeated::RepeatedKinds;
use crate::transport::shared::Shared;
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
        let (token, refused) = (config.admin_token.clone(), RepeatedKinds::default());
        let gate = Gate { hosts, token, started: process::started(), refused };
        Ok(Some(Self { runtime, listener, gate }))
    }

    /// Where it listens: `http://127.0.0.1:8001`.
    pub fn address(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.listener.local_addr()?))
    }

    /// Answers until the server has ended. It has a thread for itself.
    pub fn run(self, shared: &Arc<Shared>) {
        LocalSet::new().block_on(&self.runtime, async {
            spawn_local(accept(self.listener, Rc::new(self.gate), Arc::clone(shared)));
            shared.ended.notified().await;
        });
    }
}

/// Accepts for ever. It ends with its runtime, as all connections do.
async fn accept(listener: tokio::net::TcpListener, gate: Rc<Gate>, shared: Arc<Shared>) {
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
        let (gate, shared) = (Rc::clone(&gate), Arc::clone(&shared));
        let task = spawn_local(async move {
            // One that breaks off, or is too slow, is gone.
            let _ = timeout(TIME_LIMIT, answer(&stream, from, &gate, &shared)).await;
        });
        open.push_back(task.abort_handle());
    }
}

/// Reads a request and answers it.
async fn answer(stream: &TcpStream, from: SocketAddr, gate: &Gate, shared: &Shared) -> io::Result<()> {
    let (mut head, mut reader) = (Vec::new(), HeadReader::default());
    let bytes = loop {
        if read(stream, &mut head).await? == 0 {
            return Ok(());
        }
        match reader.read(&head, &HeadLimits::default()) {
            Ok(None) => {}
            Ok(Some((request, _))) => break gate.respond(&request, from, shared),
            Err(error) => break error.to_response(),
        }
    };
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)?;
    // What still comes is read. Otherwise the kernel answers it with a reset, which takes our last bytes from the peer.
    while read(stream, &mut head).await? > 0 {
        head.clear();
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

impl Gate {
    fn respond(&self, request: &Request, from: SocketAddr, shared: &Shared) -> Vec<u8> {
        let answered = self.check(request).inspect_err(|error| self.log(error, from, shared));
        let answered = answered.and_then(|()| find(request, shared, self.started));
        answered.unwrap_or_else(HttpError::to_response)
    }

    /// Whether somebody may ask for anything at all.
    fn check(&self, request: &Request) -> Result<(), HttpError> {
        if self.hosts.as_ref().is_some_and(|hosts| !request.host().is_some_and(|host| hosts.knows(host))) {
            return Err(UNKNOWN_HOST);
        }
        let Some(token) = &self.token else { return Ok(()) };
        let given = request.header("authorization").and_then(|value| value.split_once(' '));
        let is_right = given.is_some_and(|(scheme, given)| {
            let given = given.trim_start_matches(' ').as_bytes();
            scheme.eq_ignore_ascii_case("bearer") && bool::from(token.as_bytes().ct_eq(given))
        });
        if is_right { Ok(()) } else { Err(NO_TOKEN) }
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

fn find(request: &Request, shared: &Shared, started: Option<f64>) -> Result<Vec<u8>, HttpError> {
    if request.path() != "/metrics" {
        return Err(HttpError::NOT_FOUND);
    }
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Err(ONLY_GET);
    }
    if request.has_body() {
        return Err(HttpError::BODY_TOO_LONG);
    }
    let body = metrics::text(shared, started);
    let headers = [("Content-Type", metrics::CONTENT_TYPE), ("Cache-Control", "no-store")];
    let mut bytes = response(200, &headers, body.as_bytes()).ok_or(HttpError::INTERNAL)?;
    if request.method() == Method::Head {
        bytes.truncate(bytes.len() - body.len());
    }
    Ok(bytes)
}

const UNKNOWN_HOST: HttpError =
    HttpError::new(403, "this listener does not answer to this host name").with_setting("allowed_hosts");
const NO_TOKEN: HttpError = HttpError::new(401, "a bearer token is needed here")
    .with_headers(&[("WWW-Authenticate", "Bearer")])
    .with_setting("admin_token");
const ONLY_GET: HttpError =
    HttpError::new(405, "only GET and HEAD are answered here").with_headers(&[("Allow", "GET, HEAD")]);

/// One more ends the oldest: it has had its time, and a scraper that hangs must not keep others out.
const MOST_CONNECTIONS: usize = 32;

/// From the accept to the end of the connection. Prometheus itself waits for 10 s.
const TIME_LIMIT: Duration = Duration::from_secs(5);

const FAILED_PAUSE: Duration = Duration::from_millis(100);
