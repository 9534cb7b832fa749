//! `cargo xtask eval`: scores the judge and the baselines on the labelled corpus. They are a separate
//! program (`xtask/eval/`), so that other commands need not build it.

use anyhow::Result;

use crate::process::{self, cargo};

/// Arguments that are passed on; see `cargo xtask eval --help`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// --traces N, --only CLASS, --tuning, --seed S, --json F, --faults, --check, --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    run_with(&arguments.arguments)
}

/// Builds the program for release and runs it.
pub(crate) fn run_with(arguments: &[String]) -> Result<()> {
    let mut cargo = cargo();
    cargo.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "heaptide-eval",
        "--",
    ]);
    process::run(cargo.args(arguments))
}
