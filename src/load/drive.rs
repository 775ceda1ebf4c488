//! The course of a load: connections are opened, it waits, measures a window, and waits for the rest.

use serde_json::Value;

use crate::load::clock;
use crate::load::config::{Config, Kind};
use crate::load::connection::{Connection, Phase, Role};
use crate::load::control::{Control, Row, Stage};
use crate::load::histogram::Histogram;
use crate::load::run::Run;
use crate::load::schedule::Schedule;
use crate::load::socket::{self, Ready};
use crate::load::{asking, elsewhere, frame, opening, publishing, receive, returning, updates};

/// Does all of it on this thread. Returns what was measured. What the server did wrong is in there, and what was seen until this machine
/// failed.
///
/// # Errors
/// What this machine can't do, in words for whoever typed the command.
pub fn run(config: &Config, control: &Control) -> Result<Value, String> {
    let mut run = Run::new(config, control)?;
    let outcome = course(&mut run);
    let was_open = control.stage() != Stage::RampUp;
    finish(&mut run);
    if run.report.is_complete
        && let Some(reason) = elsewhere::nothing_found(&run)
    {
        return Err(reason);
    }
    if let Err(reason) = outcome {
        if !was_open {
            return Err(reason);
        }
        run.report.fault(&reason);
    }
    Ok(run.report.to_json(config))
}

fn course(run: &mut Run<'_>) -> Result<(), String> {
    let config = run.config;
    let patience = clock::nanoseconds(config.timeout);
    run.began = clock::now();
    run.rows.start(run.began + SECOND);
    if config.kind == Kind::Churn {
        run.aim(run.connections.len());
    } else {
        for &(count, seconds) in &config.stages {
            open_all(run, count.min(config.connections))?;
            run_for(run, seconds)?;
        }
        open_all(run, run.connections.len())?;
        let is_open =
            |it: &Connection| matches!(it.role, Role::Reader | Role::Other) && it.phase == Phase::Live;
        if !run.connections.iter().any(is_open) && !run.control.has_to_stop() {
            return Err(none_open(run));
        }
        run.report.open_seconds = (clock::now() - run.began) as f64 / 1e9;
        if !run.all_open() && !run.control.has_to_stop() {
            run.report.fault("connections not open in time");
            return Ok(());
        }
        run.control.enter(Stage::Ready);
        if config.wait {
            run_until(run, clock::now() + patience, |run| run.control.may_go())?;
        }
        if config.hello.is_some() {
            wait_for_quiet(run, elsewhere::HELLO, |_| true)?;
        }
    }
    if run.control.has_to_stop() {
        return if config.ramp_down { ramp_down(run) } else { Ok(()) };
    }
    run.control.enter(Stage::WarmUp);
    run.publishing.start(clock::now());
    run.pinging.start(clock::now());
    asking::start_requests(run, clock::now());
    run_for(run, config.warmup)?;
    if config.quiet > 0.0 {
        run.report.recording = true;
        run_for(run, config.quiet)?;
        run.report.others_quiet = std::mem::take(&mut run.report.others);
    }
    run.control.enter(Stage::Measured);
    run.report.begin_window(config.server_pid);
    let measured = match config.kind {
        Kind::Resume => cut_and_come_back(run),
        _ => run_for(run, config.seconds),
    };
    run.report.end_window(config.server_pid);
    measured?;
    run.report.is_complete = !run.control.has_to_stop();
    run.control.enter(Stage::Drain);
    run.publishing = Schedule::new(0.0);
    drain(run)?;
    if config.ramp_down { ramp_down(run) } else { Ok(()) }
}

/// Waits until so many connections are open, or have failed.
fn open_all(run: &mut Run<'_>, count: usize) -> Result<(), String> {
    run.aim(count.max(run.next_to_open));
    let ramp = run.pace(run.goal - run.next_to_open);
    let deadline = clock::now() + ramp + clock::nanoseconds(run.config.timeout);
    let outcome = run_until(run, deadline, |run| run.all_open());
    count_open(run); // the first second may not be over
    outcome
}

