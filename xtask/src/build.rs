//! `cargo xtask build`: everything; the eBPF programs by the agent's build script.

use std::path::PathBuf;

use anyhow::Result;

use crate::process;

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// With optimisation, as for a release.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    agent(arguments.release)
}

/// The path of the program built by [`agent`].
pub(crate) fn program(release: bool) -> PathBuf {
    let profile = if release { "release" } else { "debug" };
    process::root()
        .join("target")
        .join(profile)
        .join("heaptide")
}

/// Builds the agent.
pub(crate) fn agent(release: bool) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["build", "-p", "heaptide"]);
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)
}
