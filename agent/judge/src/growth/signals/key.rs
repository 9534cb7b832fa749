//! Keys and attributes of growth signals.

use crate::attribution::sites::LeadingFrameId;
use crate::events::{SiteId, WriterSite};

/// The key of a growth signal: what it measures.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignalKey {
    /// Entries of a container, by path and kind.
    Container(String, String),
    /// Live bytes of a leading frame in the runtime's profile.
    Site(LeadingFrameId),
    /// Reachable bytes of the collector's heap.
    Heap,
    /// Bytes of pages that were touched for the first time.
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

/// Attributes of a growth signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Writer sites of the container.
    pub writers: Vec<WriterSite>,
    /// The container's path in that code, if it is another one.
    pub known_as: Option<String>,
    /// The profile's biggest stack with this leading frame, and its bytes.
    pub site: Option<(SiteId, u64)>,
}