/// Why nothing can be measured.
fn none_open(run: &Run<'_>) -> String {
    let most = run.report.failures.iter().max_by_key(|(_, count)| **count);
    let reason = most.map_or("they did not open in time", |(reason, _)| reason.as_str());
    format!(
        "none of {} connections to {} could be opened: {reason}",
        run.config.connections, run.config.address
    )
}

/// Ends the connections at the pace at which they began.
fn ramp_down(run: &mut Run<'_>) -> Result<(), String> {
    run.control.enter(Stage::RampDown);
    let began = clock::now();
    for index in 0..run.connections.len() {
        run_until(run, began + run.pace(index), |_| false)?;
        opening::say_goodbye(run, index);
    }
    let is_there =
        |connection: &Connection| connection.phase == Phase::Closing && connection.socket.is_some();
    run_until(run, clock::now() + GOODBYE, |run| !run.connections.iter().any(is_there))
}

/// Cuts readers. The window of a cut of all ends when the last one has caught up.
fn cut_and_come_back(run: &mut Run<'_>) -> Result<(), String> {
    let began = clock::now();
    run.report.returns.began = began;
    if run.config.cut_rate > 0.0 {
        run.cutting.start(began);
        run_for(run, run.config.seconds)?;
        run.cutting = Schedule::new(0.0);
        return Ok(());
    }
    returning::cut_all(run);
    run_until(run, began + clock::nanoseconds(run.config.seconds), |run| run.comeback.behind == 0)
}

/// Waits until what is still on its way has arrived, at most as long as `drain` says.
fn drain(run: &mut Run<'_>) -> Result<(), String> {
    run.asking = false;
    let (began, patience) = (clock::now(), clock::nanoseconds(run.config.drain));
    wait_for_quiet(run, patience, |run| asking::unanswered(run) == 0 && run.comeback.behind == 0)?;
    // A busy server may be quiet for a while, and go on.
    if !run.all_come() {
        let left = (began + patience).saturating_sub(clock::now());
        wait_for_quiet(run, left.min(PAUSE), |run| run.all_come())?;
    }
    if run.control.has_to_stop() {
        run.report.is_complete = false; // what is missing was not waited for
        return Ok(());
    }
    if run.comeback.behind > 0 {
        run.report.is_complete = false;
        run.report.fault("not all came back in time");
    }
    if asking::unanswered(run) > 0 {
        run.report.fault("requests without an answer");
    }
    Ok(())
}

/// Waits until the condition holds and nothing comes any more, at most so many nanoseconds.
fn wait_for_quiet(run: &mut Run<'_>, patience: u64, done: impl Fn(&Run<'_>) -> bool) -> Result<(), String> {
    let began = clock::now();
    run_until(run, began + patience, |run| done(run) && clock::now() > run.last_event.max(began) + QUIET)
}

fn finish(run: &mut Run<'_>) {
    let of = |role: Role| run.connections.iter().filter(move |connection| connection.role == role);
    let live: Vec<_> = of(Role::Reader).filter(|connection| connection.phase == Phase::Live).collect();
    run.report.live = live.len();
    run.report.most_live = run.report.most_live.max(run.report.live);
    run.report.positions = range(live.iter().map(|connection| connection.position));
    run.report.others_positions = range(of(Role::Other).map(|connection| connection.position));
    let slow = of(Role::Slow).filter_map(|connection| connection.socket.as_ref());
    run.report.slow_open = slow.filter(|socket| !socket::hung_up(socket)).count();
    run.report.seconds = (clock::now() - run.began) as f64 / 1e9;
    run.connections.iter_mut().for_each(Connection::reset);
    run.control.enter(Stage::Done);
}

fn run_for(run: &mut Run<'_>, seconds: f64) -> Result<(), String> {
    run_until(run, clock::now() + clock::nanoseconds(seconds), |_| false)
}

