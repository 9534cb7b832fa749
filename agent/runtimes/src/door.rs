//! The interface of runtimes: recognising a process, observing it, reading its heap. Nothing outside of this crate
//! names a runtime.

use std::time::Instant;

use heaptide_ebpf::{Block, PythonConfig, Stack, target_flags};
use heaptide_judge::events::{Census, Lengths, Nanos, Observation, Site, SiteId};
use heaptide_process::Inspected;
use heaptide_process::plan::Program;
use heaptide_process::plan::wishes::Wishes;
use heaptide_process::symbols::Symbolizer;

/// A runtime.
pub trait Runtime: Sync {
    /// Recognises a process of this runtime.
    fn recognise(&self, process: &Inspected) -> Option<Recognised>;

    /// Kernel programs of this runtime's probes.
    fn programs(&self) -> &'static [Program] {
        &[]
    }

    /// Its name and its supported versions, oldest first. Empty if it has no versions.
    fn known(&self) -> (&'static str, Vec<String>) {
        ("", Vec::new())
    }
}

/// The runtime of a process.
pub struct Recognised {
    /// Name, with version where known (`cpython 3.11`).
    pub name: String,
    /// It has a heap that C allocators do not see.
    pub own_heap: bool,
    /// That heap has a tracing collector, so garbage stays for a while.
    pub collected: bool,
    /// Its strings may be in UTF-16.
    pub wide_strings: bool,
    /// Its limitations, one sentence each.
    pub limitations: Vec<String>,
    /// Observes this process.
    pub observer: Box<dyn Observer>,
}

impl std::fmt::Debug for Recognised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recognised")
            .field("name", &self.name)
            .field("own_heap", &self.own_heap)
            .field("limitations", &self.limitations)
            .finish_non_exhaustive()
    }
}

/// Settings of the kernel programs for a runtime.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// The flag of [`target_flags`] for tracing its requests.
    pub requests: u32,
    /// It maps memory for its own heap, which is observed by other means than mappings.
    pub maps_own_heap: bool,
    /// Its objects can be read from outside, so its allocators are not probed in mode `auto`.
    pub readable: bool,
    /// How to walk its own frames at page faults.
    pub frames: Option<PythonConfig>,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            requests: target_flags::REQUESTS,
            maps_own_heap: false,
            readable: false,
            frames: None,
        }
    }
}

/// An object of a runtime's own heap that the kernel programs have sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickedObject {
    /// Address.
    pub addr: u64,
    /// Address of the runtime's descriptor of its memory.
    pub span: u64,
    /// Bytes.
    pub size: u64,
    /// Site id.
    pub site: u64,
    /// Request id, 0: none.
    pub request: u64,
    /// Time of sampling.
    pub born: Nanos,
    /// Bytes that it represents.
    pub interval: u32,
    /// The runtime's collection counter of its memory at that time.
    pub sweep: u32,
    /// Number of objects that fit.
    pub room: u16,
    /// Objects used before.
    pub used: u16,
    /// How it was bound to its request (`heaptide_ebpf::binding`).
    pub binding: u8,
    /// Address space.
    pub space: u64,
}

/// Observes one process of a runtime. All methods have defaults.
pub trait Observer: Send {
    /// Its probes; those of its heap only if `allocations` are traced. The programs of the latter must be those of allocators,
    /// because only these are attached and detached with a window.
    fn probes(&self, allocations: bool) -> Wishes {
        let _ = allocations;
        Wishes::default()
    }

    /// Settings of the kernel programs.
    fn settings(&self) -> RuntimeSettings {
        RuntimeSettings::default()
    }

    /// The objects of its own heap are observed. If not, and the runtime has its own heap, the verdict `no_leak` is
    /// not possible.
    fn sees_heap(&self) -> bool {
        false
    }

    /// The observation begins; `layout` distinguishes its sites from those of other processes.
    fn begin(&mut self, layout: u32) {
        let _ = layout;
    }

    /// The reader that walks its heap in the readers' thread.
    fn heap_reader(&self) -> Option<Box<dyn HeapReader>> {
        None
    }

    /// Tracks a sampled object.
    fn picked(&mut self, object: &PickedObject) {
        let _ = object;
    }

    /// Checks the tracked objects. Called several times a second.
    fn watch(&mut self, at: Nanos) {
        let _ = at;
    }

    /// Sampling interval in bytes; 0: all objects.
    fn interval(&self) -> u32 {
        0
    }

    /// Passes the live objects on.
    fn live(&mut self, at: Nanos, add: &mut dyn FnMut(&Block)) {
        let _ = (at, add);
    }

    /// Drops the tracked objects.
    fn forget_objects(&mut self) {}

    /// Reads the runtime's own statistics of its heap. Called every second.
    fn read(&mut self, at: Nanos, symbolizer: &mut Symbolizer, say: &mut dyn FnMut(Observation)) {
        let _ = (at, symbolizer, say);
    }

    /// A kernel site was seen at a page fault that touched `pages`, or (with 0 pages) at an allocation. `stack` returns
    /// its stack if it consists of the runtime's own frames. Returns the site's id, and the site itself if it is new.
    fn own_site(
        &mut self,
        raw: u64,
        pages: u64,
        stack: &mut dyn FnMut() -> Option<Stack>,
    ) -> (Option<SiteId>, Option<Site>) {
        let _ = (raw, pages, stack);
        (None, None)
    }

    /// Adds to a census what else is known: writer sites of containers.
    fn complete(&self, census: &mut Census) {
        let _ = census;
    }

    /// Enables the runtime's heap profile. This is the only write to a process. Returns a message for the user.
    fn enable_profile(&mut self) -> Option<String> {
        None
    }
}

/// Why a heap is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Its memory cannot be read.
    #[error(
        "the memory of the interpreter cannot be read (CAP_SYS_PTRACE is missing, or the \
         process has ended): its containers are not seen"
    )]
    Unreadable,
    /// The structures do not match the version.
    #[error(
        "the memory layout of the interpreter does not match its version: its containers are \
         not read"
    )]
    Layout,
    /// The reader panicked.
    #[error(
        "reading the interpreter failed by a bug in heaptide (please report the panic message): \
         its containers are no longer seen"
    )]
    Fault,
}

/// Reads the heap of one process from outside, without probes and without stopping it. Runs in the readers' thread.
pub trait HeapReader: Send {
    /// Walks the heap and returns its containers.
    fn census(&mut self) -> Result<Census, ReadError>;

    /// Starts (or with `false` stops) sampling the lengths of containers that grew until the last census; returns
    /// pending samples.
    fn sample_growing(&mut self, growing: bool) -> Option<Lengths>;

    /// When the next sample is due, if any is.
    fn sample_due(&self) -> Option<Instant>;

    /// Takes a sample; several are returned together.
    fn sample(&mut self) -> Option<Lengths>;
}
