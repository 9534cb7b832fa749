//! `cargo xtask layouts`: writes the files that say where a version of a runtime has its fields, from that version's own
//! headers or debug information. Nobody types an offset.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

mod cpython;
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
    /// `CPython`, from the headers of each version.
    Cpython {
        /// Minor versions (`3.12`); without any, all whose headers are here.
        versions: Vec<String>,
        /// Another folder with headers, beside those of pyenv and of the system (`/usr/include/python3.14`).
        #[arg(long)]
        include: Vec<PathBuf>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.runtime {
        Runtime::Go { versions } => go::run(versions),
        Runtime::Cpython { versions, include } => cpython::run(versions, include),
    }
}
