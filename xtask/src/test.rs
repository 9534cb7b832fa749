//! `cargo xtask test`: installs what is missing, builds as the ordinary user, runs the pure tests, then the kernel
//! tests as root, and lists skipped tests.

use std::env;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::lab::catalog::Catalog;
use crate::lab::service;
use crate::process::{self, cargo, command, on_path};

mod failures;
mod kernel;
mod lab;
mod programs;

use programs::{Outcome, Wanted};

/// Skips allowed in CI: (test, reason).
const EXPECTED_SKIPS: &[(&str, &str)] = &[
    ("Go 1.22", BETWEEN),
    ("Go 1.23", BETWEEN),
    ("Go 1.24", BETWEEN),
    ("Go 1.25", BETWEEN),
    ("Go 1.26", BETWEEN),
    ("CPython 3.14", NEWER),
    ("CPython 3.15", NEWER),
];
const NEWER: &str = "no registry of such a machine has a build for its Debian release";
const BETWEEN: &str = "its toolchain is installed by `cargo xtask setup --lab --all`";

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this, or those of the test program with this name (`kernel_requests`).
    filter: Option<String>,
    /// No kernel tests.
    #[arg(long)]
    pure: bool,
    /// Also slow tests: verdicts on more of the lab's services, counts of all of them, all versions of Python.
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut failed = Vec::new();
    let wanted = Wanted {
        filter: arguments.filter.as_deref(),
        all: arguments.all,
    };
    // If something cannot be installed, tests that need it are skipped or fail, and name it.
    let installed = |result: Result<()>| {
        if let Err(error) = result {
            eprintln!("setup: {error:#}");
        }
    };
    installed(crate::setup::tools());
    let catalog = Catalog::load()?;
    let books = lab::rows_of_books(&catalog, &wanted)?;
    let mut verdicts = lab::rows_of_verdicts(&catalog, &wanted);

    if arguments.pure {
        verdicts.clear();
    }

    // Everything that tests start is built before anything runs as root, so that no root-owned file is left in the
    // target folders. The agent is built with its tests: a separate build would have other features. The lab is built
    // beside them: it waits for downloads and for compilers that use one processor.
    let every_program = wanted.filter.is_none() && !arguments.pure;
    // Pure tests that do not need the lab run meanwhile too.
    let mut outcome = Outcome::default();
    let (test_programs, lab_programs) = thread::scope(|scope| {
        let lab = scope.spawn(|| {
            installed(crate::setup::for_lab());
            let programs = programs::build(process::lab_cargo().args(["--release"]), !wanted.all)?;
            build_services(&catalog, &books, &verdicts, every_program, wanted.all)?;
            anyhow::Ok(programs)
        });
        let programs = programs::build(&mut cargo(), !wanted.all)?;
        for program in programs.iter().filter(|one| !one.needs_lab()) {
            outcome.extend(program.run(&program.pure(&wanted), false, "")?);
        }
        let lab = lab.join().unwrap_or_else(|panic| resume_unwind(panic));
        anyhow::Ok((programs, lab?))
    })?;
    let mut kernel_programs = kernel::chosen(&test_programs, &wanted);
    if arguments.pure {
        kernel_programs.clear();
    }
    if !every_program && !kernel_programs.is_empty() {
        build_services(&catalog, &[], &[], true, wanted.all)?;
    }

    if wanted.filter.is_none() {
        if let Err(error) = prometheus_rules() {
            failed.push(format!("{error:#}"));
        }
        if let Err(error) = process::run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))
        {
            failed.push(format!("{error:#}"));
        }
    }
    let of_lab = test_programs.iter().filter(|one| one.needs_lab());
    for program in of_lab.chain(&lab_programs) {
        outcome.extend(program.run(&program.pure(&wanted), false, "")?);
    }
    lab::books(&books, &mut outcome);
    if process::can_be_root() {
        kernel::run(&kernel_programs, &verdicts, &mut outcome)?;
    } else {
        let names = kernel_programs.iter().flat_map(|(_, tests)| tests);
        let names = names.chain(verdicts.iter().map(|row| &row.name));
        let skips = names.map(|test| format!("{test}: needs root, but sudo is missing"));
        outcome.skipped.extend(skips);
    }
    outcome.print();
    failed.extend(
        outcome
            .failed
            .iter()
            .map(|(name, _)| format!("{name} failed")),
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

/// Builds the services of these rows, and those started by test programs.
fn build_services(
    catalog: &Catalog,
    books: &[lab::Row],
    verdicts: &[lab::Row],
    programs: bool,
    all: bool,
) -> Result<()> {
    let of_rows = books.iter().chain(verdicts).map(|row| row.service);
    // Test programs run the Go services of all versions.
    let services = catalog.services.iter();
    let of_programs = services.filter(|service| programs && service.go.is_some());
    let services: Vec<_> = of_rows.chain(of_programs).collect();
    if services.is_empty() {
        return Ok(());
    }
    service::build_for_tests(&services, all)
}

fn is_expected(skip: &str) -> bool {
    EXPECTED_SKIPS
        .iter()
        .any(|(name, _)| skip.split(':').next() == Some(*name))
}

/// Runs `promtool test rules` if there are rule tests.
fn prometheus_rules() -> Result<()> {
    let tests = crate::lint::rule_files(true)?;
    if tests.is_empty() {
        return Ok(());
    }
    on_path("promtool").context("promtool is missing: run `cargo xtask setup`")?;
    process::run(command("promtool").args(["test", "rules"]).args(tests))
}
