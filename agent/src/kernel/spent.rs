//! Cost of the programs that trace requests, measured by the kernel on demand.

use std::{
    fs, io,
    os::fd::{OwnedFd, RawFd},
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};

use super::{Kernel, of_probes};

/// The kernel measures its programs while this exists (`BPF_ENABLE_STATS`, Linux 5.8).
pub struct Measuring {
    _on: OwnedFd,
    since: Instant,
    probes: Runs,
}

/// Number of runs of programs, and their total time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Nanoseconds in the programs, without the traps.
    pub nanoseconds: u64,
    /// Number of runs.
    pub hits: u64,
}

/// A measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Its duration.
    pub lasted: Duration,
    /// Programs of uprobes.
    pub probes: Runs,
}

impl Kernel {
    /// Starts a measurement. Meanwhile each run of a program reads the clock twice more. Needs
    /// `CAP_SYS_ADMIN`.
    pub fn measure(&self, allocators: bool) -> io::Result<Measuring> {
        let on = enable_stats(Stats::RunTime).map_err(|why| why.io_error)?;
        Ok(Measuring {
            _on: on,
            since: Instant::now(),
            probes: self.probe_runs(allocators),
        })
    }

    /// Usage since the start of the measurement. `allocators` must be the same as at the start.
    pub fn measured(&self, measuring: &Measuring, allocators: bool) -> Spent {
        Spent {
            lasted: measuring.since.elapsed(),
            probes: self.probe_runs(allocators).since(measuring.probes),
        }
    }

    fn probe_runs(&self, allocators: bool) -> Runs {
        let wanted = of_probes()
            .filter(|program| program.is_allocator() == allocators)
            .map(|program| program.name);
        let session = allocators.then_some(super::SESSION);
        self.runs(wanted.chain(session))
    }

    fn runs(&self, names: impl Iterator<Item = &'static str>) -> Runs {
        let each = names
            .filter_map(|name| self.programs.descriptor(name))
            .filter_map(of_program);
        each.fold(Runs::default(), |sum, one| Runs {
            nanoseconds: sum.nanoseconds + one.nanoseconds,
            hits: sum.hits + one.hits,
        })
    }
}

impl Runs {
    fn since(self, before: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
            hits: self.hits.saturating_sub(before.hits),
        }
    }
}

/// The kernel's statistics of a program (`proc(5)`, `fdinfo`).
fn of_program(program: RawFd) -> Option<Runs> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?;
    Some(Runs {
        nanoseconds: field(&text, "run_time_ns:")?,
        hits: field(&text, "run_cnt:")?,
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_fdinfo() {
        let text = "prog_type:\t2\nrun_time_ns:\t1234\nrun_cnt:\t56\n";
        assert_eq!(field(text, "run_time_ns:"), Some(1234));
        assert_eq!(field(text, "run_cnt:"), Some(56));
        assert_eq!(field(text, "recursion_misses:"), None);
    }
}
