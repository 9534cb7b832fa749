//! The small files of `/proc/PID`.

use std::io::ErrorKind;
use std::path::Path;

use crate::{
    error::ProcessError,
    files::{self, Identity},
};

/// The fields of `/proc/PID/stat` that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name of the main thread.
    pub comm: String,
    /// State letter.
    pub state: u8,
    /// Kernel flags of the task.
    pub flags: u64,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// Resident pages.
    pub rss_pages: u64,
}

impl Stat {
    /// `PF_KTHREAD`.
    pub fn kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
    /// A zombie, or about to become one.
    pub fn dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Translates an error of `/proc/PID/WHAT`.
pub fn explain(pid: u32, what: &'static str, error: std::io::Error) -> ProcessError {
    match error.kind() {
        ErrorKind::PermissionDenied if may_trace() => ProcessError::Refused { pid, what },
        ErrorKind::PermissionDenied => ProcessError::NotPermitted {
            pid,
            what,
            capability: "CAP_SYS_PTRACE",
        },
        ErrorKind::NotFound => ProcessError::Ended { pid },
        _ if error.raw_os_error() == Some(libc::ESRCH) => ProcessError::Ended { pid },
        _ => ProcessError::Io {
            pid,
            what: format!("/proc/{pid}/{what}"),
            source: error,
        },
    }
}

/// Whether this process holds `CAP_SYS_PTRACE`.
fn may_trace() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

/// Reads `/proc/PID/stat`.
pub fn stat(pid: u32) -> Result<Stat, ProcessError> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ProcessError::NoSuchProcess { pid },
        _ => explain(pid, "stat", error),
    })?;
    parse_stat(&bytes).ok_or_else(|| ProcessError::Io {
        pid,
        what: "/proc/PID/stat".to_string(),
        source: std::io::Error::new(ErrorKind::InvalidData, "unexpected form"),
    })
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    // The name may contain spaces and parentheses; it ends at the last one.
    let open = bytes.iter().position(|b| *b == b'(')?;
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // fields[0] is field 3 of proc(5)
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm,
        state: *fields.first()?.as_bytes().first()?,
        flags: number(9)?,
        start_ticks: number(22)?,
        rss_pages: number(24)?,
    })
}

/// Path of the executable.
pub fn exe(pid: u32) -> Result<String, ProcessError> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe"))
        .map_err(|error| explain(pid, "exe", error))?;
    let path = path.to_string_lossy();
    Ok(path.strip_suffix(" (deleted)").unwrap_or(&path).to_string())
}

/// Device and inode of the executable.
pub fn exe_inode(pid: u32) -> Option<Identity> {
    files::identity(Path::new(&format!("/proc/{pid}/exe")))
}

/// Command line, arguments joined by spaces; empty for kernel threads and zombies.
pub fn cmdline(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').replace('\0', " ")
}

/// Arguments of the command line, the program's name first.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\0').unwrap_or(&text);
    text.split('\0').map(str::to_owned).collect()
}

/// Thread ids.
pub fn threads(pid: u32) -> Result<Vec<u32>, ProcessError> {
    let dir = std::fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|error| explain(pid, "task", error))?;
    let mut threads: Vec<u32> = dir
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    threads.sort_unstable();
    Ok(threads)
}

/// Its children; empty if the kernel does not list them (`CONFIG_PROC_CHILDREN`).
pub fn children(pid: u32) -> Vec<u32> {
    let threads = threads(pid).unwrap_or_default();
    let lists = threads.into_iter().filter_map(|thread| {
        std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).ok()
    });
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses() {
        let line = b"7 (a) (b c) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 0 0 20 0 1 0 4711 100 55 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.comm, "a) (b c");
        assert_eq!((stat.start_ticks, stat.rss_pages), (4711, 55));
        assert!(!stat.kernel_thread() && !stat.dead());
        assert_eq!(parse_stat(b"7 (a S"), None);
    }
}
