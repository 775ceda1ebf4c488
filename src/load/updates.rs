//! Updates of Umbel: they are counted, and what they say of their positions is checked.

use crate::load::connection::Role;
use crate::load::run::Run;
use crate::load::verify::gap_size;
use crate::load::{message, returning};

/// Takes a batch: it is counted, and has to continue what came before.
pub fn batch(run: &mut Run<'_>, index: usize, text: &[u8], now: u64) {
    let Some(batch) = message::read_batch(text) else {
        return run.report.fault("a batch that cannot be read");
    };
    let is_other = run.connections[index].role == Role::Other;
    let counters = &mut run.report.counters;
    *if is_other { &mut counters.others_messages } else { &mut counters.messages } += batch.count;
    counters.counted_frames += 1;
    if run.report.recording && is_other {
        run.report.others.record(now.saturating_sub(batch.first_time));
    } else if run.report.recording {
        for (histogram, time) in
            [(&mut run.report.oldest, batch.first_time), (&mut run.report.newest, batch.last_time)]
        {
            if time > 0 {
                histogram.record(now.saturating_sub(time));
            }
        }
    }
    if !run.connections[index].follows_several {
        follow(run, index, batch, text);
    }
    check(run, index, text, now, batch.count);
    returning::look_caught_up(run, index, now);
}

/// One channel: the first update must continue the position, and the count must lead to the last.
fn follow(run: &mut Run<'_>, index: usize, batch: message::Batch, text: &[u8]) {
    let connection = &mut run.connections[index];
    let position = std::mem::replace(&mut connection.position, batch.last_offset);
    // Where the newest of a key replaces others, an update later in the batch may say that it stands for several.
    let is_short = batch.last_offset.wrapping_sub(batch.before) != batch.count;
    if is_short && !message::says_from(text) {
        run.report.fault("count and offsets disagree");
    }
    if batch.before == position || position == UNKNOWN {
        return;
    }
    if run.config.lossy {
        run.report.counters.missing += batch.before.saturating_sub(position);
    } else {
        run.report.fault(if batch.before > position { "updates missing" } else { "updates repeated" });
    }
}

/// The full check, on sampled connections.
fn check(run: &mut Run<'_>, index: usize, text: &[u8], now: u64, count: u64) {
    let Some(mut verifier) = run.connections[index].verifier.take() else { return };
    let report = &mut run.report;
    let (every, recording) = (&mut report.every, report.recording);
    let checked = verifier.batch(text, |time| {
        if recording {
            every.record(now.saturating_sub(time));
        }
    });
    match checked {
        Ok(checked) if checked.updates == count => report.counters.checked_updates += count,
        Ok(_) => report.fault("the cheap look miscounted"),
        Err(_) if run.config.lossy => {}
        Err(reason) => report.fault(&reason),
    }
    run.connections[index].verifier = Some(verifier);
}

/// Takes a gap. What it announces is lost.
pub fn gap(run: &mut Run<'_>, index: usize, text: &[u8], now: u64) {
    let connection = &mut run.connections[index];
    run.report.counters.gaps += 1;
    let from = message::number_field(text, br#""from":"#).unwrap_or(0);
    let to = message::number_field(text, br#""to":"#).unwrap_or(0);
    let size = match &mut connection.verifier {
        Some(verifier) => verifier.gap(text).map(|checked| checked.lost),
        None if !connection.follows_several && connection.position != UNKNOWN => {
            gap_size(connection.position, from, to)
        }
        // With several channels, or after compressed frames, positions are followed on sampled connections only.
        None => Ok(to.saturating_sub(from)),
    };
    connection.position = to;
    if let Some(session) = &mut connection.session
        && let Some(epoch) = message::text_field(text, br#""epoch":""#)
    {
        session.epoch = epoch.into();
    }
    match size {
        Ok(lost) => run.report.counters.lost += lost,
        Err(reason) => run.report.fault(&reason),
    }
    returning::look_caught_up(run, index, now);
}

/// Position of a connection after a frame that was not looked into.
pub const UNKNOWN: u64 = u64::MAX;
