//! Libraries inside a process whose own functions show its requests: a file each, a line each in [`TABLE`]. They are
//! looked for whatever the runtime is. (A runtime shows its requests itself; what is read and written in plain text
//! is seen by system calls.)

mod hyper;

use heaptide_process::Inspected;
use heaptide_process::plan::Program;
use heaptide_process::plan::wishes::ProbeWish;

/// All sources of requests.
static TABLE: &[&dyn RequestSource] = &[&hyper::Streams];

/// A library that shows requests.
pub(crate) trait RequestSource: Sync {
    /// Finds it in a process.
    fn find(&self, process: &Inspected) -> Option<Found>;

    /// The kernel programs that its probes run.
    fn programs(&self) -> &'static [Program];
}

/// What was found in a process.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The probes it wants.
    pub(crate) probes: Vec<ProbeWish>,
    /// What cannot be seen of its requests, one sentence each.
    pub(crate) limitations: Vec<String>,
}

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
