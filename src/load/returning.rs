//! Readers that lose their connections, and come back.

use std::cmp::Reverse;

use crate::load::clock;
use crate::load::connection::Phase;
use crate::load::random::split_mix;
use crate::load::report;
use crate::load::run::Run;
use crate::load::session::longest_wait;

/// Cuts all readers.
pub fn cut_all(run: &mut Run<'_>) {
    (0..run.config.connections).for_each(|index| cut(run, index));
}

/// Cuts random readers, as many as are due.
pub fn cut_due(run: &mut Run<'_>, now: u64) {
    while run.cutting.due(now).is_some() {
        let index = split_mix(&mut run.comeback.random) % run.config.connections.max(1) as u64;
        cut(run, index as usize);
    }
}

/// Resets the socket of a reader, if it is open.
fn cut(run: &mut Run<'_>, index: usize) {
    let connection = &mut run.connections[index];
    let Some(session) = connection.session.as_mut().filter(|_| connection.phase == Phase::Live) else {
        return;
    };
    // Who has not caught up since the last cut has been behind for longer.
    if session.is_back() {
        session.cut = clock::now();
        run.comeback.behind += 1;
    }
    connection.reset();
    run.report.returns.cut += 1;
    try_later(run, index);
}

/// Notes when a client tries again.
pub fn try_later(run: &mut Run<'_>, index: usize) {
    let Some(session) = &mut run.connections[index].session else { return };
    session.attempt += 1;
    let longest = longest_wait(session.failures, clock::nanoseconds(run.config.within));
    let share = (split_mix(&mut run.comeback.random) >> 11) as f64 / (1u64 << 53) as f64;
    let moment = clock::now() + (longest as f64 * share) as u64;
    run.comeback.appointments.push(Reverse((moment, index, session.attempt)));
    run.connections[index].phase = Phase::Waiting;
}

/// An attempt to come back has failed.
pub fn failed(run: &mut Run<'_>, index: usize, reason: &str) {
    report::count(&mut run.report.returns.failed, reason);
    if let Some(session) = &mut run.connections[index].session {
        session.failures += 1;
    }
    try_later(run, index);
}

/// Notes when a client that was cut has all that the server had when it came back.
pub fn look_caught_up(run: &mut Run<'_>, index: usize, now: u64) {
    let connection = &mut run.connections[index];
    let Some(session) = connection.session.as_mut().filter(|session| !session.is_back()) else { return };
    if connection.phase != Phase::Live {
        return;
    }
    let several = connection.verifier.as_ref().filter(|_| connection.follows_several);
    if several.map_or(connection.position >= session.top, |verifier| verifier.is_at_top()) {
        run.report.returns.caught_up.record(now.saturating_sub(session.cut));
        run.report.returns.ended = now;
        session.cut = 0;
        run.comeback.behind -= 1;
    }
}
