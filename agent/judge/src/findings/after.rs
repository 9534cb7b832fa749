//! Growth of a process after a window of traced allocations, and how it is said.

use super::units::bytes;

/// Growth of the process since the last window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct After {
    /// Bytes per second, lower end of the interval of 95 %.
    pub(super) least: f64,
    /// Resident bytes per second that all suspicions of the window predict.
    pub(super) predicted: f64,
    /// Seconds.
    pub(super) seconds: f64,
}

impl After {
    /// A sentence for the evidence.
    pub(super) fn said(&self) -> String {
        format!(
            "in {:.0} s after the window in which allocations were traced the process grew by at least {} (95 %); what \
             the window found predicts {}",
            self.seconds,
            bytes(self.least * self.seconds),
            bytes(self.predicted * self.seconds),
        )
    }
}
