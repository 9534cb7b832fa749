//! The shared vocabulary: the types that all stages use.
//!
//! [`Observation`] is everything that the source passes to the judge. It is plain, serialisable data with
//! its own times, so a capture replays through the same code.

// tidy: table

mod census;
mod time;
mod tokens;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use time::Nanos;

pub use census::{Census, Container, GOROUTINES, INSTANCES, Lengths, WriterSite};
pub use tokens::{Fingerprint, Residency, ResidentAge, ResidentToken, TokenStrings};

/// A request, unique within one run of the agent. 0 in kernel records means "none" and becomes `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A call stack, by the hash of its addresses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SiteId(pub u64);

/// How a block or request is bound to its request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Not bound to a request.
    #[default]
    None,
    /// Bound by a thread that serves several connections at once.
    Inferred,
    /// Bound by logical task, or by a thread that serves one connection at a time.
    Exact,
}

/// The class of a request's credential: all that outputs may know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// First seen.
    New,
    /// Seen before.
    Repeat,
    /// None was sent.
    None,
}

/// One HTTP exchange, or one call of a `--handler`. The record is sent when the response was written, and
/// again if a stream continues after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// First byte of the head read.
    pub start: Nanos,
    /// Last response write so far.
    pub end: Nanos,
    /// `METHOD path` without query (`GET /users/17`), or `handler NAME`. Never printed: outputs show the
    /// route instead.
    pub head: String,
    /// The path was truncated, so the last segment of `head` may be incomplete.
    pub path_cut: bool,
    /// Keyed fingerprint of its credential.
    pub token: Option<Fingerprint>,
    /// HTTP status. `None`: the connection was closed without a response.
    pub status: Option<u16>,
    /// How it was bound to its logical task.
    pub binding: Binding,
    /// Announced size of the body in bytes.
    pub body_bytes: u64,
    /// The credential may have been missed (the head was too long, or the request had begun before the
    /// attach).
    pub token_uncertain: bool,
    /// An earlier record of this id was sent. Only `end` changed.
    pub again: bool,
}

/// All live blocks that share site, request and birth second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveGroup {
    /// Where they were allocated.
    pub site: SiteId,
    /// The request that allocated them.
    pub request: Option<RequestId>,
    /// How they are bound to it.
    pub binding: Binding,
    /// Birth of the oldest, rounded down to the second.
    pub born: Nanos,
    /// Estimated blocks (sampling weights applied).
    pub blocks: f64,
    /// Estimated bytes (sampling weights applied).
    pub bytes: f64,
    /// Blocks sampled. Equal to `blocks` if and only if nothing was sampled out.
    pub seen: u32,
    /// Sampling variance of `bytes`, bytes squared.
    pub variance: f64,
    /// Kind of memory.
    pub kind: MemoryKind,
    /// Size class of its mean block, on the scale of [`Returned::size`].
    pub size: u32,
}

/// The kind of allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// An allocator function.
    Heap,
    /// An anonymous mapping made by the program, brk included. Heaps of allocators lie inside mappings, so
    /// mappings are never added to [`MemoryKind::Heap`].
    Mapping,
}

/// All blocks that were live at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the reading began.
    pub at: Nanos,
    /// The blocks. Their sites were announced by an earlier [`Observation::Site`].
    pub groups: Vec<LiveGroup>,
    /// Blocks that are older than the observation (or the window) and were freed in it: totals since its start.
    /// `None`: not known, because frees of blocks that sampling left out cannot be distinguished from them.
    pub returned: Option<Vec<Returned>>,
}

/// Freed blocks of one size that are older than the observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Size class: usable bytes, from 1 KiB on rounded down to three significant bits. 0: the allocator does not
    /// report it.
    pub size: u32,
    /// Number of blocks.
    pub blocks: u64,
}

/// What a frame belongs to. It decides which frame is the leading one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// The allocator itself and its wrappers (malloc, operator new, `GlobalAlloc`, strdup).
    Allocator,
    /// Standard library, language runtime, third-party code.
    Library,
    /// The application's own code.
    User,
    /// No symbol: only an address.
    Unknown,
}

/// One frame of a stack. Inlined functions have their own frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled function, or `module+0xoffset` where there is no symbol.
    pub function: String,
    /// Source file from the debug information.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Base name of the binary or library.
    pub module: String,
    /// What code it belongs to.
    pub kind: FrameKind,
}

