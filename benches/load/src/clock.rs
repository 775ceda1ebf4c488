//! Time and CPU time. `CLOCK_MONOTONIC` is the clock of Python's `time.monotonic_ns()`: a timestamp in a payload can be
//! compared across processes of one machine.

use std::collections::BTreeMap;

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result == 0 { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 } else { 0 }
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// CPU nanoseconds used by this process.
pub fn own_cpu() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU nanoseconds used by all threads of another process; 0 when there is no such process.
pub fn process_cpu(pid: i32) -> u64 {
    // What clock_getcpuclockid(3) computes: the inverted pid, and 2 for the scheduler's exact clock.
    read((!pid << 3) | 2)
}

/// CPU nanoseconds of each thread of another process, by name. The first thread is called `main`. The kernel counts a
/// running thread once per scheduler tick, so a figure can be 4 ms too low.
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
