//! Carries events to an asyncio loop, with one wake-up for each batch of them.
//!
//! Shards push events into a queue. The first push after the queue was empty writes one byte to a socket pair, which the loop
//! watches. The threads of shards never touch the interpreter.
#![expect(
    clippy::disallowed_methods,
    reason = "how long events wait for Python is no matter of a shard's clock"
)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::bindings::handshake::Handshake;
use crate::bindings::position::Position;
use crate::bindings::verifier::named;
use crate::session::{Conflict, FoundEntry, Question};
use crate::transport::credit;
use crate::transport::events::{Event, Functions, Inbox, Level, Load};

/// The queue of events for Python. Of those in which clients want something it holds at most as many as the setting `event_queue`
/// says, and of all together [`MAX_BYTES`]; a shard that is refused room reads nothing more until there is room.
pub struct Bridge {
    /// Guards the queue. It is held for one push, or while one batch is taken.
    queue: Mutex<Queue>,
    signal: UnixStream,
    wake: UnixStream,
    capacity: usize,
    /// Somebody looks at the dashboard.
    watched: AtomicBool,
    /// What Python said last of its functions. Held for a look or a change.
    functions: Mutex<Functions>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    /// Events in which clients want something.
    asking: usize,
    /// Log lines among the events: DEBUG, and all others. What happens often must not cost what is serious its place.
    lines: [Lines; 2],
    /// Log lines that were dropped since the start.
    dropped_ever: u64,
    /// There is a byte in the socket pair.
    signalled: bool,
    /// Since when events wait and none was taken.
    since: Option<Instant>,
    /// Since when Python owes a sign of life.
    probed: Option<Instant>,
    /// A shard was refused room, and waits until it is told that there is some.
    starved: bool,
    /// Python is at work on a batch.
    busy: bool,
    /// What Python says of itself.
    told: Load,
}

#[derive(Clone, Copy, Default)]
struct Lines {
    waiting: usize,
    /// Those that were dropped after the last one among the events.
    dropped: u64,
}

impl Queue {
    fn lines(&mut self, level: Level) -> &mut Lines {
        &mut self.lines[usize::from(level != Level::Debug)]
    }
}

macro_rules! kinds {
    ($($name:ident)*) => {
        #[expect(clippy::upper_case_acronyms, reason = "named as in Python")]
        enum Kind { $($name),* }

        $(const $name: u8 = Kind::$name as u8;)*

        /// The kinds of events, with the number that begins the tuple of each.
        pub const KINDS: &[(&str, u8)] = &[$((stringify!($name), $name)),*];
    };
}

kinds! { OPEN MESSAGE SUBSCRIBE PUBLISH RESOLVE TEXT BINARY WRITABLE CLOSED LOG STOPPED ENDED ROOM SUBSCRIBED AWAY BACK BEGUN MERGED STAYS RENEWED PRESENCE GATHERED }

