//! System calls: traced only while a target needs it, because that costs every process of the host.

use heaptide_ebpf::{TargetConfig, target_flags};
use tracing::warn;

use super::Source;
use crate::kernel::{KernelError, Link};

/// What is seen by system calls.
const BY_CALLS: u32 = target_flags::REQUESTS | target_flags::MAPPINGS;

impl Source {
    /// Traces system calls from now on, if what these flags ask for is seen by them.
    pub fn trace_calls(&mut self, flags: u32) {
        if flags & BY_CALLS == 0 || self.kernel.traces_calls() {
            return;
        }
        for limitation in self.kernel.attach_calls() {
            if !self.limitations.contains(&limitation) {
                warn!("{limitation}");
                self.limitations.push(limitation);
            }
        }
    }

    /// Makes a process a target, or changes how it is one.
    pub(super) fn set_target(&mut self, pid: u32, config: TargetConfig) -> Result<(), KernelError> {
        self.trace_calls(config.flags);
        self.kernel.set_target(pid, config)
    }

    /// The tracing of system calls, to be dropped, when no target needs it any more.
    pub(super) fn unneeded_calls(&mut self) -> Vec<Link> {
        let needed = |flags: u32| flags & BY_CALLS != 0;
        let mut targets = self.watched.values();
        if targets.any(|watched| needed(watched.config.flags)) {
            return Vec::new();
        }
        self.kernel.take_calls()
    }
}
