//! The keys of all series, and the requests that could have contributed to them.

use crate::attribution::keys::{Class, RouteId};
use crate::attribution::sites::LeadingFrameId;
use crate::events::MemoryKind;

/// The key of a series: route, leading frame and kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Route, or background.
    pub route: RouteId,
    /// Leading user frame.
    pub leading: LeadingFrameId,
    /// Heap blocks and mappings are separate series.
    pub kind: MemoryKind,
}

/// Requests that matured in one epoch, by token class: the denominator of per-request figures.
pub type Exposure = [u64; Class::COUNT];
