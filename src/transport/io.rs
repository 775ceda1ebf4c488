//! One byte stream: TCP or a Unix socket, with TLS on top or without.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A non-blocking socket that belongs to no runtime yet.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A socket that belongs to the runtime of this thread.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A byte stream that belongs to the runtime of its shard.
#[derive(Debug)]
pub(crate) struct Io {
    /// `None` between two parts of a stream: nothing comes, and nothing is taken.
    stream: Option<Stream>,
    tls: Option<Box<ServerConnection>>,
    /// Bytes of TLS that came since the last plain text. rustls may hold them all.
    undeciphered: usize,
}

/// An [`Io`] that belongs to no runtime.
#[derive(Debug)]
pub(crate) struct Detached {
    socket: Socket,
    tls: Option<Box<ServerConnection>>,
    undeciphered: usize,
}

impl Io {
    pub fn new(stream: Stream, tls: Option<Box<ServerConnection>>) -> Self {
        Self { stream: Some(stream), tls, undeciphered: 0 }
    }

    /// What a connection has between two parts of a stream.
    pub fn none() -> Self {
        Self { stream: None, tls: None, undeciphered: 0 }
    }

    /// Whether it is [`Io::none`].
    pub fn is_none(&self) -> bool {
        self.stream.is_none()
    }

    pub fn peer(&self) -> String {
        match &self.stream {
            Some(Stream::Tcp(stream)) => {
                stream.peer_addr().map_or_else(|_| "unknown".into(), |peer| peer.to_string())
            }
            Some(Stream::Unix(_)) => "unix".into(),
            None => "unknown".into(),
        }
    }

    /// Takes it away from the runtime of this thread.
    pub fn detach(self) -> io::Result<Detached> {
        let Self { stream, tls, undeciphered } = self;
        let stream = stream.ok_or(ErrorKind::NotConnected)?;
        Ok(Detached { socket: stream.into_socket()?, tls, undeciphered })
    }

    /// Gives it to the runtime of this thread.
    pub fn attach(detached: Detached) -> io::Result<Self> {
        let Detached { socket, tls, undeciphered } = detached;
        Ok(Self { stream: Some(Stream::new(socket)?), tls, undeciphered })
    }