impl Bridge {
    /// A bridge with room for so many events.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let (signal, wake) = UnixStream::pair()?;
        signal.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (queue, functions) = (Mutex::default(), Mutex::default());
        Ok(Self { queue, signal, wake, capacity, watched: AtomicBool::new(false), functions })
    }

    /// It becomes readable when events wait.
    pub fn descriptor(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Takes at most `limit` events, and adds a log line that says how many were dropped. Returns `true` when a shard waits for room
    /// and there is some. When more events wait, the descriptor stays readable.
    pub fn take(&self, limit: usize) -> (Vec<Event>, bool) {
        let mut queue = self.lock();
        let count = queue.events.len().min(limit);
        if count == queue.events.len() && std::mem::take(&mut queue.signalled) {
            // There is exactly one byte to read.
            let _ = (&self.wake).read(&mut [0]);
        }
        queue.since = (count < queue.events.len()).then(Instant::now);
        queue.probed = None;
        queue.busy = count > 0;
        let mut events: Vec<_> = queue.events.drain(..count).collect();
        queue.bytes -= events.iter().map(Event::weight).sum::<usize>();
        queue.asking -= events.iter().filter(|event| event.asks()).count();
        for event in &events {
            if let Event::Log { level, .. } = event {
                queue.lines(*level).waiting -= 1;
            }
        }
        for level in [Level::Debug, Level::Warning] {
            let lines = queue.lines(level);
            if lines.waiting == 0 && lines.dropped > 0 {
                let dropped = std::mem::take(&mut lines.dropped);
                let text = format!("{dropped} log lines were dropped here: Python did not take them");
                events.push(Event::Log { level, text, about: None });
            }
        }
        let room = self.has_half(&queue) && std::mem::take(&mut queue.starved);
        (events, room)
    }

    /// Notes what Python says of itself: it knows how many functions run, how many have ended, and their times. Returns whether somebody
    /// looks.
    pub fn note_load(&self, told: Load) -> bool {
        let mut queue = self.lock();
        (queue.told, queue.busy) = (told, false);
        self.watched.load(Ordering::Relaxed)
    }

    /// Notes what Python says of its functions.
    pub fn note_functions(&self, functions: Functions) {
        *self.functions.lock().unwrap_or_else(PoisonError::into_inner) = functions;
    }

    /// Log lines that were dropped since the start.
    pub fn log_lines_dropped(&self) -> u64 {
        self.lock().dropped_ever
    }

    fn signal(&self, queue: &mut Queue) {
        queue.since.get_or_insert_with(Instant::now);
        self.wake_python(queue);
    }

    fn wake_python(&self, queue: &mut Queue) {
        if !std::mem::replace(&mut queue.signalled, true) {
            // The socket pair holds at most this one byte, so it has room.
            let _ = (&self.signal).write(&[0]);
        }
    }

    fn has_half(&self, queue: &Queue) -> bool {
        queue.asking <= self.capacity / 2 && queue.bytes <= MAX_BYTES / 2
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Bridge {
    fn push(&self, event: Event) {
        self.push_of_many(event);
        self.wake();
    }

    fn push_of_many(&self, event: Event) {
        let mut queue = self.lock();
        if let Event::Log { level, .. } = event {
            let lines = queue.lines(level);
            // After one line is dropped, all of its kind are, until Python has taken the lines before it. So lines keep their order.
            if lines.dropped > 0 || lines.waiting == MAX_LOG_LINES {
                lines.dropped += 1;
                queue.dropped_ever += 1;
                return;
            }
            lines.waiting += 1;
        }
        queue.bytes += event.weight();
        queue.asking += usize::from(event.asks());
        queue.events.push_back(event);
        if queue.events.len() >= MANY {
            self.signal(&mut queue);
        }
    }

    fn wake(&self) {
        let mut queue = self.lock();
        if !queue.events.is_empty() {
            self.signal(&mut queue);
        }
    }

    fn is_busy(&self) -> bool {
        let queue = self.lock();
        queue.busy || !queue.events.is_empty()
    }

    fn has_room(&self) -> bool {
        let mut queue = self.lock();
        let room = queue.asking < self.capacity && queue.bytes < MAX_BYTES;
        queue.starved |= !room;
        room
    }

    fn has_room_to_return(&self) -> bool {
        let mut queue = self.lock();
        let room = queue.bytes < MAX_BYTES;
        queue.starved |= !room;
        room
    }

    fn load(&self) -> Load {
        let queue = self.lock();
        Load {
            events: queue.events.len() as u64,
            bytes: queue.bytes as u64,
            age: queue.since.map_or(Duration::ZERO, |since| since.elapsed()),
            silent: queue.probed.map_or(Duration::ZERO, |since| since.elapsed()),
            log_lines_dropped: queue.told.log_lines_dropped + queue.dropped_ever,
            ..queue.told
        }
    }

    fn watch(&self, somebody_looks: bool) {
        self.watched.store(somebody_looks, Ordering::Relaxed);
        if !somebody_looks {
            self.note_functions(Functions::default());
        }
    }

    fn probe(&self) {
        let mut queue = self.lock();
        queue.probed.get_or_insert_with(Instant::now);
        self.wake_python(&mut queue);
    }

    fn functions(&self) -> Functions {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a message takes of its client's allowance. It is given back when Python drops this.
#[pyclass(frozen, module = "umbel._core")]
pub struct Credit(credit::Credit);

#[pymethods]
impl Credit {
    fn give_place_back(&self) {
        self.0.give_place_back();
    }
}

/// An event as a tuple. Its first element is the kind.
pub fn to_tuple<'py>(event: Event, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Open { client, opening } => (OPEN, client.0, Handshake(*opening)).into_pyobject(py),
        Event::Question { client, question, credit } => question_tuple(client.0, question, credit, py),
        Event::Text { client, text, credit } => (TEXT, client.0, Credit(credit), text).into_pyobject(py),
        Event::Binary { client, data, credit } => {
            (BINARY, client.0, Credit(credit), PyBytes::new(py, &data)).into_pyobject(py)
        }
        Event::Writable { client } => (WRITABLE, client.0).into_pyobject(py),
        Event::Begun { client } => (BEGUN, client.0).into_pyobject(py),
        Event::Merged { client, into } => (MERGED, client.0, into.0).into_pyobject(py),
        Event::Renewed { client, verified, .. } => {
            (RENEWED, client.0, named(py, &verified)).into_pyobject(py)
        }
        Event::Away { client, code, reason } => (AWAY, client.0, code, reason).into_pyobject(py),
        Event::Back { client, opening } => (BACK, client.0, Handshake(*opening)).into_pyobject(py),
        Event::Stays { client } => (STAYS, client.0).into_pyobject(py),
        Event::Closed { client, code, reason } => (CLOSED, client.0, code, reason).into_pyobject(py),
        Event::Log { level, text, about } => {
            let about = about.map(|about| (about.client_id, about.connection));
            (LOG, level as u8, text, about).into_pyobject(py)
        }
        Event::Subscribed { number, subscribed } => (SUBSCRIBED, number, subscribed).into_pyobject(py),
        Event::Gathered { rule, params, gathered } => {
            let turns = gathered.turns.iter().map(|turn| {
                (turn.client.to_string(), turn.subject.to_string(), turn.came, turn.left, turn.is_here)
            });
            let (channel, params) = (gathered.channel.as_str(), PyTuple::new(py, params.into_vec())?);
            (GATHERED, rule, channel, params, turns.collect::<Vec<_>>()).into_pyobject(py)
        }
        Event::Room { number } => (ROOM, number).into_pyobject(py),
        Event::Stopped => (STOPPED,).into_pyobject(py),
        Event::Ended { client, code, reason } => (ENDED, client.0, code, reason).into_pyobject(py),
    }
}

fn question_tuple<'py>(
    client: u64,
    question: Question,
    credit: credit::Credit,
    py: Python<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let credit = Credit(credit);
    match question {
        Question::Message { message_type, id, text, .. } => {
            let id = id.map(|id| PyBytes::new(py, id.as_bytes()));
            (MESSAGE, client, credit, message_type, id, PyBytes::new(py, &text)).into_pyobject(py)
        }
        Question::Subscribe { number, rule, channel, params } => {
            (SUBSCRIBE, client, credit, number, rule, channel.as_str(), PyTuple::new(py, params.into_vec())?)
                .into_pyobject(py)
        }
        Question::Presence { number, rule, channel } => {
            (PRESENCE, client, credit, number, rule, channel.as_str()).into_pyobject(py)
        }
        Question::Publish { number, rule, channel, params, op, data, key, .. } => {
            let params = PyTuple::new(py, params.into_vec())?;
            let (data, key) = (PyBytes::new(py, &data), key.as_deref());
            (PUBLISH, client, credit, number, rule, channel.as_str(), params, data, key, op.name())
                .into_pyobject(py)
        }
        Question::Resolve(conflict) => {
            let Conflict { number, rule, channel, params, key, proposed, expects_nothing, found, .. } =
                *conflict;
            let params = PyTuple::new(py, params.into_vec())?;
            let FoundEntry { version, data, sender, base, .. } = found;
            let bytes = |text: Option<bytes::Bytes>| text.map(|text| PyBytes::new(py, &text));
            let current = (version.map(Position), bytes(data), bytes(sender));
            let wanted = (bytes(proposed), bytes(base), expects_nothing);
            (RESOLVE, client, credit, number, rule, channel.as_str(), params, &*key, current, wanted)
                .into_pyobject(py)
        }
    }
}

/// Events for which Python is woken although more may come at once: it has enough to do.
const MANY: usize = 64;

/// Bytes of messages and requests that wait for Python, of all clients together.
const MAX_BYTES: usize = 64 << 20;

/// Log lines that wait for Python: so many of DEBUG, and so many others. More are dropped and counted, because nothing else limits them while Python is blocked.
const MAX_LOG_LINES: usize = 1000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::transport::budget::Budget;
    use crate::transport::client_id::ClientId;
    use crate::transport::credit::{Allowance, Most};

    fn push_line(bridge: &Bridge, number: usize) {
        bridge.push(Event::Log { level: Level::Warning, text: number.to_string(), about: None });
    }

    fn taken(bridge: &Bridge, limit: usize) -> Vec<String> {
        let (events, _) = bridge.take(limit);
        events
            .into_iter()
            .map(|event| match event {
                Event::Log { text, .. } => text,
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn log_lines_above_the_bound_are_dropped_and_counted_in_their_place() {
        let bridge = Bridge::new(10).unwrap();
        for number in 0..MAX_LOG_LINES + 7 {
            push_line(&bridge, number);
        }
        bridge.push(Event::Stopped);
        assert_eq!(bridge.log_lines_dropped(), 7);
        let first = taken(&bridge, 400);
        assert_eq!(first, (0..400).map(|number| number.to_string()).collect::<Vec<_>>());
        push_line(&bridge, 5000); // would come before those that were dropped
        let rest = taken(&bridge, MAX_LOG_LINES);
        let lines = (400..MAX_LOG_LINES).map(|number| number.to_string());
        let end = ["Stopped", "8 log lines were dropped here: Python did not take them"].map(str::to_owned);
        assert_eq!(rest, lines.chain(end).collect::<Vec<_>>());
        push_line(&bridge, 5001);
        assert_eq!(taken(&bridge, 10), ["5001"]);
        assert_eq!(bridge.log_lines_dropped(), 8);
    }

    #[test]
    fn lines_of_debug_cost_warnings_and_messages_no_place() {
        let bridge = Bridge::new(2).unwrap();
        for number in 0..MAX_LOG_LINES + 3 {
            bridge.push(Event::Log { level: Level::Debug, text: format!("debug {number}"), about: None });
        }
        assert!(bridge.has_room(), "lines are no messages");
        push_line(&bridge, 7);
        let lines = taken(&bridge, usize::MAX);
        assert_eq!(lines[MAX_LOG_LINES..], ["7", "3 log lines were dropped here: Python did not take them"]);
        assert_eq!(bridge.log_lines_dropped(), 3);
    }

    #[test]
    fn clients_that_lose_their_connections_cost_nobody_a_place() {
        let bridge = Bridge::new(2).unwrap();
        let (budget, most) = (Budget::new(1 << 30, &[]), Most { bytes: 1 << 30, messages: 100 });
        let allowance = Arc::new(Allowance::new(ClientId(1), most, &budget.messages, &Arc::default()));
        let text = |client| {
            let (client, credit) = (ClientId(client), allowance.credit(1));
            Event::Text { client, text: "x".repeat(MAX_BYTES / 8), credit }
        };
        for client in 0..9 {
            bridge.push(Event::Away { client: ClientId(client), code: 1006, reason: String::new() });
        }
        bridge.push(text(1));
        assert!(bridge.has_room());
        bridge.push(text(2));
        assert!(!bridge.has_room() && bridge.has_room_to_return());
        (0..6).for_each(|client| bridge.push(text(client)));
        assert!(!bridge.has_room_to_return(), "bytes are bounded in any case");
        assert!(!bridge.take(10).1);
        assert!(bridge.take(9).1);
        assert!(bridge.has_room() && bridge.has_room_to_return());
    }

    #[test]
    fn only_log_lines_are_dropped() {
        let bridge = Bridge::new(10).unwrap();
        for number in 0..=MAX_LOG_LINES {
            push_line(&bridge, number);
            bridge.push(Event::Writable { client: ClientId(number as u64) });
        }
        let (events, _) = bridge.take(usize::MAX);
        let others = events.iter().filter(|event| matches!(event, Event::Writable { .. })).count();
        assert_eq!(others, MAX_LOG_LINES + 1);
        assert_eq!(events.len(), others + MAX_LOG_LINES + 1);
    }

    #[test]
    fn python_is_woken_once_for_what_comes_at_once() {
        let bridge = Bridge::new(1000).unwrap();
        let is_readable = || (&bridge.wake).read(&mut [0]).is_ok();
        let event = || Event::Writable { client: ClientId(1) };
        bridge.wake();
        bridge.push_of_many(event());
        assert!(bridge.is_busy() && !is_readable());
        bridge.wake();
        bridge.push_of_many(event());
        bridge.wake();
        assert!(is_readable() && !is_readable());
        let bridge = Bridge::new(1000).unwrap();
        (0..MANY).for_each(|_| bridge.push_of_many(event()));
        assert!((&bridge.wake).read(&mut [0]).is_ok(), "it has enough to do");
    }
}
