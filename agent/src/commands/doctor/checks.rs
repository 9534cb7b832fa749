//! Checks of the host that need no loading: kernel, type information, tracefs, permissions, limits.

use std::{fs, path::Path};

use super::check::Check;
use crate::kernel;
use crate::privileges::NEEDED;

/// The first with attach cookies for perf-event links.
const OLDEST: (u32, u32) = (5, 15);
/// Inode of the first pid namespace (`PROC_PID_INIT_INO` in the kernel).
const INIT_PID_NAMESPACE: &str = "pid:[4026531836]";

/// All these checks.
pub(super) fn host() -> Vec<Check> {
    let mut checks = vec![
        kernel_version(&read("/proc/sys/kernel/osrelease")),
        btf(),
        uprobes(),
        tracefs(),
        pid_namespace(),
    ];
    checks.extend(capabilities(&read("/proc/self/status")));
    checks.extend([paranoid(), memlock(), cgroups()]);
    checks
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn kernel_version(release: &str) -> Check {
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => return Check::limited("kernel", "its version cannot be read", "mount /proc"),
    };
    let found = format!("Linux {release}, {}", std::env::consts::ARCH);
    if std::env::consts::ARCH != "x86_64" {
        return Check::missing("kernel", found, "heaptide supports only x86-64");
    }
    if version < OLDEST {
        let advice = "use Linux 5.15 or newer: older kernels have no attach cookies";
        return Check::missing("kernel", found, advice);
    }
    Check::ok("kernel", found)
}

fn btf() -> Check {
    const BTF: &str = "/sys/kernel/btf/vmlinux";
    if Path::new(BTF).exists() {
        return Check::ok("type information", BTF);
    }
    let advice = "use a kernel with CONFIG_DEBUG_INFO_BTF=y; in a container, mount /sys";
    Check::missing("type information", format!("{BTF} does not exist"), advice)
}

fn uprobes() -> Check {
    const PMU: &str = "/sys/bus/event_source/devices/uprobe/type";
    if Path::new(PMU).exists() {
        return Check::ok("uprobes", "the kernel has the uprobe PMU");
    }
    let advice = "use a kernel with CONFIG_UPROBE_EVENTS=y; in a container, mount /sys";
    Check::missing("uprobes", format!("{PMU} does not exist"), advice)
}

fn tracefs() -> Check {
    match (kernel::tracefs_mounted(), kernel::tracefs_readable()) {
        (Some(path), Ok(())) => Check::ok("tracefs", format!("mounted on {path}")),
        (None, Ok(())) => Check::ok(
            "tracefs",
            "not mounted; heaptide can mount it in a private namespace at start",
        ),
        (_, Err(why)) => Check::limited(
            "tracefs",
            format!("it cannot be read: {why}"),
            "run as root, or mount it; without it requests, forks and mappings are not seen",
        ),
    }
}

fn pid_namespace() -> Check {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if namespace == Path::new(INIT_PID_NAMESPACE) {
        return Check::ok("pid namespace", "the host's");
    }
    Check::missing(
        "pid namespace",
        "not the host's: the kernel programs use the host's pids, but /proc shows others",
        "run heaptide in the host's pid namespace (`docker run --pid=host`, `hostPID: true`)",
    )
}

fn capabilities(status: &str) -> Vec<Check> {
    const NAME: &str = "capabilities";
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(effective) = effective else {
        return vec![Check::limited(NAME, "cannot be read", "mount /proc")];
    };
    NEEDED
        .iter()
        .map(|needed| {
            let words = format!("{}: {}", needed.name, needed.purpose);
            let advice = format!("run heaptide as root, or give it {}", needed.name);
            match needed.lost {
                _ if needed.is_in(effective) => Check::ok(NAME, words),
                Some(lost) => Check::limited(NAME, format!("{words}: missing, {lost}"), advice),
                None => Check::forbidden(NAME, format!("{words}: missing"), advice),
            }
        })
        .collect()
}

fn paranoid() -> Check {
    const NAME: &str = "perf_event_paranoid";
    let value = read("/proc/sys/kernel/perf_event_paranoid");
    let strict = value.parse::<i32>().is_ok_and(|value| value > 2);
    if strict && kernel::perf_events_refused() {
        let found = format!(
            "{value}: this kernel refuses perf events without CAP_SYS_ADMIN: forks are not seen, and before Linux 6.6 \
             nothing can be probed"
        );
        return Check::limited(NAME, found, "run as root, or set it to 2");
    }
    let found = if value.is_empty() { "unknown" } else { &value };
    Check::ok(NAME, format!("{found} (perf events are allowed)"))
}

fn memlock() -> Check {
    let limits = read("/proc/self/limits");
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|line| line.split_ascii_whitespace().next());
    let soft = soft.unwrap_or("unknown");
    Check::ok(
        "locked memory",
        format!("{soft} (it does not limit maps since Linux 5.11)"),
    )
}

fn cgroups() -> Check {
    const NAME: &str = "control groups";
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        Check::ok(NAME, "version 2")
    } else if Path::new("/sys/fs/cgroup/memory").exists() {
        Check::ok(NAME, "version 1")
    } else {
        let advice = "mount /sys/fs/cgroup, or give --memory-limit";
        Check::limited(
            NAME,
            "not mounted: memory limits of cgroups are not seen",
            advice,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckStatus;
    use super::*;

    #[test]
    fn versions_of_the_kernel() {
        let of = |release| kernel_version(release).state;
        assert_eq!(of("6.1.0-31-amd64"), CheckStatus::Ok);
        assert_eq!(of("5.15.0"), CheckStatus::Ok);
        assert_eq!(of("5.10.0-28-amd64"), CheckStatus::Missing);
        assert_eq!(of(""), CheckStatus::Limited);
    }

    #[test]
    fn capabilities_are_named() {
        let of = |bits: u64| -> Vec<CheckStatus> {
            let checks = capabilities(&format!("Name:\tx\nCapEff:\t{bits:016x}\n"));
            checks.iter().map(|check| check.state).collect()
        };
        let (ok, limited, missing) = (CheckStatus::Ok, CheckStatus::Limited, CheckStatus::Missing);
        assert_eq!(of(u64::MAX), [ok; 5]);
        assert_eq!(of(0), [missing, missing, limited, limited, limited]);
        assert_eq!(of(1 << 39 | 1 << 38), [ok, ok, limited, limited, limited]);
        assert_eq!(of(1 << 21), [ok, ok, limited, limited, ok]);
        assert!(capabilities("CapEff:\t0\n")[0].found.contains("CAP_BPF"));
    }
}