    /// The address of the other end. `None` for a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.stream {
            Some(Stream::Tcp(stream)) => Some(stream.peer_addr().ok()?.ip()),
            Some(Stream::Unix(_)) | None => None,
        }
    }

    /// Ends a connection whose other end has confirmed nothing for this long, although bytes went to it. Where the system can't do
    /// that, its own patience counts: a quarter of an hour on most.
    pub fn limit_silence(&self, time: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(Stream::Tcp(stream)) = &self.stream {
            // A connection that has ended meanwhile shows that itself.
            let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(time));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = time;
    }

    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS is being negotiated. Nothing can be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether the other side has ended, whatever waits to be read before that end.
    pub fn is_ended(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        let mut polled = [PollFd::new(stream, ENDED)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok()
            && polled[0].revents().intersects(ENDED | PollFlags::HUP | PollFlags::ERR)
    }

    /// Reads what is there. `Ok(0)` is the end. After `Pending`, the task is woken when there is more.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let Some(tls) = &mut self.tls else { return stream.poll_read(cx, buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer went without close_notify. What came before is complete, as with plain TCP.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                done => return Poll::Ready(done),
            }
            // No plain text waits here now. With 16 KiB of it, rustls would refuse to take more.
            let count = match tls.read_tls(&mut Reader { stream, cx }) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Ok(0) if tls.is_handshaking() => return Poll::Ready(Ok(0)),
                count => count?,
            };
            self.undeciphered += count;
            if self.undeciphered > MOST_UNDECIPHERED {
                return Poll::Ready(Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "too much TLS without content",
                )));
            }
            let was_handshaking = tls.is_handshaking();
            let processed = tls.process_new_packets();
            // Handshake messages, and the alert that says what was wrong.
            while tls.wants_write() && tls.write_tls(&mut Writer(stream)).is_ok() {}
            let state = processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            if state.plaintext_bytes_to_read() > 0 || was_handshaking && !tls.is_handshaking() {
                self.undeciphered = 0;
            }
        }
    }

    /// Writes without waiting. After `WouldBlock`, wait with [`Io::poll_writable`] and write with [`Io::try_write`].
    ///
    /// The runtime is not asked: its record of readiness costs one more cache line per connection and flush, and says
    /// nothing that the system call does not say. The C library is not asked either: its `send` is a point of cancellation,
    /// which costs time in every process with threads.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (&self.tls, &self.stream) {
            (None, Some(stream)) => match rustix::net::send(stream, bytes, NO_SIGNAL) {
                // Otherwise the record says "writable" for ever, and a task that waits for that is woken again at once.
                Err(Errno::WOULDBLOCK) => stream.note_full(),
                done => Ok(done?),
            },
            _ => self.try_write(bytes),
        }
    }

    /// Writes without waiting. `Ok` says how many bytes were taken. With TLS they may still wait here: see
    /// [`Io::holds_output`].
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = &self.stream else { return Err(ErrorKind::WouldBlock.into()) };
        let Some(tls) = &mut self.tls else { return stream.try_write(bytes) };
        let mut taken = 0;
        loop {
            while tls.wants_write() {
                match tls.write_tls(&mut Writer(stream)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
            if taken == bytes.len() || tls.is_handshaking() {
                return Ok(taken);
            }
            taken += tls.writer().write(&bytes[taken..])?;
        }
    }

    /// Whether TLS records wait for the socket.
    pub fn holds_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write() && !tls.is_handshaking())
    }

    /// Ready when the socket takes bytes. After `Pending`, the task is woken when it does.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.stream {
            Some(Stream::Tcp(stream)) => stream.poll_write_ready(cx),
            Some(Stream::Unix(stream)) => stream.poll_write_ready(cx),
            None => Poll::Pending,
        }
    }

    /// Ends our side: the peer reads what was written, then the end.
    pub fn shutdown(&mut self) {
        let Some(stream) = &self.stream else { return };
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut Writer(stream)).is_ok() {}
        }
        // It fails only when the peer is gone already.
        let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    /// # Errors
    /// When the runtime of this thread can't watch the socket.
    pub fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream)?),
            Socket::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// Takes it from the runtime of this thread, for another one.
    pub fn into_socket(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Socket::Tcp(stream.into_std()?),
            Self::Unix(stream) => Socket::Unix(stream.into_std()?),
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let done = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        done.map_ok(|()| buffer.filled().len())
    }

    /// Tells the runtime that the socket takes nothing. If it takes bytes again by now, that is not lost: the runtime looks
    /// for such changes on this thread only, so it has not seen this one yet.
    fn note_full(&self) -> io::Result<usize> {
        let full = || Err(ErrorKind::WouldBlock.into());
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, full),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, full),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

/// Room for the longest record (18 KiB in TLS 1.2) with the read that ends it, and for any handshake. Without this bound,
/// rustls would hold a handshake message of 64 KiB for an unknown peer.
const MOST_UNDECIPHERED: usize = 24 * 1024;

/// The other side has ended. Other systems tell that only when both sides have, or when what came before was read.
#[cfg(target_os = "linux")]
const ENDED: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const ENDED: PollFlags = PollFlags::HUP;

/// A peer that is gone is an error, not a signal to the process.
#[cfg(target_os = "linux")]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// The socket as rustls wants it. After `WouldBlock`, the task is woken when there is more.
struct Reader<'a, 'task> {
    stream: &'a mut Stream,
    cx: &'a mut Context<'task>,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.poll_read(self.cx, buffer) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// As [`Reader`].
struct Writer<'a>(&'a Stream);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_task_that_waits_for_a_full_socket_is_woken_when_it_takes_bytes_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
            ours.set_nonblocking(true).expect("non-blocking");
            let mut io = Io::new(Stream::new(Socket::Unix(ours)).expect("a runtime"), None);
            poll_fn(|cx| io.poll_writable(cx)).await.expect("an empty socket takes bytes");
            while io.send(&[0; 4096]).is_ok() {}
            assert!(poll_fn(|cx| Poll::Ready(io.poll_writable(cx).is_pending())).await, "it is full");
            let reader = std::thread::spawn(move || (&theirs).read_exact(&mut vec![0; 128 * 1024]));
            poll_fn(|cx| io.poll_writable(cx)).await.expect("it takes bytes again");
            drop(reader.join());
        });
    }
}
