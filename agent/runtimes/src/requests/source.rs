//! The interface of a library in which requests are observed.

use heaptide_process::Inspected;
use heaptide_process::plan::Program;
use heaptide_process::plan::wishes::ProbeWish;

/// A library in which requests are observed.
pub(crate) trait RequestSource: Sync {
    /// Finds it in a process.
    fn find(&self, process: &Inspected) -> Option<Found>;

    /// The kernel programs of its probes.
    fn programs(&self) -> &'static [Program];
}

/// A source found in a process.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Its probes.
    pub(crate) probes: Vec<ProbeWish>,
    /// Its limitations, one sentence each.
    pub(crate) limitations: Vec<String>,
}
