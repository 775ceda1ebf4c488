//! Listening sockets, and how accepted ones reach their shard.

use std::cell::RefCell;
use std::fs::Permissions;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, TcpKeepalive, Type};

use crate::config::Config;
use crate::protocol::http::HttpError;
use crate::refusal::Refusal;
use crate::transport::addresses::Counted;
use crate::transport::commands::{Accepted, Command};
use crate::transport::connections::Connections;
use crate::transport::drive;
use crate::transport::events::Level;
use crate::transport::http::{CROWDED, FULL};
use crate::transport::io::Stream;
use crate::transport::latecomers::Latecomers;
use crate::transport::repeated::Repeated;
use crate::transport::shared::Shared;

/// A bound, listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// Dropped in this order: the name goes first. Otherwise a successor could take the name over, and we would remove it.
    Unix(SocketFile, UnixListener),
}

impl Listener {
    /// Binds what the configuration names. With `reuse_port` there is one listener per shard.
    ///
    /// # Errors
    /// What the system says: the address is in use, needs privileges, or does not exist here.
    pub fn bind(config: &Config, shards: usize) -> io::Result<Vec<Self>> {
        if let Some(path) = &config.unix_socket {
            return Ok(vec![Self::bind_unix(path, config)?]);
        }
        // The first one shares the port only after it listens. So it fails when another server has the port, even if that
        // one shares it: each of the two would get a part of the connections, and no client would notice.
        let first = Self::bind_tcp(resolve(&config.host, config.port)?, config, false)?;
        // Port 0: the others take the port that the first one was given.
        let address = first.local_addr()?;
        let mut listeners = vec![Self::Tcp(first)];
        if config.reuse_port {
            for _ in 1..shards {
                listeners.push(Self::Tcp(Self::bind_tcp(address, config, true)?));
            }
        }
        Ok(listeners)
    }

    fn bind_tcp(address: SocketAddr, config: &Config, shares_port: bool) -> io::Result<TcpListener> {
        let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if shares_port {
            socket.set_reuse_port(true)?;
        }
        // Accepted sockets inherit these on Linux, which saves a system call each per connection.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        socket.set_send_buffer_size(config.send_buffer.unwrap_or(SEND_BUFFER))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(config.backlog)?;
        if config.reuse_port {
            socket.set_reuse_port(true)?;
        }
        Ok(socket.into())
    }

    fn bind_unix(path: &str, config: &Config) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        if is_left_over(path, &address)? {
            std::fs::remove_file(path)?;
        }
        let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address)?;
        let file = SocketFile(path.to_owned());
        // Nobody can connect before `listen`. The umask is of the whole process, so it is left alone.
        if let Some(mode) = config.unix_socket_mode {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(config.backlog)?;
        Ok(Self::Unix(file, socket.into()))
    }

    /// Where clients reach it: `http://127.0.0.1:8000`, `https://[::1]:8443` or `unix:/run/umbel.sock`.
    pub fn address(&self, secure: bool) -> io::Result<String> {
        let scheme = if secure { "https" } else { "http" };
        Ok(match self {
            Self::Tcp(listener) => format!("{scheme}://{}", listener.local_addr()?),
            Self::Unix(SocketFile(path), _) => format!("unix:{path}"),
        })
    }

    /// Lets the runtime of the calling thread watch it.
    fn accepting(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => Accepting::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(file, listener) => {
                Accepting::Unix(file, tokio::net::UnixListener::from_std(listener)?)
            }
        })
    }
}

