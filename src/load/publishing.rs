//! Connections that publish at a fixed rate, whatever comes back: those that do nothing else, or the readers in turn.

use crate::load::clock;
use crate::load::connection::{Phase, padded_data};
use crate::load::frame;
use crate::load::opening;
use crate::load::run::Run;
use crate::load::template::fill;

/// Publishes what is due, in one piece for each publisher. The data have the moment at which each was due: what a busy load sends
/// late is counted as late.
pub fn publish_due(run: &mut Run<'_>, now: u64) {
    let (first, publishers) = match run.config.publishers {
        0 => (0, run.config.connections),
        own => (run.connections.len() - own, own),
    };
    let mut count = 0;
    while let Some(due) = run.publishing.due(now) {
        run.report.lateness.record(clock::now().saturating_sub(due));
        let number = run.report.published as usize;
        let index = first + number % publishers;
        if run.connections[index].phase != Phase::Live {
            run.report.fault("a publication whose publisher has no connection");
            continue;
        }
        run.report.published += 1;
        let (id, bytes) = (run.report.published, run.config.data_bytes);
        let message = match &run.config.publication {
            Some(template) => fill(template, due, id, index, bytes),
            None => format!(
                r#"{{"type":"publish","channel":"{}","data":{},"id":{id}}}"#,
                run.config.channel_name(number % run.config.channels),
                padded_data(due, bytes),
            ),
        };
        let unsent = &mut run.connections[index].requests.unsent;
        let before = unsent.len();
        frame::write_masked(unsent, frame::TEXT, message.as_bytes());
        run.show_sent(index, &run.connections[index].requests.unsent[before..]);
        count += 1;
    }
    for step in 0..publishers.min(count) {
        let index = first + (run.report.published as usize - 1 - step) % publishers;
        opening::flush(run, index);
    }
}
