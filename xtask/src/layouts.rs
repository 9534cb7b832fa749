//! `cargo xtask layouts`: writes the files that say where a version of a runtime has its fields, from that version's own
//! debug information. Nobody types an offset.

use anyhow::Result;
use clap::Subcommand;

mod dwarf;
mod go;

/// Of which runtime.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    runtime: Runtime,
}

#[derive(Subcommand)]
enum Runtime {
    /// Go, from the DWARF of a small program that each version's own toolchain builds.
    Go {
        /// Minor versions (`1.25`); without any, all whose toolchain is here.
        versions: Vec<String>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.runtime {
        Runtime::Go { versions } => go::run(versions),
    }
}
