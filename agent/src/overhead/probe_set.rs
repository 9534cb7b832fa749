//! The one place that attaches and detaches probes: put on in the order in which nothing is missed, taken off in
//! the background.

use std::{
    collections::HashMap,
    mem,
    thread::{self, JoinHandle},
};

use crate::kernel::{Kernel, KernelError, Link};
use heaptide_process::plan::Probe;

/// A part of a target's probes, which is on or off as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Probes of allocators, and of the runtime's own heap.
    Allocations,
    /// All others: requests, tasks, handlers.
    Requests,
}

impl Part {
    /// Both, in the order in which they go on.
    pub const ALL: [Self; 2] = [Self::Allocations, Self::Requests];

    /// Whether a probe belongs to it.
    pub fn has(self, probe: &Probe) -> bool {
        probe.program.is_allocator() == (self == Self::Allocations)
    }
}

/// The probes of all targets. Dropping it takes them off.
#[derive(Default)]
pub struct ProbeSet {
    links: HashMap<(u32, bool), Vec<Link>>,
    /// Threads that take probes off, by process.
    releasing: HashMap<u32, JoinHandle<()>>,
}

impl ProbeSet {
    /// Puts those of `probes` on that belong to `part`, beside what is on already. Nothing stays on when it fails.
    pub fn enable(
        &mut self,
        kernel: &mut Kernel,
        pid: u32,
        part: Part,
        probes: &[Probe],
    ) -> Result<(), KernelError> {
        kernel.load_programs(probes.iter().filter(|probe| part.has(probe)))?;
        // Returns and frees come first: an entry whose return is not probed yet would be counted as missed.
        let (last, first): (Vec<&Probe>, Vec<&Probe>) = probes
            .iter()
            .filter(|probe| part.has(probe))
            .partition(|probe| probe.program.opens);
        let mut links = kernel.attach(pid, &first)?;
        links.extend(kernel.attach(pid, &last)?);
        // Dropped in order: entries go first then, for the same reason.
        links.reverse();
        self.links
            .entry((pid, part == Part::Allocations))
            .or_default()
            .extend(links);
        Ok(())
    }

    /// Takes the probes of a part off, in a thread of its own: the kernel waits for a grace period at each and does
    /// one after the other. The caller has told the kernel half before that they are to do nothing.
    pub fn disable(&mut self, pid: u32, part: Part) {
        let links = self.links.remove(&(pid, part == Part::Allocations));
        self.release(pid, links.unwrap_or_default());
    }

    /// Takes all probes of a process off.
    pub fn forget(&mut self, pid: u32) {
        for part in Part::ALL {
            self.disable(pid, part);
        }
    }

    /// Waits until the probes that were taken off a process are off: old and new ones together would count
    /// everything twice.
    pub fn wait_released(&mut self, pid: u32) {
        if let Some(thread) = self.releasing.remove(&pid) {
            // A panic there has let go of them too.
            let _ = thread.join();
        }
    }

    fn release(&mut self, pid: u32, links: Vec<Link>) {
        self.releasing.retain(|_, thread| !thread.is_finished());
        if links.is_empty() {
            return;
        }
        let before = self.releasing.remove(&pid);
        let release = move || {
            drop(links);
            // Whoever waits for this one waits for those too; a panic there has let go of them.
            if let Some(before) = before {
                let _ = before.join();
            }
        };
        // Without a thread they are off when this returns.
        if let Ok(thread) = thread::Builder::new().spawn(release) {
            self.releasing.insert(pid, thread);
        }
    }
}

impl Drop for ProbeSet {
    fn drop(&mut self) {
        self.links.clear();
        for (_, thread) in mem::take(&mut self.releasing) {
            // As in `wait_released`.
            let _ = thread.join();
        }
    }
}
