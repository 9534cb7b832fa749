//! Confirmed findings that outlast the observation in which they were found.

use serde::{Deserialize, Serialize};

use crate::report::Finding;

/// A confirmed finding, and the memory of its process at that time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The finding.
    pub finding: Finding,
    /// Resident anonymous bytes of the process.
    pub anonymous_bytes: u64,
}
