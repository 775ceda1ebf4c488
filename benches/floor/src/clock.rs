//! Time and CPU time. `CLOCK_MONOTONIC` is the clock of Python's `time.monotonic_ns()`: a timestamp in a payload can be
//! compared across processes of one machine.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds of the monotonic clock.
#[inline]
pub fn now() -> u64 {
    read(ClockId::Monotonic)
}

/// CPU nanoseconds used by this thread.
pub fn own_cpu() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// CPU nanoseconds of each thread of another process, by name. The first thread is called `main`. The kernel counts a
/// running thread once per scheduler tick, so a figure can be 4 ms too low. Only Linux tells.
pub fn thread_cpu(pid: i32) -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return threads };
    for entry in entries.flatten() {
        // A thread that ends meanwhile has no files any more.
        let file = |name| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let first = entry.file_name().to_str() == Some(pid.to_string().as_str());
        let name = if first { "main".into() } else { file("comm").trim_end().to_string() };
        let used = file("schedstat").split_whitespace().next().and_then(|used| used.parse().ok());
        *threads.entry(name).or_default() += used.unwrap_or(0);
    }
    threads
}

/// Nanoseconds in a number of seconds.
pub fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
