//! System calls: traced only while a target needs it, because that costs every process of the host.

use std::thread;

use heaptide_ebpf::{TargetConfig, target_flags};
use tracing::warn;

use super::Source;
use crate::{
    kernel::KernelError,
    target::{Target, runtimes},
};

/// What is seen by system calls.
const BY_CALLS: u32 = target_flags::REQUESTS | target_flags::MAPPINGS;

impl Source {
    /// What is to be seen of a target.
    pub(super) fn flags(&self, pid: u32, target: &Target, allocating: bool) -> u32 {
        let go = target.runtime.go.as_ref();
        let requests = if go.is_some_and(runtimes::go::Program::sees_requests) {
            target_flags::GO_REQUESTS
        } else {
            target_flags::REQUESTS
        };
        // Go's runtime maps memory for its own heap, of which more is known.
        let mappings = if go.is_some() && target.allocators.is_empty() {
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

    /// Traces system calls from now on, if what these flags ask for is seen by them.
    pub fn trace_calls(&mut self, flags: u32) {
        if flags & BY_CALLS == 0 || self.kernel.traces_calls() {
            return;
        }
        // Old and new ones together would see everything twice.
        if let Some(thread) = self.calls_off.take() {
            // A panic there has let go of them too.
            let _ = thread.join();
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

    /// Ends the tracing of system calls when no target needs it any more.
    pub(super) fn untrace_calls(&mut self) {
        let needed = |flags: u32| flags & BY_CALLS != 0;
        let mut targets = self.watched.values();
        if !self.kernel.traces_calls() || targets.any(|watched| needed(watched.config.flags)) {
            return;
        }
        let links = self.kernel.take_calls();
        // The kernel takes its time, and the ring must not wait.
        self.calls_off = thread::Builder::new().spawn(move || drop(links)).ok();
    }
}
