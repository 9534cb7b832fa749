//! The shared vocabulary: what every stage may speak of.
//!
//! [`Observation`] is all that passes from the source to decode's right-hand side. It is plain,
//! serialisable data with its own times, so that a recorded capture replays through the same code.

// tidy: table

mod census;
mod time;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use time::Nanos;

pub use census::{Census, Container, GOROUTINES, INSTANCES, Lengths, WriterSite};

/// A request, unique within one run of the agent. 0 in kernel records means "none" and becomes `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A call stack, by the hash of its addresses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SiteId(pub u64);

/// The keyed fingerprint of a credential. Never the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// How surely a block or request is tied to its request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Not tied to a request.
    #[default]
    None,
    /// By a thread that serves several connections at once.
    Inferred,
    /// By logical task, or by a thread that serves one connection at a time.
    Exact,
}

/// The credential of a request, as far as anybody may know it.
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

/// One HTTP exchange (or one call of a `--handler`), sent when its response was written and again
/// when a stream went on after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// First byte of the head read.
    pub start: Nanos,
    /// Last response write so far.
    pub end: Nanos,
    /// `METHOD path` without query (`GET /users/17`), or `handler NAME`. Never printed: outputs get
    /// the route made of it.
    pub head: String,
    /// The path was longer than what is kept: the last segment of `head` is a part of one.
    pub path_cut: bool,
    /// Keyed fingerprint of its credential.
    pub token: Option<Fingerprint>,
    /// HTTP status; `None` when the connection closed unanswered.
    pub status: Option<u16>,
    /// How it was tied to its logical task.
    pub binding: Binding,
    /// Bytes of body announced.
    pub body_bytes: u64,
    /// The credential may have been missed (head too long, or already under way at the attach).
    pub token_uncertain: bool,
    /// A record of this id was sent before; only `end` changed.
    pub again: bool,
}

/// All live blocks that share site, request and birth second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveGroup {
    /// Where they were allocated.
    pub site: SiteId,
    /// For which request.
    pub request: Option<RequestId>,
    /// How surely.
    pub binding: Binding,
    /// Birth of the earliest, rounded down to the second.
    pub born: Nanos,
    /// Estimated blocks (sampling weights applied).
    pub blocks: f64,
    /// Estimated bytes (sampling weights applied).
    pub bytes: f64,
    /// Blocks really seen; `blocks == seen` exactly when nothing was sampled out.
    pub seen: u32,
    /// Variance of `bytes` that sampling adds, bytes squared.
    pub variance: f64,
    /// What kind of memory.
    pub kind: MemoryKind,
}

/// What handed the memory out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// An allocator function.
    Heap,
    /// An anonymous mapping made by the program, brk included; heaps of allocators lie in these, so
    /// they are never added to [`MemoryKind::Heap`].
    Mapping,
}

/// All blocks that were live at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the reading began.
    pub at: Nanos,
    /// The blocks. Sites in here have been announced by [`Observation::Site`] before.
    pub groups: Vec<LiveGroup>,
}

/// What a frame belongs to, so that the leading *user* frame can be told.
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

/// One frame of a stack. Inlined functions are frames of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled function, or `module+0xoffset` where there is no symbol.
    pub function: String,
    /// Source file as the debug information names it.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Base name of the binary or library.
    pub module: String,
    /// What it belongs to.
    pub kind: FrameKind,
}

/// A resolved call stack, innermost first. Never empty; shared, because every stage holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Frames, innermost first.
    pub stack: Arc<[Frame]>,
    /// The unwinding stopped early.
    pub truncated: bool,
}

impl Site {
    /// The frame to show a person: the first of the application's own code, else the first without a
    /// name in a file (a stripped application's), else the first that is not the allocator's, else the
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

/// The process's memory as `/proc` and its cgroup tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySample {
    /// When.
    pub at: Nanos,
    /// Resident bytes.
    pub rss: u64,
    /// Resident anonymous bytes.
    pub rss_anon: u64,
    /// The smallest limit that holds for it (cgroup, rlimit, host, `--memory-limit`).
    pub limit: Option<u64>,
    /// What is used of that limit: a cgroup counts more than this process.
    pub used: u64,
    /// User plus system CPU time of the target so far, nanoseconds.
    pub cpu_ns: u64,
}

