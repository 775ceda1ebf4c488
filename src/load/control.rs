//! What another thread may do with a load while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Shared by the load and whoever started it. Every method may be called from any thread.
#[derive(Default)]
pub struct Control {
    stop: AtomicBool,
    go: AtomicBool,
    progress: Mutex<Progress>,
    waker: Mutex<Option<mio::Waker>>,
}

/// How far a load is.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What it does now.
    pub stage: Stage,
    /// One for each second so far.
    pub rows: Vec<Row>,
    /// What connections and server have said since somebody last asked, with `verbose`.
    pub conversation: Vec<String>,
}

/// What a load does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Connections are opened.
    #[default]
    RampUp,
    /// All are open. With `wait`, it waits for [`Control::go`].
    Ready,
    /// It works, but nothing is measured yet.
    WarmUp,
    /// What happens now counts.
    Measured,
    /// The window is over. What is still on its way arrives.
    Drain,
    /// Connections are ended one after another.
    RampDown,
    /// All has ended.
    Done,
}

/// One second of a load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Seconds since the load began.
    pub at: f64,
    /// What it did then.
    pub stage: Stage,
    /// Open connections.
    pub open: usize,
    /// Connections on their way.
    pub connecting: usize,
    /// Connections that could not be opened, since the beginning.
    pub failed: u64,
    /// Publications that were sent in this second.
    pub published: u64,
    /// Frames with updates that came.
    pub frames: u64,
    /// Updates in those that were looked into.
    pub messages: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Right answers to requests.
    pub answers: u64,
    /// Publications that a `gap` announced.
    pub lost: u64,
    /// Age of the oldest update of each frame, in milliseconds; `None` when nothing came.
    pub latency_p50: Option<f64>,
    /// Of 95 in a hundred it is at most this.
    pub latency_p95: Option<f64>,
    /// The greatest.
    pub latency_max: Option<f64>,
}

impl Control {
    /// Ends the load soon. It reports what it has seen so far.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Lets a load go on that waits with all its connections open.
    pub fn go(&self) {
        self.go.store(true, Ordering::Release);
        self.wake();
    }

    /// How far it is. The first rows are left out: whoever asks again has them.
    pub fn progress(&self, known: usize) -> Progress {
        let mut progress = self.lock();
        let rows = progress.rows.get(known..).unwrap_or_default().to_vec();
        let conversation = std::mem::take(&mut progress.conversation);
        Progress { stage: progress.stage, rows, conversation }
    }

    /// What it does now.
    pub(in crate::load) fn stage(&self) -> Stage {
        self.lock().stage
    }

    pub(in crate::load) fn has_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(in crate::load) fn may_go(&self) -> bool {
        self.go.load(Ordering::Acquire)
    }

    pub(in crate::load) fn enter(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    pub(in crate::load) fn add_row(&self, row: Row) {
        self.lock().rows.push(row);
    }

    /// Keeps a line until somebody asks; what is too much for anybody to read is dropped.
    pub(in crate::load) fn say(&self, line: String) {
        let mut progress = self.lock();
        match progress.conversation.len() {
            ..LONGEST => progress.conversation.push(line),
            LONGEST => progress.conversation.push("…".into()),
            _ => {}
        }
    }

    pub(in crate::load) fn set_waker(&self, waker: mio::Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            // It finds out within a second all the same, by its row.
            let _ = waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines of a conversation that wait for somebody to ask.
const LONGEST: usize = 10_000;
