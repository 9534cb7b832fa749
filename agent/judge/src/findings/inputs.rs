//! What findings are made from.

use crate::attribution::Attribution;
use crate::events::Nanos;
use crate::growth::Growth;
use crate::growth::signals::Signals;

/// What the findings are made from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Series.
    pub growth: &'a Growth,
    /// Names.
    pub attribution: &'a Attribution,
    /// What was read without allocator probes.
    pub signals: &'a Signals,
    /// When observing began.
    pub start: Nanos,
    /// The time of the last observation.
    pub now: Nanos,
}
