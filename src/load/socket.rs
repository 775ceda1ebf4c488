//! Sockets of the load, and when they are ready.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockRef, Type};

use crate::load::tls;

/// A connection to the server, with TLS or without.
pub struct Socket {
    pub tcp: TcpStream,
    pub tls: Option<Box<ClientConnection>>,
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.read(buffer),
            Some(tls) => tls::read(tls, &mut self.tcp, buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => tls::write(tls, &mut self.tcp, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls::flush(tls, &mut self.tcp))
    }
}

/// Begins a connect that does not wait, from a source address if that is given.
pub fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(address) };
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Makes the following close send a reset, so that no port stays in `TIME_WAIT`.
pub fn reset_on_close(socket: &Socket) {
    // Failing leaves an ordinary close.
    let _ = SockRef::from(&socket.tcp).set_linger(Some(Duration::ZERO));
}

pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Whether the peer has closed or reset the connection; reads nothing.
pub fn hung_up(socket: &Socket) -> bool {
    use rustix::event::{PollFd, poll};
    let mut asked = [PollFd::new(&socket.tcp, HANG_UP)];
    let nothing = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&nothing)).is_ok_and(|ready| ready > 0)
}

/// What the load waits for. Edge-triggered.
pub struct Readiness {
    poll: Poll,
    events: Events,
}

/// One event of a connection.
#[derive(Clone, Copy)]
pub struct Ready {
    pub index: usize,
    pub readable: bool,
    pub writable: bool,
    /// The peer has ended it, or it has failed: it is read to its end.
    pub hang_up: bool,
}

impl Readiness {
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(256) })
    }

    /// A waker, so that another thread can end the waiting.
    pub fn waker(&self) -> io::Result<mio::Waker> {
        mio::Waker::new(self.poll.registry(), WAKER)
    }

    pub fn add(&self, socket: &mut TcpStream, index: usize) -> io::Result<()> {
        self.poll.registry().register(socket, Token(index), Interest::READABLE | Interest::WRITABLE)
    }

    pub fn remove(&self, socket: &mut Socket) {
        // Removing what is not there does no harm.
        let _ = self.poll.registry().deregister(&mut socket.tcp);
    }

    /// Waits for events, at most so many nanoseconds; a wait that is not over is as long as the next millisecond.
    pub fn wait(&mut self, nanoseconds: u64) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(nanoseconds))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes what the wait has found.
    pub fn take(&self, out: &mut Vec<Ready>) {
        out.clear();
        out.extend(self.events.iter().filter(|event| event.token() != WAKER).map(ready));
    }
}

fn ready(event: &Event) -> Ready {
    let hang_up = event.is_read_closed() || event.is_write_closed() || event.is_error();
    Ready { index: event.token().0, readable: event.is_readable(), writable: event.is_writable(), hang_up }
}

/// Reported whether asked for or not, except for the first.
#[cfg(target_os = "linux")]
const HANG_UP: rustix::event::PollFlags = rustix::event::PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const HANG_UP: rustix::event::PollFlags = rustix::event::PollFlags::HUP;

const WAKER: Token = Token(usize::MAX);
