//! Options of observing: common ones, and those of a target.

use heaptide_ebpf::{CredentialPattern, Settings, target_flags};
use heaptide_runtimes::Target;
use regex::Regex;

/// Common options.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Fingerprint keys and map sizes.
    pub settings: Settings,
    /// Default options of targets.
    pub target: TargetOptions,
    /// Record call stacks.
    pub stacks: bool,
    /// Search the targets' memory for tokens of finished requests.
    pub residency: bool,
    /// Enable the heap profile of Go programs that have it disabled: the only write to a target.
    pub enable_go_profile: bool,
}

/// Options of one target.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct TargetOptions {
    /// The credential of its requests.
    pub credential: CredentialPattern,
    /// Probe its allocators; otherwise only requests and memory are observed.
    pub allocations: bool,
    /// Probe them only while memory grows. If the objects of the target can be read from outside, only while it grows
    /// by more than these; and not at all if it has a heap that cannot be read, of which allocators see little.
    pub automatic: bool,
    /// With `automatic`: begin with a window, and open others within the budget until the judge has decided. For
    /// interactive use.
    pub at_once: bool,
    /// Fraction of the target's CPU time that probes may cost; `None`: unlimited.
    pub budget: Option<f64>,
    /// Functions whose calls are request scopes.
    pub handlers: Vec<Regex>,
    /// An upper bound for the memory limit.
    pub memory_limit: Option<u64>,
    /// Attach to forked children too.
    pub follow: bool,
}

impl TargetOptions {
    /// The effective options for this target.
    pub(super) fn of(&self, target: &Target) -> Self {
        // Of a runtime whose heap cannot be read, the allocators only see its own bookkeeping: it follows the heap, and
        // its call stacks say nothing of the service. Page faults and memory show the growth of all of it.
        let judged_elsewhere = target.info.heap_unseen;
        Self {
            allocations: self.allocations && !(self.automatic && judged_elsewhere),
            ..self.clone()
        }
    }

    /// The mode, as on the command line.
    pub(super) fn mode(&self) -> &'static str {
        match (self.allocations, self.budget) {
            (false, _) => "watch",
            (true, None) => "trace",
            (true, Some(_)) if self.automatic => "auto",
            (true, Some(_)) => "sample",
        }
    }

    /// The target flags, within or outside of an allocation window.
    pub(super) fn flags(&self, target: &Target, stacks: bool, allocating: bool) -> u32 {
        let settings = target.runtime.observer.settings();
        if !(self.allocations && allocating) {
            return settings.requests;
        }
        let mappings = if settings.maps_own_heap && target.process.allocators.is_empty() {
            0
        } else {
            target_flags::MAPPINGS
        };
        let stacks = match (stacks, settings.frames) {
            (false, _) => 0,
            (true, None) => target_flags::STACKS,
            (true, Some(_)) => target_flags::STACKS | target_flags::OWN_FRAMES,
        };
        settings.requests | stacks | mappings | target_flags::ALLOCATIONS
    }
}
