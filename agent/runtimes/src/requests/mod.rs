//! Libraries inside a process whose own functions show its requests: a file each, a line each in [`TABLE`]. They are
//! looked for whatever the runtime is. (A runtime shows its requests itself; what is read and written in plain text
//! is seen by system calls.)

mod hyper;
mod source;

use heaptide_process::Inspected;
use heaptide_process::plan::Program;

use source::{Found, RequestSource};

/// All sources of requests.
static TABLE: &[&dyn RequestSource] = &[&hyper::Streams];

/// Everything that is found in a process.
pub(crate) fn find(process: &Inspected) -> Found {
    let mut all = Found::default();
    for found in TABLE.iter().filter_map(|source| source.find(process)) {
        all.probes.extend(found.probes);
        all.limitations.extend(found.limitations);
    }
    all
}

/// The kernel programs of all sources.
pub(crate) fn programs() -> impl Iterator<Item = Program> {
    TABLE
        .iter()
        .flat_map(|source| source.programs().iter().copied())
}
