//! Time of observations.

use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC` (or of a capture's own clock).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Nanos(pub u64);

impl Nanos {
    /// This time as seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// Seconds from `earlier` to this time, 0 if it is not earlier.
    pub fn since(self, earlier: Nanos) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }
    /// The time `seconds` later.
    #[must_use]
    pub fn plus(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1e9) as u64))
    }
    /// From seconds.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1e9) as u64)
    }
}
