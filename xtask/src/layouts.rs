//! `cargo xtask layouts`: writes the files with a runtime version's field offsets, from its own headers or debug
//! information. No offset is typed by hand.

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
    /// Go, from the DWARF of a small program built by each version's toolchain.
    Go {
        /// Minor versions (`1.25`); by default all with an installed toolchain.
        versions: Vec<String>,
    },
    /// `CPython`, from the headers of each version.
    Cpython {
        /// Minor versions (`3.12`); by default all with installed headers.
        versions: Vec<String>,
        /// Another folder with headers, in addition to those of pyenv and the system (`/usr/include/python3.14`).
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
