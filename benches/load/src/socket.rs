//! The few system calls used, each behind a safe function.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a valid rlimit; failing leaves the limit as it was, and opening too many says so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

pub fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is the empty set, and the size given is its own.
    check(unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    })
    .map(drop)
}

fn address(host: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(host).to_be() },
        sin_zero: [0; 8],
    }
}

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// Begins a non-blocking connect, from the given source address unless that is the default one.
pub fn connect(host: Ipv4Addr, port: u16, source: Ipv4Addr) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    if source != Ipv4Addr::LOCALHOST {
        // The port is chosen at connect, where only the whole four-tuple must be unique.
        set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        let from = address(source, 0);
        // SAFETY: `from` is a sockaddr_in of the length given.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const from).cast(), ADDRESS_BYTES) })?;
    }
    let to = address(host, port);
    // SAFETY: `to` is a sockaddr_in of the length given.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), ADDRESS_BYTES) }) {
        Ok(_) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// The result of a non-blocking connect.
pub fn connect_error(socket: &OwnedFd) -> Option<io::Error> {
    let mut code: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `code` and `length` are valid places for an int option.
    let asked = check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut code).cast(),
            &raw mut length,
        )
    });
    match asked {
        Err(error) => Some(error),
        Ok(_) if code != 0 => Some(io::Error::from_raw_os_error(code)),
        Ok(_) => None,
    }
}

pub fn listen(host: Ipv4Addr, port: u16) -> io::Result<(OwnedFd, u16)> {
    let socket = new_socket()?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let mut at = address(host, port);
    let mut length = ADDRESS_BYTES;
    // SAFETY: `at` is a sockaddr_in of the length given, and getsockname may write one there.
    unsafe {
        check(libc::bind(socket.as_raw_fd(), (&raw const at).cast(), ADDRESS_BYTES))?;
        check(libc::listen(socket.as_raw_fd(), 4096))?;
        check(libc::getsockname(socket.as_raw_fd(), (&raw mut at).cast(), &raw mut length))?;
    }
    Ok((socket, u16::from_be(at.sin_port)))
}

/// Accepts one waiting connection, non-blocking and without Nagle.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null addresses are allowed; the descriptor returned is ours alone.
    let socket = unsafe {
        let raw =
            check(libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags))?;
        OwnedFd::from_raw_fd(raw)
    };
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(socket)
}

#[inline]
pub fn send(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are of one live slice.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

#[inline]
pub fn receive(fd: i32, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are of one live slice.
    let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

/// Makes the following close send a reset, so that no port stays in TIME_WAIT.
pub fn reset_on_close(socket: &OwnedFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: `linger` is a valid linger of the length given; failing leaves an ordinary close.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether the peer has closed or reset the connection; reads nothing.
pub fn hung_up(fd: i32) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd, and no waiting.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
}

/// Waits until the descriptor is readable; false when the time is over.
pub fn wait_readable(fd: i32, nanoseconds: u64) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let timeout = timespec(nanoseconds);
    // SAFETY: one pollfd, one timespec, no signal mask.
    unsafe { libc::ppoll(&raw mut entry, 1, &raw const timeout, std::ptr::null()) > 0 }
}

pub fn timespec(nanoseconds: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    }
}

/// An epoll set with its event buffer.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the descriptor returned is ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    pub fn add(&self, fd: i32, events: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` is valid for the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })
            .map(drop)
    }

    pub fn remove(&self, fd: i32) {
        // SAFETY: the event is ignored for a removal. Removing what is not there does no harm.
        unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits for events; returns how many there are, to be read with [`Epoll::event`].
    pub fn wait(&mut self, nanoseconds: u64) -> io::Result<usize> {
        let timeout = timespec(nanoseconds);
        // SAFETY: the buffer has the length given; `timeout` is valid; no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                size_of::<u64>(),
            )
        };
        match count {
            0.. => Ok(count as usize),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
            }
        }
    }

    /// The token and the event bits of one event.
    pub fn event(&self, index: usize) -> (u64, i32) {
        (self.events[index].u64, self.events[index].events as i32)
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the descriptor returned is ours alone.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?)) }
}

fn set_option(socket: &OwnedFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is an int of the length given.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) })
        .map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
