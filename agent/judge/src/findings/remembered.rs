//! Confirmed findings that outlast the observation in which they were found.

use serde::{Deserialize, Serialize};

use crate::events::Nanos;
use crate::report::Finding;

/// A confirmed finding, and the memory of its process at that time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The finding.
    pub finding: Finding,
    /// Resident anonymous bytes of the process.
    pub anonymous_bytes: u64,
}

/// A confirmed finding that stands until it is refuted, found again, or its memory is released.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) earlier: Remembered,
    /// Since when, in this observation.
    pub(super) since: Nanos,
    /// Seconds of windows since then, up to the current one.
    pub(super) windows: f64,
    /// Requests of its route until then.
    pub(super) requests: u64,
    /// It was confirmed in this observation, after these seconds. `None`: before a restart of heaptide.
    pub(super) confirmed: Option<f64>,
}
