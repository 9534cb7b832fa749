//! `cargo xtask test`: builds as the ordinary user, runs the pure tests, then those that need the
//! kernel as root, and says by name what was skipped.

use std::env;

use anyhow::{Context as _, Result, bail};

use crate::lab::at_once;
use crate::process::{self, cargo, command, on_path};

mod lab;
mod programs;

use programs::{Outcome, TestProgram};

/// Skips that are no failure in CI: (test, why CI cannot run it).
const EXPECTED_SKIPS: &[(&str, &str)] = &[
    ("Go 1.22", BETWEEN),
    ("Go 1.24", BETWEEN),
    ("Go 1.26", BETWEEN),
];
const BETWEEN: &str = "its toolchain comes with `cargo xtask setup --lab --all`";

/// Programs whose tests look at what the whole host has loaded, so that no other heaptide may come or go meanwhile.
const ALONE: &[&str] = &["kernel_bad_environment", "kernel_daemon"];
/// Other programs with tests in the kernel that run at a time.
const JOBS: usize = 2;

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Leave the tests out that need the kernel.
    #[arg(long)]
    pure: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut failed = Vec::new();
    build()?;
    if let Err(error) = prometheus_rules() {
        failed.push(format!("{error:#}"));
    }
    if let Err(error) = process::run(cargo().args(["test", "--workspace", "--doc", "--quiet"])) {
        failed.push(format!("{error:#}"));
    }

    let mut outcome = Outcome::default();
    let test_programs = programs::build(&mut cargo())?;
    let lab_programs = programs::build(process::lab_cargo().args(["--release"]))?;
    for program in test_programs.iter().chain(&lab_programs) {
        outcome.extend(program.run(&program.pure(arguments.filter.as_deref()), false, "")?);
    }
    lab::books(arguments.filter.as_deref(), &mut outcome)?;
    if !arguments.pure {
        kernel_tests(&test_programs, arguments, &mut outcome)?;
        lab::verdicts(arguments.filter.as_deref(), &mut outcome)?;
    }
    outcome.print();
    failed.extend(
        outcome
            .failed
            .iter()
            .map(|name| format!("{name} has failing tests")),
    );
    let unexpected: Vec<_> = outcome
        .skipped
        .iter()
        .filter(|skip| !is_expected(skip))
        .collect();
    if env::var("CI").is_ok_and(|value| value == "true") && !unexpected.is_empty() {
        failed.push(format!(
            "{} tests were skipped, which CI does not allow",
            unexpected.len()
        ));
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// Everything that tests start, built before root comes in, so that no root-owned file is left in
/// the target folders.
fn build() -> Result<()> {
    crate::build::agent(false)?;
    crate::lab::service::build_all()
}

/// Two programs at a time: most of their time they wait for services that run.
fn kernel_tests(
    test_programs: &[TestProgram],
    arguments: &Arguments,
    outcome: &mut Outcome,
) -> Result<()> {
    let filter = arguments.filter.as_deref();
    let programs = test_programs
        .iter()
        .map(|program| (program, program.kernel(filter)))
        .filter(|(_, tests)| !tests.is_empty());
    if !process::can_be_root() {
        for (_, tests) in programs {
            let skips = tests
                .iter()
                .map(|test| format!("{test}: needs root, and sudo is not there"));
            outcome.skipped.extend(skips);
        }
        return Ok(());
    }
    let (alone, others): (Vec<_>, Vec<_>) =
        programs.partition(|(program, _)| ALONE.contains(&program.name.as_str()));
    for (programs, jobs) in [(alone, 1), (others, JOBS)] {
        let ran = at_once(&programs, jobs, |(program, tests)| {
            let prefix = if jobs > 1 {
                format!("{}: ", program.name)
            } else {
                String::new()
            };
            program.run(tests, true, &prefix)
        });
        for one in ran {
            outcome.extend(one?);
        }
    }
    Ok(())
}

fn is_expected(skip: &str) -> bool {
    EXPECTED_SKIPS
        .iter()
        .any(|(name, _)| skip.split(':').next() == Some(*name))
}

/// `promtool test rules` over the rule tests, when there are any.
fn prometheus_rules() -> Result<()> {
    let tests = crate::lint::rule_files(true)?;
    if tests.is_empty() {
        return Ok(());
    }
    on_path("promtool").context("promtool is missing: run `cargo xtask setup`")?;
    process::run(command("promtool").args(["test", "rules"]).args(tests))
}
