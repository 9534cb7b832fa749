//! How targets are observed: what all have in common, and what may differ from target to target.

use heaptide_ebpf::{CredentialPattern, Settings, target_flags};
use heaptide_runtimes::Target;
use regex::Regex;

/// How targets are observed.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Fingerprint keys and map sizes.
    pub settings: Settings,
    /// What holds for a target that has no options of its own.
    pub target: TargetOptions,
    /// Take call stacks.
    pub stacks: bool,
    /// Search the targets' memory for tokens of finished requests.
    pub residency: bool,
    /// Switch on the heap profile of Go programs that have none: the one thing that is ever written.
    pub enable_go_profile: bool,
}

/// How one target is observed.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// What counts as the credential of its requests.
    pub credential: CredentialPattern,
    /// Probe its allocators; without it only requests and memory are seen.
    pub allocations: bool,
    /// Probe them only while memory grows, and leave them alone where the objects of a target can be read
    /// from outside: allocators see little of such a heap, and cost.
    pub automatic: bool,
    /// With `automatic`: begin with a window of allocations, whatever memory does, and open others until the judge has
    /// decided, as far as the budget allows. Somebody waits for an answer.
    pub at_once: bool,
    /// Part of the target's CPU time that probes may cost; `None`: whatever it is.
    pub budget: Option<f64>,
    /// Functions whose calls are request scopes.
    pub handlers: Vec<Regex>,
    /// Lowers the memory limit found.
    pub memory_limit: Option<u64>,
    /// Attach to forked children too.
    pub follow: bool,
}

impl TargetOptions {
    /// What they come to for this target.
    pub(super) fn of(&self, target: &Target) -> Self {
        let readable = target.runtime.observer.settings().readable;
        Self {
            allocations: self.allocations && !(self.automatic && readable),
            ..self.clone()
        }
    }

    /// The mode, in the command line's words.
    pub(super) fn mode(&self) -> &'static str {
        match (self.allocations, self.budget) {
            (false, _) => "watch",
            (true, None) => "trace",
            (true, Some(_)) if self.automatic => "auto",
            (true, Some(_)) => "sample",
        }
    }

    /// What the kernel half is to see of a target, in a window of allocations or outside of one.
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
        let stacks = if stacks { target_flags::STACKS } else { 0 };
        settings.requests | stacks | mappings | target_flags::ALLOCATIONS
    }
}
