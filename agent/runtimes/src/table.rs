//! The table of runtimes: one line each.

use heaptide_process::plan::Program;

use crate::door::Runtime;
use crate::{cpython, go, named, requests, smol, threads, tokio};

/// All runtimes. The first that recognises a process wins; the last one recognises all.
pub(crate) static TABLE: &[&dyn Runtime] = &[
    &go::Go,
    &cpython::CPython,
    &named::Executables,
    &tokio::Tokio,
    &smol::Smol,
    &named::Libraries,
    &threads::Threads,
];

/// The kernel programs of runtimes and of sources of requests.
pub fn programs() -> impl Iterator<Item = Program> {
    TABLE
        .iter()
        .flat_map(|runtime| runtime.programs().iter().copied())
        .chain(requests::programs())
}

/// The supported versions of a runtime, oldest first.
pub fn known_versions(runtime: &str) -> Vec<String> {
    TABLE
        .iter()
        .map(|known| known.known())
        .find(|(name, _)| *name == runtime)
        .map(|(_, versions)| versions)
        .unwrap_or_default()
}
