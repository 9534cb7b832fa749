//! The only place that attaches and detaches probes. The order of attaching avoids missed events; detaching runs in
//! the background.

use std::{
    collections::HashMap,
    mem,
    thread::{self, JoinHandle},
};

use crate::kernel::{Kernel, KernelError, Link};
use heaptide_process::plan::Probe;

/// A part of a target's probes that is attached or detached as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Probes of allocators, and of the runtime's own heap.
    Allocations,
    /// All others: requests, tasks, handlers.
    Requests,
}

impl Part {
    /// Both, in the order of attaching.
    pub const ALL: [Self; 2] = [Self::Allocations, Self::Requests];

    /// Whether a probe belongs to it.
    pub fn has(self, probe: &Probe) -> bool {
        probe.program.is_allocator() == (self == Self::Allocations)
    }
}

/// The probes of all targets. Dropping it detaches them.
#[derive(Default)]
pub struct ProbeSet {
    links: HashMap<(u32, bool), Vec<Link>>,
    /// Detaching threads, by process.
    releasing: HashMap<u32, JoinHandle<()>>,
}

impl ProbeSet {
    /// Attaches those of `probes` that belong to `part`, in addition to attached ones. On failure none stays
    /// attached.
    pub fn enable(
        &mut self,
        kernel: &mut Kernel,
        pid: u32,
        part: Part,
        probes: &[Probe],
    ) -> Result<(), KernelError> {
        kernel.load_programs(probes.iter().filter(|probe| part.has(probe)))?;
        // Returns and frees come first: an entry without a return probe would count as missed.
        let (last, first): (Vec<&Probe>, Vec<&Probe>) = probes
            .iter()
            .filter(|probe| part.has(probe))
            .partition(|probe| probe.program.opens);
        let mut links = kernel.attach(pid, &first)?;
        links.extend(kernel.attach(pid, &last)?);
        // Links are dropped in order, so entries are detached first, for the same reason.
        links.reverse();
        self.links
            .entry((pid, part == Part::Allocations))
            .or_default()
            .extend(links);
        Ok(())
    }

    /// Detaches the probes of a part in a separate thread, because the kernel waits for a grace period per probe.
    /// The caller has already told the kernel programs to ignore them.
    pub fn disable(&mut self, pid: u32, part: Part) {
        let links = self.links.remove(&(pid, part == Part::Allocations));
        self.release(pid, links.unwrap_or_default());
    }

    /// Detaches all probes of a process.
    pub fn forget(&mut self, pid: u32) {
        for part in Part::ALL {
            self.disable(pid, part);
        }
    }

    /// Waits until the detached probes of a process are gone: old and new ones together would count everything
    /// twice.
    pub fn wait_released(&mut self, pid: u32) {
        if let Some(thread) = self.releasing.remove(&pid) {
            // After a panic in the thread the links are dropped too.
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
            // Waiting for this thread includes waiting for earlier ones. After a panic their links are dropped too.
            if let Some(before) = before {
                let _ = before.join();
            }
        };
        // Without a thread the links are dropped right here.
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
