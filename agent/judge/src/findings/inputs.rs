//! The inputs of findings.

use crate::attribution::Attribution;
use crate::events::Nanos;
use crate::growth::Growth;
use crate::growth::signals::Signals;

use super::observed::Observed;

/// Everything that findings are made from.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties")]
pub struct Inputs<'a> {
    /// Series.
    pub growth: &'a Growth,
    /// Routes and sites.
    pub attribution: &'a Attribution,
    /// Growth signals.
    pub signals: &'a Signals,
    /// The runtime, if its objects are in a heap of its own that is not read.
    pub unseen_heap: Option<&'a str>,
    /// That heap has a tracing collector: growth of the process may be garbage.
    pub garbage: bool,
    /// The runtime's own heap is read.
    pub heap_read: bool,
    /// Blocks are a part of its objects only.
    pub blocks_partial: bool,
    /// Connections are served, but no request could be read.
    pub requests_unread: bool,
    /// Allocations that were traced in earlier windows.
    pub earlier: Option<Observed>,
    /// Start of the observation.
    pub start: Nanos,
    /// Time of the last observation.
    pub now: Nanos,
}
