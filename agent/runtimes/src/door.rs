//! The one door of a runtime: what recognises it, what observes a process of it, and what reads its heap.
//! Nothing outside of this crate knows a runtime by name.

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

    /// The kernel programs of its own that its probes run.
    fn programs(&self) -> &'static [Program] {
        &[]
    }

    /// What it is called, and which of its versions can be read, the oldest first. Empty: it has none of its own.
    fn known(&self) -> (&'static str, Vec<String>) {
        ("", Vec::new())
    }
}

/// What a process runs in.
pub struct Recognised {
    /// Name, with version where known (`cpython 3.11`).
    pub name: String,
    /// It manages a heap that no C allocator sees.
    pub own_heap: bool,
    /// What cannot be seen because of it, one sentence each.
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

/// What the kernel programs need to know of a runtime.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// The flag of [`target_flags`] by which its requests are seen.
    pub requests: u32,
    /// It maps memory for its own heap, of which more is known than from its mappings.
    pub maps_own_heap: bool,
    /// Its objects can be read from outside: in mode `auto` its allocators are left alone.
    pub readable: bool,
    /// Where frames of its own stacks are found at page faults.
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

/// An object of a runtime's own heap that the kernel half has picked to be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickedObject {
    /// Address.
    pub addr: u64,
    /// Where the runtime describes the memory that it is in.
    pub span: u64,
    /// Bytes.
    pub size: u64,
    /// Site id.
    pub site: u64,
    /// Request id, 0: none.
    pub request: u64,
    /// When it was picked.
    pub born: Nanos,
    /// It stands for so many bytes.
    pub interval: u32,
    /// The collection that its memory had seen, as the runtime counts.
    pub sweep: u32,
    /// Objects that there is room for.
    pub room: u16,
    /// Objects in use before.
    pub used: u16,
    /// How it was bound to its request.
    pub binding: u8,
    /// Address space.
    pub space: u64,
}

/// Observes one process of a runtime. What a runtime does not have is not implemented.
pub trait Observer: Send {
    /// The probes it wants; those of its heap only where `allocations` are watched.
    fn probes(&self, allocations: bool) -> Wishes {
        let _ = allocations;
        Wishes::default()
    }

    /// What the kernel programs need to know.
    fn settings(&self) -> RuntimeSettings {
        RuntimeSettings::default()
    }

    /// The objects of its own heap are seen, one way or another. Where a runtime has a heap of its own and they are
    /// not, nothing that is seen of allocators clears it.
    fn sees_heap(&self) -> bool {
        false
    }

    /// The observation begins; `layout` tells its sites from those of other processes.
    fn begin(&mut self, layout: u32) {
        let _ = layout;
    }

    /// What walks its heap, in a thread of its own, from now on.
    fn heap_reader(&self) -> Option<Box<dyn HeapReader>> {
        None
    }

    /// Follows an object.
    fn picked(&mut self, object: &PickedObject) {
        let _ = object;
    }

    /// Looks after the objects that are followed. Called several times a second.
    fn watch(&mut self, at: Nanos) {
        let _ = at;
    }

    /// From how many bytes on an object must stand for that many; 0: all.
    fn interval(&self) -> u32 {
        0
    }

    /// Hands on the objects that are there.
    fn live(&mut self, at: Nanos, add: &mut dyn FnMut(&Block)) {
        let _ = (at, add);
    }

    /// The objects followed so far mean nothing any more.
    fn forget_objects(&mut self) {}

    /// Reads what the runtime says of its heap. Called every second.
    fn read(&mut self, at: Nanos, symbolizer: &mut Symbolizer, say: &mut dyn FnMut(Observation)) {
        let _ = (at, symbolizer, say);
    }

    /// Pages were touched at a site of the kernel's, whose stack of the runtime's own frames `stack` gives. Returns
    /// what the site is called, and the site itself when it is new.
    fn faulted(
        &mut self,
        raw: u64,
        pages: u64,
        stack: &mut dyn FnMut() -> Option<Stack>,
    ) -> (Option<SiteId>, Option<Site>) {
        let _ = (raw, pages, stack);
        (None, None)
    }

    /// Adds to a census what was learnt elsewhere: which lines fill its containers.
    fn complete(&self, census: &mut Census) {
        let _ = census;
    }

    /// Switches on what the runtime could say of its heap, which is the one thing that is ever written to a
    /// process; what to tell people of it.
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
    /// The structures are not where the version has them.
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

/// Reads the heap of one process from outside: no probe, no stop. Runs in the readers' thread.
pub trait HeapReader: Send {
    /// Walks the heap and says what grows.
    fn census(&mut self) -> Result<Census, ReadError>;

    /// Samples the lengths of what the last census found growing from now on, or (`false`) of nothing; returns the
    /// samples that were not told yet.
    fn sample_growing(&mut self, growing: bool) -> Option<Lengths>;

    /// When the next sample is due, if any is.
    fn sample_due(&self) -> Option<Instant>;

    /// Takes a sample; several are told together.
    fn sample(&mut self) -> Option<Lengths>;
}
