//! How connections begin and end.

use std::cmp::Reverse;
use std::io::Write;

use crate::load::clock;
use crate::load::config::{Kind, Until};
use crate::load::connection::{self, Phase, Role};
use crate::load::returning;
use crate::load::run::Run;
use crate::load::socket::Socket;
use crate::load::tls::Tls;
use crate::load::{frame, socket, stream};

/// Begins the connections that may be begun now.
pub fn open_more(run: &mut Run<'_>) -> Result<(), String> {
    while run.opening < run.config.concurrency
        && run.next_to_open < run.goal
        && run.next_arrival() <= clock::now()
    {
        let index = run.next_to_open;
        let due = if run.config.ramp_up_delay > 0.0 { run.next_arrival() } else { clock::now() };
        run.next_to_open += 1;
        open(run, index, due)?;
    }
    Ok(())
}

/// Begins to open a connection that was due at a moment. An error here is this machine's limit, and ends the run.
pub fn open(run: &mut Run<'_>, index: usize, due: u64) -> Result<(), String> {
    let opened = socket::connect(run.config.address, run.config.source(index)).and_then(|mut tcp| {
        run.readiness.add(&mut tcp, index)?;
        Ok(Socket { tcp, tls: run.tls.as_ref().map(Tls::begin).transpose()? })
    });
    let socket = opened.map_err(|error| describe(&error, run.connections.len()))?;
    run.report.attempts += 1;
    let connection = &mut run.connections[index];
    (connection.started, connection.phase, connection.socket) = (due, Phase::Connecting, Some(socket));
    run.opening += 1;
    Ok(())
}

/// What this machine lacks, and the cure.
fn describe(error: &std::io::Error, wanted: usize) -> String {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => format!(
            "this process may open too few files for {wanted} connections: {error}. Raise the limit (ulimit -n {})",
            wanted + 100
        ),
        Some(Errno::ADDRNOTAVAIL) => format!(
            "this machine has no port left for another connection: {error}. One address has some 28,000; on loopback, use \
             more of them (--sources {})",
            wanted.div_ceil(25_000) + 1
        ),
        _ => format!("a connection can't be begun: {error}"),
    }
}

/// The socket is connected, or has failed to.
pub fn connected(run: &mut Run<'_>, index: usize) {
    let Some(socket) = &run.connections[index].socket else { return };
    match socket.tcp.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return close(run, index, &format!("connect: {error}")),
    }
    // Each message is sent whole, and waits for nothing.
    let _ = socket.tcp.set_nodelay(true);
    run.connections[index].phase = Phase::Upgrading;
    let token = run.config.tokens.get(index % run.config.tokens.len().max(1));
    let channels = run.connections[index].channels(run.config, index);
    let request = match run.connections[index].is_stream {
        true => stream::request(run.config, &channels),
        false => run.upgrade_request.clone(),
    };
    let request = token.map_or_else(|| request.clone(), |token| connection::with_token(&request, token));
    run.send(index, &request);
}

/// After the response to the upgrade.
pub fn upgraded(run: &mut Run<'_>, index: usize) {
    if run.connections[index].is_stream {
        let now = clock::now();
        run.report.established.record(now.saturating_sub(run.connections[index].started));
        let missing = run.connections[index].channels(run.config, index).len();
        run.connections[index].phase = Phase::Subscribing { missing };
        return;
    }
    match run.config.until {
        Until::Upgrade => established(run, index),
        Until::Established => run.connections[index].phase = Phase::Greeting,
    }
    if let Some(frame) = run.connections[index].first_frame(run.config, index) {
        run.send(index, &frame);
    }
}

/// After `connection_established`, or after the response to the upgrade where that is enough.
pub fn established(run: &mut Run<'_>, index: usize) {
    let now = clock::now();
    run.report.established.record(now.saturating_sub(run.connections[index].started));
    let channels = run.connections[index].channels(run.config, index);
    if channels.is_empty() {
        return opened(run, index, now);
    }
    run.report.counters.subscribes += channels.len() as u64;
    run.connections[index].phase = Phase::Subscribing { missing: channels.len() };
    run.send(index, &connection::subscribe_frames(&channels));
}

/// The connection is as open as it gets.
pub fn opened(run: &mut Run<'_>, index: usize, now: u64) {
    run.opening -= 1;
    let connection = &mut run.connections[index];
    connection.phase = Phase::Live;
    if connection.comes_back() {
        return returning::look_caught_up(run, index, now);
    }
    run.report.connects += 1;
    run.report.connect_time.record(now.saturating_sub(connection.started));
    if run.config.kind == Kind::Churn {
        run.connections[index].reset();
        again(run, index);
    } else if connection.role == Role::Slow
        && let Some(socket) = &mut connection.socket
    {
        run.readiness.remove(socket);
    }
}

