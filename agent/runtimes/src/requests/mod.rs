//! Libraries in a process in whose functions requests are observed: one file each, one line each in [`TABLE`]. They
//! are independent of the runtime. (A runtime has its own request probes; plain-text requests are observed by system
//! calls.)

mod hyper;
mod source;

use heaptide_process::Inspected;
use heaptide_process::plan::Program;

use source::{Found, RequestSource};

/// All sources of requests.
static TABLE: &[&dyn RequestSource] = &[&hyper::Streams];

/// All sources found in a process.
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
