//! The table of runtimes: a line each.

use heaptide_process::plan::Program;

use crate::door::Runtime;
use crate::{cpython, go, requests, smol, threads, tokio};

/// All runtimes; the first that recognises a process wins. The last one recognises all.
pub(crate) static TABLE: &[&dyn Runtime] = &[
    &go::Go,
    &cpython::CPython,
    &tokio::Tokio,
    &smol::Smol,
    &threads::Threads,
];

/// The versions of runtimes whose structures are known, for people.
pub fn known_versions() -> impl Iterator<Item = String> {
    TABLE.iter().filter_map(|runtime| runtime.versions())
}

/// The kernel programs that probes of runtimes and of sources of requests run.
pub fn programs() -> impl Iterator<Item = Program> {
    TABLE
        .iter()
        .flat_map(|runtime| runtime.programs().iter().copied())
        .chain(requests::programs())
}
