//! `cargo xtask eval`: the detector and the baselines over the labelled corpus. The corpus and its scores
//! are a program of their own (`xtask/eval/`), so that no other command waits for it to be built.

use anyhow::Result;

use crate::process::{self, cargo};

/// What is passed on; `cargo xtask eval --help` says what there is.
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
