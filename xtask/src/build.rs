//! `cargo xtask build`: both halves; the eBPF half by the agent's build script.

use anyhow::Result;

use crate::process;

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Optimised, as it is shipped.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    agent(arguments.release)
}

/// Builds the agent; its path is `target/<profile>/heaptide`.
pub(crate) fn agent(release: bool) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["build", "-p", "heaptide"]);
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)
}
