//! Probes of a target: put on in the order in which nothing is missed, taken off in the background.

use std::thread;

use super::Source;
use crate::kernel::{KernelError, Link};
use heaptide_process::{
    identity,
    plan::{Plan, Probe},
};

impl Source {
    /// Attaches probes. Returns and frees come first: an entry whose return is not probed
    /// yet would be counted as missed.
    pub(super) fn attach_probes(
        &self,
        pid: u32,
        probes: &[&Probe],
    ) -> Result<Vec<Link>, KernelError> {
        let (last, first): (Vec<&Probe>, Vec<&Probe>) = probes
            .iter()
            .copied()
            .partition(|probe| probe.program.opens);
        let mut links = self.kernel.attach(pid, &first)?;
        links.extend(self.kernel.attach(pid, &last)?);
        // Dropped in order: entries go first then, for the same reason.
        links.reverse();
        Ok(links)
    }

    /// Takes probes off in a thread of its own.
    pub(super) fn release(&mut self, pid: u32, links: Vec<Link>) {
        self.releasing.retain(|_, thread| !thread.is_finished());
        let before = self.releasing.remove(&pid);
        let release = move || {
            drop(links);
            // Whoever waits for this one waits for those too; a panic there has let go of them.
            if let Some(before) = before {
                let _ = before.join();
            }
        };
        if let Ok(thread) = thread::Builder::new().spawn(release) {
            self.releasing.insert(pid, thread);
        }
    }

    /// Waits until the probes of an earlier observation are off: old and new ones together would count
    /// everything twice.
    pub(super) fn join_release(&mut self, pid: u32) {
        if let Some(thread) = self.releasing.remove(&pid) {
            // A panic there has let go of them too.
            let _ = thread.join();
        }
    }

    /// What the kernel half remembers of a process's threads holds no longer.
    pub(super) fn forget_threads(&self, pid: u32) {
        // A process that has ended has none.
        let threads = identity::threads(pid).unwrap_or_default();
        self.kernel.forget_threads(&threads);
    }
}

/// A plan's probes of allocators, and the others.
pub(super) fn by_kind(plan: &Plan) -> (Vec<&Probe>, Vec<&Probe>) {
    let probes = plan.probes.iter();
    probes.partition(|probe| probe.program.is_allocator())
}
