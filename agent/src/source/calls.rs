//! System calls: traced only while a target needs it, because that costs every process of the host.

use std::thread;

use heaptide_ebpf::{TargetConfig, target_flags};
use tracing::warn;

use super::Source;
use crate::kernel::KernelError;

/// What is seen by system calls.
const BY_CALLS: u32 = target_flags::REQUESTS | target_flags::MAPPINGS;

impl Source {
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

    /// Ends the tracing of system calls when no target needs it any more. To be called now and then, and not when
    /// a target goes: another one often comes at once, as after the calibration.
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