/// A listener that belongs to a runtime.
enum Accepting {
    Tcp(tokio::net::TcpListener),
    /// Dropped in this order, as in [`Listener`].
    Unix(#[expect(dead_code, reason = "held for its Drop")] SocketFile, tokio::net::UnixListener),
}

impl Accepting {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Newcomer>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, peer)| Newcomer { stream: Stream::Tcp(stream), peer: Some(peer) }),
            Self::Unix(_, listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, _)| Newcomer { stream: Stream::Unix(stream), peer: None }),
        }
    }

    /// As `poll_accept`, without waiting. `None` when no connection waits.
    async fn accept_nowait(&self) -> Option<io::Result<Newcomer>> {
        poll_fn(|cx| match self.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

/// A connection that no shard has yet.
struct Newcomer {
    stream: Stream,
    /// `None` on a Unix socket.
    peer: Option<SocketAddr>,
}

/// The name of a Unix socket. Removed when nobody listens there any more.
#[derive(Debug)]
pub(crate) struct SocketFile(String);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a path is a socket on which nobody listens any more, left over from a process that was killed.
///
/// # Errors
/// When the path is something else, which is not ours to remove.
fn is_left_over(path: &str, address: &SockAddr) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => {
            let text = "what has this name is not a socket; remove it, or listen on another path";
            return Err(io::Error::new(ErrorKind::AlreadyExists, text));
        }
        // Most likely the path is free. `bind` reports anything else.
        Err(_) => return Ok(false),
    }
    let probe = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    // A blocking socket would wait for a listener whose backlog is full.
    probe.set_nonblocking(true)?;
    Ok(probe.connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    (bare, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(ErrorKind::AddrNotAvailable, format!("{host} has no address")))
}

/// Accepts connections and hands each to the least-loaded shard, with `spread` to its own. Ends when the server drains.
pub(crate) async fn serve(
    listener: Listener,
    connections: Rc<RefCell<Connections>>,
    spread: bool,
) -> io::Result<()> {
    let shared = Arc::clone(&connections.borrow().shared);
    let mut reserve = Reserve::new();
    let mut failed = Repeated::default();
    let mut failures = 0;
    let listener = listener.accepting()?;
    let mut entrance = Entrance { connections, spread, latecomers: Latecomers::default() };
    loop {
        // Bounded, so that a storm of connects does not keep the flush waiting.
        for _ in 0..ACCEPTS_PER_TURN {
            // The others wait in the kernel until one of those was told.
            while shared.tls.is_none()
                && shared.is_full()
                && !shared.excess.has_room()
                && !shared.is_draining()
            {
                tokio::time::sleep(FULL_PAUSE).await;
            }
            let accepted = match poll_fn(|cx| listener.poll_accept(cx)).await {
                Err(error) if is_exhaustion(&error) => reserve.accept(&listener, &entrance, error).await,
                accepted => accepted.map(Some),
            };
            if shared.is_draining() {
                return Ok(());
            }
            match accepted {
                Ok(newcomer) => {
                    failures = 0;
                    if let Some(newcomer) = newcomer {
                        entrance.admit(newcomer, &shared);
                    }
                }
                Err(error) if is_exhaustion(&error) => {
                    complain(&mut failed, &shared, &error);
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Err(error) => {
                    // A single error mostly means that one connection went before it was accepted. Errors of the listener
                    // itself come in a row.
                    failures += 1;
                    if failures > 1 {
                        complain(&mut failed, &shared, &error);
                    }
                    tokio::time::sleep(FAILED_PAUSE * (1 << failures.min(LONGEST_FAILED_PAUSE))).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Hands accepted connections to their shards.
struct Entrance {
    /// The connections of the shard that accepts.
    connections: Rc<RefCell<Connections>>,
    /// Every shard accepts for itself.
    spread: bool,
    latecomers: Latecomers,
}

impl Entrance {
    /// Hands a socket to a shard, or turns it away.
    fn admit(&mut self, newcomer: Newcomer, shared: &Arc<Shared>) {
        let Newcomer { stream, peer } = newcomer;
        let at = shared.clock.now();
        let turn_away = |reason| {
            let from = || peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
            self.connections.borrow().refuse_request(from, &reason, None);
            refuse(&stream, shared, reason);
        };
        let (counted, mut limit) = match shared.addresses.count(peer) {
            Some(counted) => (counted, None),
            None => (Counted::default(), Some(CROWDED)),
        };
        if limit.is_none() && shared.is_full() {
            let mut connections = self.connections.borrow_mut();
            connections.update_now();
            limit = (!self.latecomers.make_room(&mut connections)).then_some(FULL);
        }
        let excess = match limit {
            None => None,
            // TLS would be negotiated first. Clients understand the alert.
            Some(reason) => match shared.excess.take(reason).filter(|_| shared.tls.is_none()) {
                Some(excess) => Some(excess),
                None => return turn_away(reason),
            },
        };
        let own = self.connections.borrow().index;
        let load = |&index: &usize| shared.loads[index].load(Ordering::Relaxed);
        let least_loaded = || (0..shared.loads.len()).min_by_key(load).unwrap_or(own);
        let target = if self.spread { own } else { least_loaded() };
        shared.loads[target].fetch_add(1, Ordering::Relaxed);
        if target == own {
            return drive::accept(&self.connections, stream, drive::Newcomer { counted, excess, at });
        }
        match stream.into_socket() {
            Ok(socket) => {
                shared.commands[target].push(Command::Accepted(Accepted { socket, counted, excess, at }));
            }
            Err(error) => self.connections.borrow().refuse_socket(target, &error),
        }
    }
}

/// Tells a client why it is turned away. Nothing was read from its socket.
fn refuse(stream: &Stream, shared: &Shared, reason: HttpError) {
    let socket = socket2::SockRef::from(stream);
    // Best effort. A fresh socket has an empty buffer, so this nearly always leaves.
    let _ = if shared.tls.is_some() { socket.send(TLS_ALERT) } else { socket.send(&reason.to_response()) };
}

fn is_exhaustion(error: &io::Error) -> bool {
    let known = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|number| known.contains(&number))
}

/// A spare descriptor. When there is no other, we use it to accept one connection and tell it so.
struct Reserve(Option<RawSocket>);

impl Reserve {
    fn new() -> Self {
        Self(RawSocket::new(Domain::UNIX, Type::DGRAM, None).ok())
    }

    /// Accepts with the spare descriptor, after an accept that had none.
    ///
    /// Returns `None` when no connection waits: the kernel looks for a descriptor before it looks for a connection, so the
    /// first error did not say whether one waits. A connection that is returned may stay: a descriptor has become free.
    ///
    /// # Errors
    /// The error that was given: no descriptor became free. The connection that waited longest has already been told.
    async fn accept(
        &mut self,
        listener: &Accepting,
        entrance: &Entrance,
        error: io::Error,
    ) -> io::Result<Option<Newcomer>> {
        self.0 = None;
        let accepted = listener.accept_nowait().await.transpose();
        *self = Self::new();
        if let Ok(Some(newcomer)) = &accepted
            && self.0.is_none()
        {
            let connections = entrance.connections.borrow();
            // The line about it is that of `complain`.
            connections.counters.refuse(Refusal::NoDescriptor);
            refuse(&newcomer.stream, &connections.shared, FULL);
            drop(accepted);
            *self = Self::new();
            return Err(error);
        }
        accepted
    }
}

/// Logs what is wrong, but not too often.
fn complain(failed: &mut Repeated, shared: &Shared, error: &io::Error) {
    failed.note();
    if failed.due(shared.clock.now()).is_some() {
        let advice = if is_exhaustion(error) { EXHAUSTED_ADVICE } else { "" };
        let open = shared.connections();
        shared.log(Level::Error, format!("can't accept connections: {error}; {open} are open{advice}"));
    }
}

/// Bytes that the kernel may hold for one connection, unless the configuration says otherwise (`SO_SNDBUF`; Linux doubles it
/// for its bookkeeping). The kernel's own choice goes up to 4 MiB: a slow reader would be that far behind before anybody
/// notices, and 560 of them would use up the buffers of the whole machine.
const SEND_BUFFER: usize = 128 * 1024;

/// While a client is not read, its end waits behind what it has sent, and no heartbeat finds out that it is gone.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));

const ACCEPTS_PER_TURN: usize = 64;

/// Between two looks whether a connection of a full server can be told so.
const FULL_PAUSE: Duration = Duration::from_millis(5);

const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const EXHAUSTED_ADVICE: &str =
    ". Raise the limit of open files (ulimit -n); accepting again when descriptors are free";

/// Doubled with every failure in a row, at most ten times: about a second.
const FAILED_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_FAILED_PAUSE: u32 = 10;

/// A fatal `internal_error` (RFC 8446 §6.2): all that a client can be told before the handshake.
const TLS_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];
