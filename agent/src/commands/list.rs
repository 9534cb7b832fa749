//! All processes and what can be observed in each, for `heaptide ps`.

use heaptide_judge::events::Workload;
use heaptide_process::{ProcessError, identity, workload};
use heaptide_runtimes::inspect_until;
use regex::Regex;
use std::time::{Duration, Instant};

/// Time budget for reading the files of all processes.
const TIME: Duration = Duration::from_millis(1400);

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessRow {
    /// Process id.
    pub(crate) pid: u32,
    /// Name of its main thread.
    pub(crate) comm: String,
    /// Its command line.
    pub(crate) cmdline: String,
    /// Resident bytes.
    pub(crate) rss: u64,
    /// Its runtime; empty if unreadable.
    pub(crate) runtime: String,
    /// Its allocators.
    pub(crate) allocators: Vec<String>,
    /// Where it runs.
    pub(crate) workload: Workload,
    /// Its limitations.
    pub(crate) limitations: Vec<String>,
}

/// All user processes whose name or command line is `wanted`, by pid. Processes that end meanwhile are omitted;
/// unreadable ones have the reason.
pub(crate) fn list(wanted: Option<&Regex>) -> Vec<ProcessRow> {
    let deadline = Instant::now() + TIME;
    pids()
        .into_iter()
        // A pattern is in the own command line.
        .filter(|pid| wanted.is_none() || *pid != std::process::id())
        .filter_map(|pid| row(pid, wanted, deadline))
        .collect()
}

/// The pids of all processes, ascending.
pub(super) fn pids() -> Vec<u32> {
    let Ok(dir) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = dir
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

fn row(pid: u32, wanted: Option<&Regex>, deadline: Instant) -> Option<ProcessRow> {
    let stat = identity::stat(pid).ok()?;
    if stat.kernel_thread() || stat.dead() {
        return None;
    }
    let mut row = ProcessRow {
        pid,
        comm: stat.comm,
        cmdline: identity::cmdline(pid),
        rss: stat.rss_pages * 4096,
        runtime: String::new(),
        allocators: Vec::new(),
        workload: workload::of(pid),
        limitations: Vec::new(),
    };
    let is_wanted = |wanted: &Regex| wanted.is_match(&row.comm) || wanted.is_match(&row.cmdline);
    if !wanted.is_none_or(is_wanted) {
        return None;
    }
    if Instant::now() >= deadline {
        row.limitations
            .push("its files were not read: the list takes at most two seconds".into());
        return Some(row);
    }
    match inspect_until(pid, deadline) {
        Ok(target) => {
            row.runtime = target.info.runtime;
            row.allocators = target.info.allocators;
            row.limitations = target.info.limitations;
        }
        Err(ProcessError::Ended { .. } | ProcessError::NoSuchProcess { .. }) => return None,
        Err(error) => row.limitations.push(error.to_string()),
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_itself() {
        let rows = list(None);
        assert!(rows.iter().any(|r| r.pid == std::process::id()));
        // On a busy host the budget may end before this process's turn.
        let own = row(std::process::id(), None, Instant::now() + 60 * TIME).unwrap();
        assert_eq!(own.allocators, ["glibc"]);
        assert!(own.rss > 0 && !own.cmdline.is_empty());
        let mut other = std::process::Command::new("sleep")
            .arg("61.25")
            .spawn()
            .unwrap();
        let wanted = Regex::new(r"sleep 61\.25$").unwrap();
        // A process that is just being loaded is left out.
        let is_found = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            list(Some(&wanted)).iter().any(|row| row.pid == other.id())
        });
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(is_found);
        assert_eq!(list(Some(&Regex::new("no such process").unwrap())), []);
    }
}
