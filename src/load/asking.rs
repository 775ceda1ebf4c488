//! Requests of connections to handlers.

use crate::load::connection::Phase;
use crate::load::opening;
use crate::load::requests::Waiting;
use crate::load::run::Run;

/// Sends the first requests of every connection.
pub fn start_requests(run: &mut Run<'_>, now: u64) {
    run.asking = run.config.in_flight > 0;
    for index in 0..run.connections.len() {
        if run.connections[index].phase == Phase::Live {
            (0..run.config.in_flight).for_each(|_| ask(run, index, now));
            opening::flush(run, index);
        }
    }
}

/// Takes one answer and asks again.
pub fn answered(run: &mut Run<'_>, index: usize, text: &[u8], now: u64) {
    let id = match run.question.check(text) {
        Ok(id) => id,
        Err(reason) => return run.report.fault(&reason),
    };
    let waiting = &mut run.connections[index].requests.waiting;
    let Some(at) = waiting.iter().position(|request| request.id == id) else {
        return run.report.fault("an answer to no request of this connection");
    };
    let request = waiting.swap_remove(at);
    run.report.counters.answers += 1;
    if run.report.recording {
        run.report.answer.record(now.saturating_sub(request.asked));
    }
    if run.asking {
        ask(run, index, now);
    }
}

/// An error is the answer to a request, if it has its id.
pub fn refused(run: &mut Run<'_>, index: usize, id: Option<u64>, now: u64) {
    let waiting = &mut run.connections[index].requests.waiting;
    let Some(at) = id.and_then(|id| waiting.iter().position(|request| request.id == id)) else { return };
    waiting.swap_remove(at);
    if run.asking {
        ask(run, index, now);
    }
}

/// Requests without an answer.
pub fn unanswered(run: &Run<'_>) -> usize {
    run.connections.iter().map(|connection| connection.requests.waiting.len()).sum()
}

/// Writes a request. It is sent with the others of the same moment.
fn ask(run: &mut Run<'_>, index: usize, now: u64) {
    run.report.counters.asked += 1;
    let requests = &mut run.connections[index].requests;
    let before = requests.unsent.len();
    let id = run.question.write(&mut requests.unsent);
    requests.waiting.push(Waiting { id, asked: now });
    run.show_sent(index, &run.connections[index].requests.unsent[before..]);
}
