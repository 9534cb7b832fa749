//! What the programs that see requests cost, as the kernel itself measures it while it is asked to.

use std::{
    fs, io,
    os::fd::{OwnedFd, RawFd},
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};

use super::{Kernel, of_probes};

/// The kernel measures its programs as long as this lives (`BPF_ENABLE_STATS`, Linux 5.8).
pub struct Measuring {
    _on: OwnedFd,
    since: Instant,
    probes: Runs,
}

/// How often programs ran, and for how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Nanoseconds in the programs, without what it takes to get there.
    pub nanoseconds: u64,
    /// How often.
    pub hits: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// For how long.
    pub lasted: Duration,
    /// Programs of uprobes.
    pub probes: Runs,
}

impl Kernel {
    /// Begins to measure. While that lasts each run of a program costs two looks at the clock more. Needs
    /// `CAP_SYS_ADMIN`.
    pub fn measure(&self, allocators: bool) -> io::Result<Measuring> {
        let on = enable_stats(Stats::RunTime).map_err(|why| why.io_error)?;
        Ok(Measuring {
            _on: on,
            since: Instant::now(),
            probes: self.probe_runs(allocators),
        })
    }

    /// What was spent since then. `allocators` as it was then.
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

/// What the kernel says of a program (`proc(5)`, `fdinfo`).
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
