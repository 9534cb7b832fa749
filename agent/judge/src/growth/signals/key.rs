//! What a growth signal measures, and what is known about it besides its levels.

use crate::attribution::sites::LeadingFrameId;
use crate::events::{SiteId, WriterSite};

/// What a signal measures.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignalKey {
    /// Entries of the container at this path, of this kind.
    Container(String, String),
    /// Bytes that the runtime's profile has for this code.
    Site(LeadingFrameId),
    /// Bytes that the collector found reachable.
    Heap,
    /// Bytes of pages touched for the first time.
    Faults,
    /// Resident anonymous bytes.
    Process,
}

impl SignalKey {
    /// Whether its levels are bytes (else entries).
    pub fn is_bytes(&self) -> bool {
        !matches!(self, Self::Container(..))
    }
}

/// What is known of a signal beside its levels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// What stores into the container.
    pub writers: Vec<WriterSite>,
    /// The name by which that code knows it, where it is another.
    pub known_as: Option<String>,
    /// The profile's biggest stack for this code, and its bytes.
    pub site: Option<(SiteId, u64)>,
}
