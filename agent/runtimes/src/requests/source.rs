//! What a library that shows requests is asked.

use heaptide_process::Inspected;
use heaptide_process::plan::Program;
use heaptide_process::plan::wishes::ProbeWish;

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
