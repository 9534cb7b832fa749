//! The clocks of this host: the time, and the CPU time of threads and processes.

use std::time::Duration;

use heaptide_judge::events::Nanos;

/// `CLOCK_MONOTONIC`: the clock of the kernel programs.
pub fn now() -> Nanos {
    let time = read(libc::CLOCK_MONOTONIC).unwrap_or_default();
    Nanos(time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos()))
}

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

/// CPU time of all threads of a process, by its CPU clock, which is finer than the ticks of `/proc`. `None` if there is
/// no such process.
pub fn cpu_time_of(pid: u32) -> Option<Duration> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock = 0;
    // SAFETY: `clock` is valid for writing a clock id.
    let refused = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if refused == 0 { read(clock) } else { None }
}

fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing a timespec.
    let refused = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (refused == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_at_least_the_time_of_this_thread() {
        let thread = cpu_time();
        let own = cpu_time_of(std::process::id()).expect("this process");
        assert!(
            thread > Duration::ZERO && own >= thread,
            "{own:?} {thread:?}"
        );
    }

    #[test]
    fn no_process_has_no_time() {
        assert_eq!(cpu_time_of(u32::MAX), None);
        // beyond the largest process id of Linux
        assert_eq!(cpu_time_of(1 << 22), None);
    }
}