/// A resolved call stack, innermost first. Never empty. The stack is shared, because several stages hold
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Frames, innermost first.
    pub stack: Arc<[Frame]>,
    /// The stack was truncated.
    pub truncated: bool,
}

impl Site {
    /// The leading frame: the first frame of the application's own code, else the first frame of a file
    /// without a symbol (a stripped application), else the first that is not the allocator's, else the
    /// innermost.
    pub fn leading(&self) -> &Frame {
        let first = |kinds: &[FrameKind]| self.stack.iter().find(|f| kinds.contains(&f.kind));
        let is_nameless = |f: &&Frame| f.kind == FrameKind::Unknown && !f.module.starts_with('[');
        first(&[FrameKind::User])
            .or_else(|| self.stack.iter().find(is_nameless))
            .or_else(|| first(&[FrameKind::Library, FrameKind::Unknown]))
            .unwrap_or(&self.stack[0])
    }
}

/// What a memory limit applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// Each process by itself: an rlimit, or the user's limit.
    #[default]
    Process,
    /// All processes of a control group together.
    ControlGroup,
    /// All processes of the host together.
    Host,
}

/// The process's memory from `/proc` and its cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySample {
    /// When.
    pub at: Nanos,
    /// Resident bytes.
    pub rss: u64,
    /// Resident anonymous bytes.
    pub rss_anon: u64,
    /// The smallest limit that applies (cgroup, rlimit, host, `--memory-limit`).
    pub limit: Option<u64>,
    /// What it applies to.
    pub scope: LimitScope,
    /// Bytes used of that limit. A cgroup counts more than this process.
    pub used: u64,
    /// User plus system CPU time of the target so far, nanoseconds.
    pub cpu_ns: u64,
}

/// Memory that a target touched for the first time: its user page faults. It grows when the process grows,
/// with any allocator or collector, and is constant while memory is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// When it was read.
    pub at: Nanos,
    /// Bytes of pages since the attach that were written for the first time (x86 error code 6).
    pub fresh_bytes: u64,
    /// Bytes of pages since the attach that were copied on write (code 7): these follow a fork and are not
    /// growth.
    pub copied_bytes: u64,
    /// Sites that touched fresh pages since the last reading.
    pub sites: Vec<SiteFaults>,
}

/// Fresh pages of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFaults {
    /// The code that touched them.
    pub site: SiteId,
    /// The current request. It need not be the request that keeps the memory.
    pub request: Option<RequestId>,
    /// Bytes of pages.
    pub bytes: u64,
}

/// State of a garbage collector's heap, read from the target's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapMark {
    /// When it was read.
    pub at: Nanos,
    /// Bytes that the last completed collection found reachable.
    pub marked_bytes: u64,
    /// Bytes allocated and not swept yet.
    pub live_bytes: u64,
    /// Collections completed since the process began.
    pub cycles: u64,
    /// End of the last mark phase, if the collector records it.
    #[serde(default)]
    pub collected_at: Option<Nanos>,
}

/// A runtime's own heap profile: live memory by call stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// When it was read.
    pub at: Nanos,
    /// Live estimates, scaled up from the runtime's samples. Their sites were announced by an earlier
    /// [`Observation::Site`].
    pub sites: Vec<ProfiledSite>,
}

/// Live memory of one call stack of a [`Profile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfiledSite {
    /// Where it was allocated.
    pub site: SiteId,
    /// Live bytes, estimated.
    pub bytes: u64,
    /// Live objects, estimated.
    pub objects: u64,
}

/// Totals since the attach, from the kernel's counters and the source itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "fields are heaptide_ebpf::Counter's, documented there"
)]
pub struct Losses {
    pub at: Nanos,
    pub alloc_hits: u64,
    pub free_hits: u64,
    pub tracked: u64,
    pub freed: u64,
    pub sampled_out: u64,
    pub unknown_frees: u64,
    pub lost_frees: u64,
    pub missed_returns: u64,
    pub inflight_full: u64,
    pub map_full: u64,
    pub threads_full: u64,
    pub stacks_full: u64,
    pub stacks_truncated: u64,
    pub ring_full: u64,
    pub requests: u64,
    pub requests_lost: u64,
    pub read_faults: u64,
    pub syscalls: u64,
    /// CPU seconds that probes cost the target so far: hits of allocator probes times the calibrated cost
    /// per hit, plus the measured cost of request probes.
    pub probe_seconds: f64,
    /// CPU seconds of the agent.
    pub agent_cpu_seconds: f64,
    /// Resident bytes of the agent.
    pub agent_rss: u64,
    /// Kernel memory of the agent's maps, bytes.
    pub map_bytes: u64,
}

