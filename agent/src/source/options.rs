//! How one target is observed, where that may differ from target to target.

use heaptide_ebpf::target_flags;
use regex::Regex;

use super::{Source, SourceOptions};
use crate::cli::values::Mode;
use heaptide_runtimes::Target;

/// How one target is observed.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Probe its allocators; without it only requests and memory are seen.
    pub allocations: bool,
    /// Probe them only while memory grows, and leave them alone where the objects of a target can be read
    /// from outside: allocators see little of such a heap, and cost.
    pub automatic: bool,
    /// Part of the target's CPU time that probes may cost; `None`: whatever it is.
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

impl Source {
    /// What the kernel half is to see of a target.
    pub(super) fn flags(&self, pid: u32, target: &Target, allocating: bool) -> u32 {
        let settings = target.runtime.observer.settings();
        let requests = settings.requests;
        let mappings = if settings.maps_own_heap && target.process.allocators.is_empty() {
            0
        } else {
            target_flags::MAPPINGS
        };
        let stacks = if self.options.stacks {
            target_flags::STACKS
        } else {
            0
        };
        if self.options_of(pid).allocations && allocating {
            requests | stacks | mappings | target_flags::ALLOCATIONS
        } else {
            requests
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

/// The budget that a mode keeps to: `trace` costs what it costs.
pub fn budget(mode: Mode, overhead: f64) -> Option<f64> {
    (mode != Mode::Trace).then_some(overhead)
}
