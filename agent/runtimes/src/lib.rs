//! The runtimes heaptide knows: a folder or file each, a line each in [`TABLE`]. How a process's runtime is
//! recognised, which probes it wants, and what is read of its heap from outside.

mod cpython;
pub mod door;
mod functions;
mod go;
pub mod readers;
mod requests;
mod smol;
pub mod target;
mod tasks;
mod threads;
mod tokio;

use door::Runtime;
use heaptide_process::plan::Program;

pub use target::{Target, inspect};

/// All runtimes; the first that recognises a process wins. The last one recognises all.
static TABLE: &[&dyn Runtime] = &[
    &go::Go,
    &cpython::CPython,
    &tokio::Tokio,
    &smol::Smol,
    &threads::Threads,
];

/// The kernel programs that probes of runtimes and of sources of requests run.
pub fn programs() -> impl Iterator<Item = Program> {
    TABLE
        .iter()
        .flat_map(|runtime| runtime.programs().iter().copied())
        .chain(requests::programs())
}
