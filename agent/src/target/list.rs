//! All processes with what could be seen in each: `heaptide ps`.

use super::{TargetError, inspect, process};

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRow {
    /// Process id.
    pub pid: u32,
    /// Name of its main thread.
    pub comm: String,
    /// Its command line.
    pub cmdline: String,
    /// Resident bytes.
    pub rss: u64,
    /// Its runtime; empty when it could not be read.
    pub runtime: String,
    /// Its allocators.
    pub allocators: Vec<String>,
    /// What cannot be seen and why.
    pub limitations: Vec<String>,
}

/// Every user process, by pid. Processes that end meanwhile are left out; those that cannot be read
/// say why.
pub fn list() -> Vec<ProcessRow> {
    let Ok(dir) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = dir
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(row).collect()
}

fn row(pid: u32) -> Option<ProcessRow> {
    let stat = process::stat(pid).ok()?;
    if stat.kernel_thread() || stat.dead() {
        return None;
    }
    let mut row = ProcessRow {
        pid,
        comm: stat.comm,
        cmdline: process::cmdline(pid),
        rss: stat.rss_pages * 4096,
        runtime: String::new(),
        allocators: Vec::new(),
        limitations: Vec::new(),
    };
    match inspect(pid) {
        Ok(target) => {
            row.runtime = target.info.runtime;
            row.allocators = target.info.allocators;
            row.limitations = target.info.limitations;
        }
        Err(TargetError::Ended { .. } | TargetError::NoSuchProcess { .. }) => return None,
        Err(error) => row.limitations.push(error.to_string()),
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_itself() {
        let rows = list();
        let own = rows.iter().find(|r| r.pid == std::process::id()).unwrap();
        assert_eq!(own.allocators, ["glibc"]);
        assert!(own.rss > 0 && !own.cmdline.is_empty());
    }
}
