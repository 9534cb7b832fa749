//! Kernel tests: test programs, and heaptide's verdicts on the lab's services. Most of them wait for services, so
//! several run concurrently. Programs that measure costs come last, one at a time.

use anyhow::Result;

use super::lab::Row;
use super::programs::{Outcome, TestProgram, Wanted};
use crate::at_once::at_once;

/// Maximum number of concurrent jobs. More would overload a small machine, and deadlines would pass.
const JOBS: usize = 4;
/// Boots an emulated kernel: it takes longest and hardly uses this kernel.
const FIRST: &[&str] = &["kernel_older"];
/// Its tests hold the lock of `agent/tests/common` exclusively, so concurrent programs would only wait.
const ALONE: &[&str] = &["kernel_modes"];
/// Long ones come first, so that none is left to the end.
const LONG: &[&str] = &[
    "kernel_allocators",
    "kernel_residency",
    "kernel_faults",
    "kernel_census",
    "kernel_go",
    "kernel_windows",
];

/// A job: tests of a program, or a row of the lab.
enum Job<'a> {
    Program(&'a TestProgram, &'a [String]),
    Verdict(&'a Row<'a>),
}

impl Job<'_> {
    fn run(&self, has_company: bool) -> Result<Outcome> {
        match self {
            Self::Program(program, tests) => {
                let prefix = format!("{}: ", program.name);
                program.run(tests, true, if has_company { &prefix } else { "" })
            }
            Self::Verdict(row) => Ok(super::lab::verdict(row)),
        }
    }
}

/// A test program and its selected tests.
pub(super) type Chosen<'a> = (&'a TestProgram, Vec<String>);

/// The programs with selected kernel tests.
pub(super) fn chosen<'a>(programs: &'a [TestProgram], wanted: &Wanted) -> Vec<Chosen<'a>> {
    let all = programs
        .iter()
        .map(|program| (program, program.kernel(wanted)));
    all.filter(|(_, tests)| !tests.is_empty()).collect()
}

/// Runs them all.
pub(super) fn run(programs: &[Chosen], rows: &[Row], outcome: &mut Outcome) -> Result<()> {
    let jobs_of = |names: &[&str]| -> Vec<Job> {
        let named = |name: &str| programs.iter().find(|(program, _)| program.name == name);
        let named = names.iter().filter_map(|name| named(name));
        named
            .map(|(program, tests)| Job::Program(program, tests))
            .collect()
    };
    let is_other = |name: &str| ![FIRST, LONG, ALONE].concat().contains(&name);
    let others: Vec<&str> = programs
        .iter()
        .map(|(program, _)| program.name.as_str())
        .filter(|name| is_other(name))
        .collect();
    // A service under load and heaptide use half of a core and mostly wait, so they alternate with the programs, of
    // which the long ones use all of it.
    let mut others = jobs_of(LONG).into_iter().chain(jobs_of(&others));
    let mut rows = rows.iter().map(Job::Verdict);
    let mut shared = jobs_of(FIRST);
    loop {
        let before = shared.len();
        shared.extend(rows.next());
        shared.extend(others.next());
        if shared.len() == before {
            break;
        }
    }
    for (jobs, at_a_time) in [(shared, JOBS), (jobs_of(ALONE), 1)] {
        for one in at_once(&jobs, at_a_time, |job| job.run(at_a_time > 1)) {
            outcome.extend(one?);
        }
    }
    Ok(())
}
