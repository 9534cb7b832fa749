//! The keys of all series, and the requests that could have contributed to them.

use crate::attribution::keys::{Class, RouteId};
use crate::attribution::sites::LeadingFrameId;
use crate::events::MemoryKind;

/// What a series is: where from, which code, which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Route, or background.
    pub route: RouteId,
    /// Leading user frame.
    pub leading: LeadingFrameId,
    /// Heap and mappings are never added.
    pub kind: MemoryKind,
}

/// Requests that matured in one epoch, by token class: the exposure clock.
pub type Exposure = [u64; Class::COUNT];