/// The observed process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct TargetInfo {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot. Together with the pid it identifies the process.
    pub start_ticks: u64,
    /// Path of the executable.
    pub exe: String,
    /// The recognised runtime (`tokio`, `go`, `cpython 3.11`, `threads`).
    pub runtime: String,
    /// Allocators found (`glibc`, `jemalloc`).
    pub allocators: Vec<String>,
    /// Limitations of the observation, one sentence each.
    pub limitations: Vec<String>,
    /// How allocations are watched (`auto`, `watch`, `sample`, `trace`; `outside`: without kernel programs).
    pub mode: String,
    /// Its runtime keeps objects in a heap of its own that is not read. Allocator probes do not see them.
    pub heap_unseen: bool,
    /// Its runtime has a tracing collector: until the next collection, garbage looks like growth.
    #[serde(default)]
    pub collected: bool,
    /// Its runtime keeps objects in a heap of its own that is read. Nothing is known of them before the first
    /// reading.
    #[serde(default)]
    pub heap_read: bool,
    /// It serves connections, but no request could be read.
    #[serde(default)]
    pub requests_unread: bool,
    /// Its allocators see a part of its objects only: the small ones are in a heap of the runtime.
    #[serde(default)]
    pub blocks_partial: bool,
    /// Where it runs.
    #[serde(default)]
    pub workload: Workload,
}

/// Where a process runs, as far as the path of its control group tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// systemd unit (`api.service`).
    pub unit: Option<String>,
    /// Id of the container.
    pub container: Option<String>,
    /// Runtime of the container (`docker`, `containerd`, `cri-o`, `podman`), if known.
    pub container_runtime: Option<String>,
    /// UID of the Kubernetes pod.
    pub pod_uid: Option<String>,
}

/// What the judge needs from the current window of allocation tracing. The source acts on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opinion {
    /// Undecided: the window should continue.
    #[default]
    Open,
    /// Something grows; a longer window may confirm it.
    Suspicion,
    /// Decided: the window may end.
    Settled,
}

/// Everything that the source reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// The first observation, and again when it changes.
    Target(Nanos, TargetInfo),
    /// A request ended or continued.
    Request(Request),
    /// A call stack, once per site and before any snapshot that refers to it.
    Site(Site),
    /// All live blocks.
    Snapshot(Snapshot),
    /// Memory of the process.
    Memory(MemorySample),
    /// Page faults so far.
    Faults(Faults),
    /// A collector's heap.
    Heap(HeapMark),
    /// A runtime's heap profile.
    Profile(Profile),
    /// Containers.
    Census(Census),
    /// Tokens found in memory.
    Residency(Residency),
    /// Losses so far.
    Losses(Losses),
    /// The address space was replaced (exec), or it is a forked child's copy: all blocks are forgotten.
    Forgotten(Nanos),
    /// The process ended.
    Ended(Nanos),
    /// Allocations are traced from now on, or no longer. It is not known which blocks from before a pause were freed
    /// during it.
    Window(Nanos, bool),
    /// Lengths of containers between two censuses.
    Lengths(Lengths),
    /// Requests are traced from now on, or no longer.
    Requests(Nanos, bool),
}

impl Observation {
    /// Time of the observation. A site has none.
    pub fn at(&self) -> Option<Nanos> {
        match self {
            Self::Target(at, _)
            | Self::Forgotten(at)
            | Self::Ended(at)
            | Self::Window(at, _)
            | Self::Requests(at, _) => Some(*at),
            Self::Request(request) => Some(request.end),
            Self::Site(_) => None,
            Self::Snapshot(snapshot) => Some(snapshot.at),
            Self::Memory(memory) => Some(memory.at),
            Self::Faults(faults) => Some(faults.at),
            Self::Heap(heap) => Some(heap.at),
            Self::Profile(profile) => Some(profile.at),
            Self::Census(census) => Some(census.at),
            Self::Residency(residency) => Some(residency.at),
            Self::Losses(losses) => Some(losses.at),
            Self::Lengths(lengths) => Some(lengths.at),
        }
    }
}
