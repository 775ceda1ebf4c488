//! What the system says of this process. Linux says it in `/proc`; elsewhere there is nothing to read, and nothing is made up.

use std::fs;

/// What is known at one moment. `None`: the system does not say it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// Seconds of processor time of all threads since the start, in user and in system mode.
    pub cpu: Option<f64>,
    /// Bytes of addresses that are mapped.
    pub virtual_bytes: Option<u64>,
    /// Bytes of memory that it occupies.
    pub resident_bytes: Option<u64>,
    /// File descriptors that are open.
    pub files: Option<u64>,
    /// File descriptors that may be open. `None` also when there is no limit.
    pub most_files: Option<u64>,
}

impl Process {
    /// Without the descriptors.
    pub fn in_brief() -> Self {
        let stat = fs::read_to_string(STAT).unwrap_or_default();
        Self::parsed(&stat, ticks_per_second(), rustix::param::page_size() as u64)
    }

    /// Reads it all. With 10,000 connections this takes some 0.1 ms, and 10 ms where Linux is older than 6.2 (2026-11).
    pub fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let files = fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
        Self {
            files: (files > 0).then_some(files).or_else(listed),
            most_files: most_files(&read("/proc/self/limits")),
            ..Self::in_brief()
        }
    }

    fn parsed(stat: &str, ticks: u64, page: u64) -> Self {
        let seconds = |user: u64, system: u64| (user + system) as f64 / ticks as f64;
        Self {
            cpu: field(stat, UTIME).zip(field(stat, STIME)).map(|(user, system)| seconds(user, system)),
            virtual_bytes: field(stat, VSIZE),
            resident_bytes: field(stat, RSS).map(|pages| pages * page),
            ..Self::default()
        }
    }
}

/// Unix time of the start of this process, in seconds. It is asked for once: the kernel computes the time of its own start anew each time, and
/// says another second when the clock is set.
pub(crate) fn started() -> Option<f64> {
    let (stat, system) = (fs::read_to_string(STAT).ok()?, fs::read_to_string("/proc/stat").ok()?);
    started_at(&stat, &system, ticks_per_second())
}

fn started_at(stat: &str, system: &str, ticks: u64) -> Option<f64> {
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(booted.trim().parse::<f64>().ok()? + field(stat, STARTTIME)? as f64 / ticks as f64)
}

/// A field of proc_pid_stat(5), where the first has number 1. The second is a name in parentheses, and may have everything in it.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Before Linux 6.2 the folder does not say how many it has. One is the descriptor that lists it.
fn listed() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

/// The soft limit, from a table of all limits.
fn most_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files "))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

const STAT: &str = "/proc/self/stat";

const UTIME: usize = 14;
const STIME: usize = 15;
const STARTTIME: usize = 22;
const VSIZE: usize = 23;
const RSS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 (a) (b c) S 1 7 7 0 -1 4194560 99 0 1 0 250 50 0 0 20 0 5 0 6000 1048576 25 18446744073709551615 1 1 0\n";

    #[test]
    fn fields_are_counted_from_the_end_of_the_name() {
        let expected = Process {
            cpu: Some(3.0),
            virtual_bytes: Some(1 << 20),
            resident_bytes: Some(25 << 12),
            ..Process::default()
        };
        assert_eq!(Process::parsed(LINE, 100, 4096), expected);
        assert_eq!(started_at(LINE, "cpu  1 2 3\nbtime 1700000000\n", 100), Some(1_700_000_060.0));
    }

    #[test]
    fn what_is_not_said_is_absent() {
        assert_eq!(Process::parsed("", 100, 4096), Process::default());
        assert_eq!(started_at(LINE, "cpu  1 2 3\n", 100), None);
        assert_eq!(most_files(""), None);
        assert_eq!(
            most_files("Max open files            unlimited            unlimited            files\n"),
            None
        );
    }

    #[test]
    fn the_limit_of_files_is_the_soft_one() {
        let limits =
            "Limit      Soft Limit    Hard Limit    Units\nMax open files     1024     1048576     files\n";
        assert_eq!(most_files(limits), Some(1024));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_says_everything() {
        let found = Process::now();
        assert!(found.cpu.is_some() && started().is_some_and(|time| time > 1.6e9));
        assert!(found.resident_bytes > Some(1 << 20) && found.virtual_bytes >= found.resident_bytes);
        assert!(
            found.files >= Some(3) && listed() >= Some(3) && found.most_files.is_none_or(|most| most > 3)
        );
    }
}
