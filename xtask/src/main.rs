//! Commands of developers and CI: `cargo xtask <command>`. One file per command.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod at_once;
mod bench;
mod build;
mod demo;
mod dist;
mod eval;
mod lab;
mod layouts;
mod lint;
mod packages;
mod process;
mod setup;
mod test;
#[allow(
    dead_code,
    reason = "shared with agent/build.rs; each uses a part of it"
)]
mod toolchain;

/// Commands of developers and CI.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing for building and testing.
    Setup(setup::Arguments),
    /// Build everything.
    Build(build::Arguments),
    /// Install what is missing and run the tests; kernel tests run through sudo.
    Test(test::Arguments),
    /// Formatting, clippy, house rules, order of imports, licences, Prometheus rules, shell scripts.
    Lint(lint::Arguments),
    /// Run a leaking service from a fresh clone, and compare the verdict with the truth.
    Demo(demo::Arguments),
    /// Score heaptide's verdicts on the services with known answers.
    Lab(lab::Arguments),
    /// Score the judge and other methods on a corpus of simulated services.
    Eval(eval::Arguments),
    /// Measure heaptide's costs.
    Bench(bench::Arguments),
    /// Write the field offsets of runtime versions.
    Layouts(layouts::Arguments),
    /// Make a release archive in dist/.
    Dist,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Lint(arguments) => setup::everything(false).and_then(|()| lint::run(&arguments)),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Lab(arguments) => lab::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Layouts(arguments) => layouts::run(&arguments),
        Command::Dist => dist::run(),
    }
}
