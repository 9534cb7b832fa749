//! The clocks of this host: the time, and the CPU time of threads and processes.

use std::time::Duration;

use heaptide_judge::events::Nanos;

use crate::error::ProcessError;

/// `CLOCK_MONOTONIC`: the clock of the kernel programs.
pub fn now() -> Nanos {
    let time = read(libc::CLOCK_MONOTONIC).unwrap_or_default();
    Nanos(time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos()))
}

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

/// CPU time of all threads of this process.
pub fn own_cpu_time() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

/// CPU time of all threads of a process, by its CPU clock, which is finer than the ticks of
/// `/proc`.
pub fn cpu_time_of(pid: u32) -> Result<Duration, ProcessError> {
    let ended = ProcessError::Ended { pid };
    let Ok(id) = libc::pid_t::try_from(pid) else {
        return Err(ended);
    };
    let mut clock = 0;
    // SAFETY: `clock` is valid for writing a clock id.
    let refused = unsafe { libc::clock_getcpuclockid(id, &raw mut clock) };
    if refused != 0 {
        return Err(ended);
    }
    read(clock).ok_or(ended)
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
        // The second one is above Linux's maximum process id.
        for pid in [u32::MAX, 1 << 22] {
            let ended = cpu_time_of(pid);
            assert!(
                matches!(ended, Err(ProcessError::Ended { pid: of }) if of == pid),
                "{ended:?}"
            );
        }
    }
}
