//! Turns the tracing of system calls on only while a target needs it, because it costs every process of the host.

use std::thread::{self, JoinHandle};

use heaptide_ebpf::target_flags;
use tracing::warn;

use crate::kernel::{Kernel, KernelError};

/// Observed by system calls.
const BY_CALLS: u32 = target_flags::REQUESTS | target_flags::MAPPINGS;

/// Whether system calls are traced.
#[derive(Default)]
pub struct CallTracing {
    /// The thread that detaches.
    ending: Option<JoinHandle<()>>,
    /// What cannot be traced on this host, and why.
    limitations: Vec<String>,
}

impl CallTracing {
    /// Attaches the tracepoints, if these flags need them.
    pub fn need(&mut self, kernel: &mut Kernel, flags: u32) -> Result<(), KernelError> {
        if flags & BY_CALLS == 0 || kernel.traces_calls() {
            return Ok(());
        }
        // Old and new links together would see everything twice.
        if let Some(thread) = self.ending.take() {
            // After a panic in the thread the links are dropped too.
            let _ = thread.join();
        }
        for limitation in kernel.attach_calls()? {
            if !self.limitations.contains(&limitation) {
                warn!("{limitation}");
                self.limitations.push(limitation);
            }
        }
        Ok(())
    }

    /// Detaches when no target needs them; `flags` are the flags of all targets. Called periodically and not when
    /// a target ends, because another one often follows at once, as after the calibration.
    pub fn end_unneeded(&mut self, kernel: &mut Kernel, mut flags: impl Iterator<Item = u32>) {
        if !kernel.traces_calls() || flags.any(|flags| flags & BY_CALLS != 0) {
            return;
        }
        let links = kernel.take_calls();
        // Detaching takes time; nothing should wait for it.
        self.ending = thread::Builder::new().spawn(move || drop(links)).ok();
    }

    /// What cannot be traced on this host, and why.
    pub fn limitations(&self) -> &[String] {
        &self.limitations
    }
}