/// A client that comes back is let in. The subscriptions that it has named follow.
pub fn let_in_again(run: &mut Run<'_>, index: usize, resumed: bool, now: u64) {
    run.report.returns.resumed += u64::from(resumed);
    run.report.returns.connect.record(now.saturating_sub(run.connections[index].started));
    let missing = run.connections[index].channels(run.config, index).len();
    run.connections[index].phase = Phase::Subscribing { missing };
    if missing == 0 {
        opened(run, index, now);
    }
}

/// Begins the attempts of those who come back that are due, and gives up those that take too long.
pub fn keep_appointments(run: &mut Run<'_>, now: u64) -> Result<(), String> {
    while run.comeback.next() <= now {
        let Some(Reverse((moment, index, attempt))) = run.comeback.appointments.pop() else { break };
        let connection = &run.connections[index];
        if connection.session.as_ref().is_none_or(|session| session.attempt != attempt) {
            continue;
        }
        match connection.phase {
            Phase::Waiting => {
                run.report.returns.late.record(clock::now().saturating_sub(moment));
                open(run, index, clock::now())?;
                run.comeback.appointments.push(Reverse((now + ATTEMPT_TIMEOUT, index, attempt)));
            }
            Phase::Live | Phase::Closing | Phase::Closed => {}
            Phase::Connecting | Phase::Upgrading | Phase::Greeting | Phase::Subscribing { .. } => {
                close(run, index, "not let in in time");
            }
        }
    }
    Ok(())
}

/// A connection has ended, or could not be opened.
pub fn close(run: &mut Run<'_>, index: usize, reason: &str) {
    let connection = &mut run.connections[index];
    if connection.socket.is_none() {
        return;
    }
    let before = std::mem::replace(&mut connection.phase, Phase::Closed);
    connection.reset();
    if before == Phase::Closing {
        return;
    }
    if before == Phase::Live {
        run.lost += 1;
    } else {
        run.opening -= 1;
        if connection.comes_back() {
            return returning::failed(run, index, reason);
        }
        run.report.failed(reason);
    }
    run.report.fault(reason);
    if run.config.kind == Kind::Churn {
        again(run, index);
    }
}

/// Sends what a connection has not sent yet, as far as its socket takes it.
pub fn flush(run: &mut Run<'_>, index: usize) {
    let connection = &mut run.connections[index];
    let unsent = &mut connection.requests.unsent;
    let Some(socket) = &mut connection.socket else { return };
    let sent = if unsent.is_empty() { socket.flush().map(|()| 0) } else { socket.write(unsent) };
    match sent {
        Ok(sent) => drop(unsent.drain(..sent)),
        Err(error) if socket::would_block(&error) => {}
        Err(error) => close(run, index, &format!("send: {error}")),
    }
}

/// Says good-bye. The answer ends the connection.
pub fn say_goodbye(run: &mut Run<'_>, index: usize) {
    let connection = &mut run.connections[index];
    if connection.phase != Phase::Live {
        return;
    }
    connection.phase = Phase::Closing;
    // What can't be sent any more is not waited for.
    if connection.is_stream || connection.role == Role::Slow || !connection.requests.unsent.is_empty() {
        return connection.reset();
    }
    let mut frame = Vec::new();
    frame::write_masked(&mut frame, frame::CLOSE, &NORMAL.to_be_bytes());
    run.send(index, &frame);
}

fn again(run: &mut Run<'_>, index: usize) {
    if let Err(reason) = open(run, index, clock::now()) {
        run.report.fault(&reason);
    }
}

/// The close code of a client that is done, RFC 6455 section 7.4.1.
const NORMAL: u16 = 1000;

/// From the beginning of an attempt until its client is let in, nanoseconds, as in the clients of this repository.
const ATTEMPT_TIMEOUT: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_said_with_a_number_and_a_cure() {
        use rustix::io::Errno;
        for (errno, cure) in [
            (Errno::MFILE, "ulimit -n 50100"),
            (Errno::NFILE, "ulimit -n 50100"),
            (Errno::ADDRNOTAVAIL, "28,000; on loopback, use more of them (--sources 3)"),
        ] {
            let said = describe(&std::io::Error::from(errno), 50_000);
            assert!(said.contains(cure), "{said}");
        }
    }
}