/// Memory that a target touched for the first time: its user page faults. It grows when the process
/// grows, whatever allocator or collector it has, and stands still when memory is reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// When it was read.
    pub at: Nanos,
    /// Bytes of pages since the attach that were written for the first time (x86 error code 6).
    pub fresh_bytes: u64,
    /// Bytes of pages since the attach that were copied on write (code 7): after a fork, no growth.
    pub copied_bytes: u64,
    /// Where the fresh pages since the last reading were touched.
    pub sites: Vec<SiteFaults>,
}

/// Fresh pages of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFaults {
    /// The code that touched them.
    pub site: SiteId,
    /// The request that was current; who touches a fresh page need not be who keeps it.
    pub request: Option<RequestId>,
    /// Bytes of pages.
    pub bytes: u64,
}

/// What a garbage collector says of its heap, read from the target's memory.
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
    /// When the last of them ended its marking, where the collector says so.
    #[serde(default)]
    pub collected_at: Option<Nanos>,
}

/// What a runtime's own heap profile says is live, by call stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// When it was read.
    pub at: Nanos,
    /// Live estimates, scaled up from what the runtime sampled. Sites in here have been announced by
    /// [`Observation::Site`] before.
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

/// Tokens of finished requests that are still in the target's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// When the scan ended.
    pub at: Nanos,
    /// Bytes of memory that were looked through.
    pub scanned_bytes: u64,
    /// A bound of time or bytes ended the scan early: counts are lower bounds.
    pub cut: bool,
    /// By age of the token's last request, youngest first.
    pub ages: Vec<ResidentAge>,
}

/// Tokens whose last request ended at least so long ago (and less than the next entry's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentAge {
    /// Seconds since the last request that carried them.
    pub at_least_seconds: u64,
    /// Distinct tokens of that age that were looked for.
    pub tokens: u64,
    /// Those found.
    pub resident: u64,
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
    /// Seconds that probes cost the target so far: hits of allocator probes times the calibrated cost per hit,
    /// and what those of requests were measured to cost.
    pub probe_seconds: f64,
    /// CPU seconds the agent used itself.
    pub agent_cpu_seconds: f64,
    /// Resident bytes of the agent.
    pub agent_rss: u64,
    /// Bytes of kernel memory its maps hold.
    pub map_bytes: u64,
}

/// Who is observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: with the pid, the identity of the process.
    pub start_ticks: u64,
    /// Path of the executable.
    pub exe: String,
    /// What runs requests in it, as [`crate::target`] recognised it (`tokio`, `go`, `cpython 3.11`, `threads`).
    pub runtime: String,
    /// Allocators found (`glibc`, `jemalloc`).
    pub allocators: Vec<String>,
    /// What cannot be seen in this process and why, one sentence each.
    pub limitations: Vec<String>,
    /// How allocations are watched (`watch`, `sample`, `trace`).
    pub mode: String,
}

/// What the judge thinks of a stretch of time in which allocations are watched; the source acts on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opinion {
    /// More has to be seen.
    #[default]
    Open,
    /// Something grows; more may make it certain.
    Suspicion,
    /// Nothing more is to be learned.
    Settled,
}

/// Everything the source can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// First of all, and again when something in it changed.
    Target(Nanos, TargetInfo),
    /// A request ended or went on.
    Request(Request),
    /// A call stack, once per site and before any snapshot that names it.
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
    /// Tokens still in memory.
    Residency(Residency),
    /// Losses so far.
    Losses(Losses),
    /// The address space was replaced (exec) or a child's inherited one begins: forget all blocks.
    Forgotten(Nanos),
    /// The process ended.
    Ended(Nanos),
    /// Allocations are watched from now on, or no longer: what was live before cannot be told from what was
    /// freed unseen.
    Window(Nanos, bool),
    /// Lengths of containers between two censuses.
    Lengths(Lengths),
    /// Requests are seen from now on, or no longer.
    Requests(Nanos, bool),
}

impl Observation {
    /// When it was made; a site has no time of its own.
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