/// Waits for what happens, and does what is due, until the deadline, the condition, or [`Control::stop`].
fn run_until(run: &mut Run<'_>, deadline: u64, done: impl Fn(&Run<'_>) -> bool) -> Result<(), String> {
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        opening::open_more(run)?;
        let now = clock::now();
        keep_schedules(run, now)?;
        if now >= deadline || done(run) || run.control.has_to_stop() {
            return Ok(());
        }
        if run.lost > 0 && run.all_lost() {
            return Err("all connections were lost".into());
        }
        let next = [
            run.next_arrival(),
            deadline,
            run.publishing.next,
            run.pinging.next,
            run.rows.next,
            run.comeback.next(),
            run.cutting.next,
        ];
        let until = next.into_iter().min().unwrap_or(deadline);
        let patience = if run.config.poll { 0 } else { until.saturating_sub(now) };
        run.readiness.wait(patience).map_err(|error| format!("this machine gives no events: {error}"))?;
        run.readiness.take(&mut ready);
        if !ready.is_empty() {
            run.last_event = now;
        } else if run.config.poll {
            run.report.counters.idle += clock::now() - now;
        }
        for &event in &ready {
            handle(run, event);
        }
    }
}

fn handle(run: &mut Run<'_>, event: Ready) {
    let Ready { index, readable, writable, hang_up } = event;
    if run.connections[index].phase == Phase::Connecting && (writable || hang_up) {
        opening::connected(run, index);
    }
    if readable || hang_up {
        receive::receive(run, index, hang_up);
    }
    if writable {
        opening::flush(run, index);
    }
}

fn keep_schedules(run: &mut Run<'_>, now: u64) -> Result<(), String> {
    if now >= run.publishing.next {
        publishing::publish_due(run, now);
    }
    returning::cut_due(run, now);
    while run.pinging.due(now).is_some() {
        let mut ping = Vec::new();
        frame::write_masked(&mut ping, frame::PING, &clock::now().to_be_bytes());
        run.send(0, &ping);
    }
    if run.rows.due(now).is_some() {
        add_row(run, now);
    }
    opening::keep_appointments(run, now)
}

/// Open connections. The most there were are reported.
fn count_open(run: &mut Run<'_>) -> usize {
    let open = run.connections.iter().filter(|connection| connection.phase == Phase::Live).count();
    run.report.most_live = run.report.most_live.max(open);
    open
}

/// Notes what has happened in the last second.
fn add_row(run: &mut Run<'_>, now: u64) {
    let open = count_open(run);
    let report = &mut run.report;
    let seen = if report.recording { report.oldest.since(&report.told_oldest) } else { Histogram::new() };
    report.told_oldest = report.oldest.clone();
    let (before, counters) = (std::mem::replace(&mut report.told, report.counters), report.counters);
    let published = report.published - std::mem::replace(&mut report.told_published, report.published);
    let latency = |share| (seen.count() > 0).then(|| seen.quantile(share) as f64 / 1e6);
    run.control.add_row(Row {
        at: ((now - run.began) as f64 / 1e9 * 10.0).round() / 10.0,
        stage: run.control.stage(),
        open,
        connecting: run.opening,
        failed: report.failures.values().sum(),
        published,
        frames: counters.frames - before.frames,
        messages: counters.messages - before.messages,
        bytes: counters.bytes - before.bytes,
        answers: counters.answers - before.answers,
        lost: counters.lost - before.lost,
        latency_p50: latency(0.5),
        latency_p95: latency(0.95),
        latency_max: latency(1.0),
    });
}

/// The least and the greatest of the positions that are known.
fn range(positions: impl Iterator<Item = u64>) -> Option<(u64, u64)> {
    positions.filter(|&at| at != updates::UNKNOWN).fold(None, |range, at| {
        let (low, high) = range.unwrap_or((at, at));
        Some((at.min(low), at.max(high)))
    })
}

/// Nanoseconds without an event after which nothing more is on its way. Passes of a busy server follow each other at once.
const QUIET: u64 = 600_000_000;

/// How long what is missing may take after that.
const PAUSE: u64 = 2_000_000_000;

/// How long the last answers to a good-bye may take, nanoseconds.
const GOODBYE: u64 = 2_000_000_000;

const SECOND: u64 = 1_000_000_000;
