//! How one target is observed, where that may differ from target to target.

use regex::Regex;

use super::SourceOptions;
use crate::cli::values::Mode;

/// How one target is observed.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Probe its allocators; without it only requests and memory are seen.
    pub allocations: bool,
    /// Probe them only while memory grows, and leave them alone where the objects of a target can be read
    /// from outside: allocators see little of such a heap, and cost.
    pub automatic: bool,
    /// Part of the target's CPU time that allocator probes may cost; `None`: whatever it is.
    pub budget: Option<f64>,
    /// Functions whose calls are request scopes.
    pub handlers: Vec<Regex>,
    /// Lowers the memory limit found.
    pub memory_limit: Option<u64>,
    /// Attach to forked children too.
    pub follow: bool,
}

impl From<&SourceOptions> for TargetOptions {
    fn from(options: &SourceOptions) -> Self {
        Self {
            allocations: options.allocations,
            automatic: options.automatic,
            budget: options.budget,
            handlers: options.handlers.clone(),
            memory_limit: options.memory_limit,
            follow: options.follow,
        }
    }
}

/// Whether a mode probes allocators. The one place that turns modes into probes.
pub fn allocations(mode: Mode) -> bool {
    mode != Mode::Watch
}

/// Whether a mode leaves it to heaptide whether a target's allocators are probed.
pub fn automatic(mode: Mode) -> bool {
    mode == Mode::Auto
}

/// The budget that a mode keeps to: `trace` costs what it costs, and `watch` has no allocator probes.
pub fn budget(mode: Mode, overhead: f64) -> Option<f64> {
    matches!(mode, Mode::Auto | Mode::Sample).then_some(overhead)
}
