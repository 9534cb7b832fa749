//! Memory usage and limits of a process: cgroups of both versions, rlimits, the host. It runs every
//! second, so it reads small files only.

use std::path::{Path, PathBuf};

use crate::{clocks, error::ProcessError, identity};
use heaptide_judge::events::{LimitScope, MemorySample};

/// A limit and the usage that counts against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    used: u64,
    scope: LimitScope,
}

/// Takes a sample; `memory_limit` is the user's `--memory-limit`, one more upper bound, which applies to each process.
pub fn limits(pid: u32, memory_limit: Option<u64>) -> Result<MemorySample, ProcessError> {
    let stat = identity::stat(pid)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| identity::explain(pid, "status", error))?;
    let (rss, rss_anon) = (kib(&status, "VmRSS:"), kib(&status, "RssAnon:"));
    let rss = rss.unwrap_or(stat.rss_pages * 4096);
    let mut all = Vec::new();
    all.extend(memory_limit.map(|bytes| Limit {
        bytes,
        used: rss,
        scope: LimitScope::Process,
    }));
    all.extend(rlimits(pid, &status));
    all.extend(cgroups(pid));
    all.extend(host());
    // The lowest limit is the one that ends the process.
    let smallest = all.into_iter().min_by_key(|l| l.bytes);
    Ok(MemorySample {
        at: clocks::now(),
        rss,
        rss_anon: rss_anon.unwrap_or(rss),
        limit: smallest.map(|l| l.bytes),
        scope: smallest.map(|l| l.scope).unwrap_or_default(),
        used: smallest.map_or(rss, |l| l.used),
        cpu_ns: u64::try_from(clocks::cpu_time_of(pid)?.as_nanos()).unwrap_or(u64::MAX),
    })
}

/// A `Name:   123 kB` line in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    let number: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

fn rlimits(pid: u32, status: &str) -> Vec<Limit> {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/limits")) else {
        return Vec::new();
    };
    let soft = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    let with = |limit: Option<u64>, used: Option<u64>| {
        Some(Limit {
            bytes: limit?,
            used: used?,
            scope: LimitScope::Process,
        })
    };
    [
        with(soft("Max address space"), kib(status, "VmSize:")),
        with(soft("Max data size"), kib(status, "VmData:")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn host() -> Option<Limit> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = kib(&text, "MemTotal:")?;
    let available = kib(&text, "MemAvailable:").unwrap_or(0);
    Some(Limit {
        bytes: total,
        used: total.saturating_sub(available),
        scope: LimitScope::Host,
    })
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The limits of the process's cgroup and of all cgroups above it.
fn cgroups(pid: u32) -> Vec<Limit> {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
        return Vec::new();
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version2 = controllers.is_empty();
        let memory = controllers.split(',').any(|c| c == "memory");
        if !version2 && !memory {
            continue;
        }
        let Some(mount) = mount_of(&mounts, version2) else {
            continue;
        };
        for dir in up_the_tree(&mount, path) {
            let (limit, used) = if version2 {
                (
                    number(&dir.join("memory.max")),
                    number(&dir.join("memory.current")),
                )
            } else {
                (
                    number(&dir.join("memory.limit_in_bytes")),
                    number(&dir.join("memory.usage_in_bytes")),
                )
            };
            // Version 1 has "none" as a huge number; "max" of version 2 is not a number.
            if let (Some(limit), Some(used)) = (limit, used)
                && limit < 1 << 60
            {
                found.push(Limit {
                    bytes: limit,
                    used,
                    scope: LimitScope::ControlGroup,
                });
            }
        }
    }
    found
}

/// A mounted cgroup hierarchy: its mounted directory, and the mount point.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: String,
    point: PathBuf,
}

fn mount_of(mountinfo: &str, version2: bool) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next().unwrap_or(""));
        let wanted = if version2 {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|o| o == "memory")
        };
        wanted.then(|| Mount {
            root: root.to_string(),
            point: PathBuf::from(point),
        })
    })
}

/// The directory of a cgroup and all above it within the mount.
fn up_the_tree(mount: &Mount, path: &str) -> Vec<PathBuf> {
    let below = match path.strip_prefix(mount.root.as_str()) {
        Some(rest) if mount.root != "/" => rest,
        _ => path,
    };
    // in a cgroup namespace paths may begin with /..
    let parts: Vec<&str> = below
        .split('/')
        .filter(|p| !p.is_empty() && *p != "..")
        .collect();
    (0..=parts.len())
        .rev()
        .map(|depth| {
            parts[..depth]
                .iter()
                .fold(mount.point.clone(), |dir, part| dir.join(part))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory() {
        let sample = limits(std::process::id(), None).unwrap();
        assert!(sample.rss > 0 && sample.rss_anon <= sample.rss);
        assert!(sample.limit.is_some_and(|limit| limit > sample.rss));
        let sample = limits(std::process::id(), Some(12345)).unwrap();
        assert_eq!(
            (sample.limit, sample.used / 4096),
            (Some(12345), sample.rss / 4096)
        );
    }

    #[test]
    fn cgroup_paths() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      31 23 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let two = mount_of(mounts, true).unwrap();
        let dirs = up_the_tree(&two, "/a/b");
        assert_eq!(dirs[0], Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(dirs[2], Path::new("/sys/fs/cgroup"));
        let one = mount_of(mounts, false).unwrap();
        let dirs = up_the_tree(&one, "/docker/x/y");
        assert_eq!(dirs[0], Path::new("/sys/fs/cgroup/memory/y"));
        assert_eq!(dirs.len(), 2);
    }
}
