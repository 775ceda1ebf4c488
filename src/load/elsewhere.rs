//! What comes from servers that are not Umbel: publications are known by a marker, and judged by their numbers.

use std::cmp::Ordering;

use crate::load::connection::Role;
use crate::load::conversation::SHOWN;
use crate::load::frame;
use crate::load::run::Run;
use crate::load::template::{Marker, fill_number};
use crate::printable::shown;

/// Takes a message: it is answered, or its publications are counted.
pub fn message(run: &mut Run<'_>, index: usize, marker: &Marker, text: &[u8], wire_bytes: usize, now: u64) {
    let answer = run.config.answers.iter().find(|(beginning, _)| text.starts_with(beginning.as_bytes()));
    if let Some((_, answer)) = answer {
        let mut frame = Vec::new();
        frame::write_masked(&mut frame, frame::TEXT, fill_number(answer, index).as_bytes());
        return run.send(index, &frame);
    }
    // Where a publisher is a reader, too, its publications come back to it. Nobody counts on that.
    if run.connections[index].role != Role::Reader {
        return;
    }
    let mut count = 0;
    for mark in marker.find(text) {
        let age = now.saturating_sub(mark.time);
        if run.report.recording {
            if count == 0 {
                run.report.oldest.record(age);
            }
            run.report.every.record(age);
        }
        if let Some(seq) = mark.seq {
            follow(run, index, seq);
        }
        count += 1;
    }
    let counters = &mut run.report.counters;
    if count > 0 {
        counters.frames += 1;
        counters.counted_frames += 1;
        counters.bytes += wire_bytes as u64;
        counters.messages += count;
    } else if counters.messages == 0 {
        run.report.unmarked = Some(shown(&String::from_utf8_lossy(text), SHOWN));
    }
}

/// The publications of one publisher come in their order. A number that never comes is lost.
fn follow(run: &mut Run<'_>, index: usize, seq: u64) {
    let publishers = run.config.publishers.max(1) as u64;
    let (publisher, number) = ((seq.max(1) - 1) % publishers, (seq.max(1) - 1) / publishers + 1);
    let seen = &mut run.connections[index].seen;
    // Somebody else has published before.
    let first = if run.config.publishers == 0 { number - 1 } else { 0 };
    if seen.is_empty() {
        seen.resize(publishers as usize, first);
    }
    let last = &mut seen[publisher as usize];
    match number.cmp(last) {
        Ordering::Less => run.report.fault("updates in a wrong order"),
        Ordering::Equal => run.report.fault("updates repeated"),
        Ordering::Greater => {
            let missing = number - std::mem::replace(last, number) - 1;
            run.report.counters.lost = run.report.counters.lost.saturating_add(missing);
        }
    }
}

/// Says that nothing of what was published has been found.
pub fn nothing_found(run: &Run<'_>) -> Option<String> {
    let marker = run.config.marker.as_ref().filter(|_| run.config.subscribe)?;
    if run.report.counters.messages > 0 {
        return None;
    }
    let came = match &run.report.unmarked {
        Some(text) => format!("the last message that came is {text}"),
        None => "no message came".into(),
    };
    Some(format!("the marker {marker:?} was in no message to a reader, so nothing could be measured; {came}"))
}

/// When the server is quiet, or after this many nanoseconds, it has read what connections say first.
pub const HELLO: u64 = 3_000_000_000;
