//! The runtimes heaptide knows: a file each, a line each in [`TABLE`].

pub mod cpython;
pub mod go;
mod smol;
mod threads;
mod tokio;

use super::Module;

/// All runtimes; the first that recognises a target wins, else plain threads.
static TABLE: &[fn(&Inspected<'_>) -> Option<RuntimeMatch>] = &[
    go::recognise,
    cpython::recognise,
    tokio::recognise,
    smol::recognise,
];

/// What a runtime's recogniser may look at.
pub(super) struct Inspected<'a> {
    /// Process id.
    pub(super) pid: u32,
    /// Path of the executable.
    pub(super) exe: &'a str,
    /// Mapped ELF files, the main executable first.
    pub(super) modules: &'a [Module],
}

/// A function whose entry says which logical task runs from now on; the task is in RDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPoint {
    /// Index of the module in [`super::Target::modules`].
    pub module: usize,
    /// Demangled name.
    pub symbol: String,
    /// Address in the file's own terms.
    pub vaddr: u64,
    /// Size in bytes.
    pub size: u64,
}

/// A recognised runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeMatch {
    /// Its name, with version where known (`cpython 3.11`).
    pub name: String,
    /// Where logical tasks are polled.
    pub tasks: Vec<TaskPoint>,
    /// Where streams of HTTP/2 are polled, each in a task of its own.
    pub streams: Vec<TaskPoint>,
    /// It manages a heap that no C allocator sees.
    pub own_heap: bool,
    /// What cannot be seen because of it.
    pub limitation: Option<String>,
    /// A Go program whose requests and heap can be seen.
    pub go: Option<go::Program>,
    /// A `CPython` whose memory can be read.
    pub python: Option<cpython::Interpreter>,
}

/// Finds the runtime of a target.
pub(super) fn recognise(pid: u32, exe: &str, modules: &[Module]) -> RuntimeMatch {
    let inspected = Inspected { pid, exe, modules };
    TABLE
        .iter()
        .find_map(|recognise| recognise(&inspected))
        .unwrap_or_else(threads::plain)
}
