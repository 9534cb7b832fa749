//! CPU time of processes, from their CPU clocks.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// CPU time of a process since its start, including ended threads.
pub(super) fn time(pid: u32) -> Result<Duration> {
    // A process's CPU clock (clock_getcpuclockid(3)): ticks of /proc/PID/stat are too coarse.
    let clock = ((!pid << 3) | 2) as libc::clockid_t;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the duration of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        bail!(
            "process {pid} has no CPU clock: {}",
            std::io::Error::last_os_error()
        );
    }
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}

/// The heaptide process below a process: itself, or the child of sudo.
pub(super) fn heaptide_below(pid: u32) -> Option<u32> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if comm.trim() == "heaptide" {
        return Some(pid);
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .find_map(heaptide_below)
}

/// Peak resident memory of a process, and its locked memory: its own pages and its BPF maps.
pub(super) fn peak_memory(pid: u32) -> Result<(u64, u64)> {
    let status = status(pid)?;
    Ok((
        field(&status, "VmHWM:").context("no VmHWM")?,
        field(&status, "VmLck:").unwrap_or(0) + bpf_maps(pid)?,
    ))
}

/// Bytes of the BPF maps that a process has open.
fn bpf_maps(pid: u32) -> Result<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .with_context(|| format!("process {pid} is gone"))?;
    let mut bytes = 0;
    for file in files.flatten() {
        // a file may be closed meanwhile
        let info = fs::read_to_string(file.path()).unwrap_or_default();
        if !info.contains("map_id:") {
            continue;
        }
        let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
        bytes += line
            .and_then(|line| line.trim().parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(bytes)
}

/// Present resident memory of a process.
pub(super) fn resident(pid: u32) -> Result<u64> {
    field(&status(pid)?, "VmRSS:").context("no VmRSS")
}

fn status(pid: u32) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))
}

/// A field in KiB, as bytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
