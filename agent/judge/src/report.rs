//! The report (`heaptide.report/v1`) and its parts, which all outputs read.
//!
//! The JSON form is a stable interface: fields may be added, but never renamed or removed.
// tidy: table

use serde::{Deserialize, Serialize};

use crate::events::{Binding, Frame, LimitScope, Workload};

/// The value of `schema`.
pub const SCHEMA: &str = "heaptide.report/v1";

/// Everything known about a target at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of heaptide.
    pub version: String,
    /// The observed process.
    pub target: TargetSummary,
    /// Duration and traffic of the observation.
    pub window: Window,
    /// Memory at the start and at the end.
    pub memory: Memory,
    /// The verdict.
    pub verdict: Verdict,
    /// Reason of the verdict, in one or two sentences.
    pub reason: String,
    /// Findings, worst first. Growth that is not a leak is included with state `none`.
    pub findings: Vec<Finding>,
    /// Traffic and growth per route, busiest first.
    pub routes: Vec<RouteSummary>,
    /// Token residency. `None`: no token was searched for.
    #[serde(default)]
    pub residency: Option<ResidencySummary>,
    /// The growth of the process, and what explains it. `None`: its memory was read too few times.
    #[serde(default)]
    pub ledger: Option<Ledger>,
    /// The largest growth that could have been missed. `None`: there is too little evidence for one.
    #[serde(default)]
    pub bound: Option<Bound>,
    /// What the verdict `no_leak` lacks, besides that nothing may be found. The first one is the reason of
    /// `insufficient_evidence`.
    #[serde(default)]
    pub lacks: Vec<Lack>,
    /// Losses and cost.
    pub health: Health,
    /// The processes of the service, if there are several. Traffic, routes and findings cover all of them;
    /// the rest is of the worst one.
    #[serde(default)]
    pub processes: Vec<ProcessSummary>,
    /// For the live view, the page and the metrics. Not part of the JSON interface.
    #[serde(skip)]
    pub live: Live,
}

/// The observed process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// Process id.
    pub pid: u32,
    /// Executable.
    pub exe: String,
    /// Its runtime.
    pub runtime: String,
    /// Its allocators.
    pub allocators: Vec<String>,
    /// Mode of allocation tracing.
    pub mode: String,
    /// Limitations of the observation, with reasons.
    pub limitations: Vec<String>,
    /// Where it runs.
    #[serde(default)]
    pub workload: Workload,
}

/// One process of a service that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSummary {
    /// Process id.
    pub pid: u32,
    /// Its own verdict.
    pub verdict: Verdict,
    /// Requests it served.
    pub requests: u64,
    /// Resident bytes at the end.
    pub rss_bytes: u64,
    /// Retained bytes of its findings.
    pub retained_bytes: u64,
}

/// Duration and traffic of the observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Seconds observed.
    pub seconds: f64,
    /// Requests that ended.
    pub requests: u64,
    /// Requests with a new credential.
    pub new_tokens: u64,
    /// Requests with a repeated credential.
    pub repeat_tokens: u64,
    /// Requests without credential.
    pub anonymous: u64,
    /// Distinct credentials, estimated (`HyperLogLog`).
    pub distinct_tokens: u64,
    /// Requests are traced at present. `false` while tracing is paused to stay within the overhead budget.
    pub requests_seen: bool,
}

/// Memory at the start and the end of the observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident bytes at the start.
    pub rss_start_bytes: u64,
    /// Resident bytes at the end.
    pub rss_end_bytes: u64,
    /// Growth of mature live bytes.
    pub live_growth_bytes: i64,
    /// Live bytes tracked at the end.
    pub live_bytes: u64,
    /// Blocks tracked at the end, estimated.
    pub live_blocks: u64,
    /// The smallest limit that applies.
    pub limit_bytes: Option<u64>,
    /// What it applies to.
    #[serde(default)]
    pub limit_scope: LimitScope,
    /// Bytes used of it.
    pub used_bytes: u64,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one confirmed finding.
    Leak,
    /// At least one suspect finding.
    Suspect,
    /// Enough evidence, and nothing grows without bounds.
    NoLeak,
    /// Losses or too little traffic prevent a verdict; `reason` says which.
    InsufficientEvidence,
}

/// Evidence that the verdict `no_leak` needs and that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// Too many losses.
    Losses,
    /// The runtime's heap was read too few times, or only in part.
    Readings,
    /// Too short an observation.
    Time,
    /// Too few requests.
    Requests,
    /// The runtime's objects are in a heap that is not read.
    UnseenHeap,
    /// Allocations are being traced, so far for too short a time or for too few requests.
    Tracing,
    /// There is no bound yet.
    Bound,
    /// At the bound memory would not last for the horizon.
    Horizon,
}

/// State of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// Not a leak, or not enough for a suspicion.
    None,
    /// Growth passes all gates: nothing, or too little, was freed.
    Suspect,
    /// Suspect, and the growth has passed the growth budget.
    Confirmed,
}

/// Cause of the growth, or why it is not a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Requests with a new token keep memory, those with a repeated token do not.
    TokenKeyed,
    /// Every request keeps memory, whatever its token.
    PerRequest,
    /// Requests keep memory, those with a new token more than those with a repeated one.
    Mixed,
    /// Growth without requests.
    Background,
    /// Too little contrast between new and repeated tokens.
    Indeterminate,
    /// Not a leak: it evicts as much as it adds.
    BoundedCache,
    /// Not a leak: the growth slows down and stops.
    WarmUp,
    /// Not a leak: freed memory that the allocator keeps.
    AllocatorRetention,
    /// Not a leak: memory of requests in flight.
    WorkingSet,
}

/// A leak, a suspicion, or growth that is not a leak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// State.
    pub state: FindingState,
    /// Cause.
    pub cause: Cause,
    /// Route, or `(background)` without requests.
    pub route: String,
    /// The code that allocated most of the retained memory.
    pub site: SiteSummary,
    /// Other sites of the same route and cause, biggest first.
    pub also: Vec<SiteSummary>,
    /// Mature live bytes that were allocated since the start.
    pub retained_bytes: u64,
    /// Standard error from sampling. 0 if every block is counted.
    #[serde(default)]
    pub retained_bytes_error: u64,
    /// The retained bytes, and all figures made from them, are lower bounds: objects that the entries refer to are
    /// not counted.
    #[serde(default)]
    pub retained_is_lower_bound: bool,
    /// Bytes of those in blocks that are the container itself, such as the table of a hash map. They are in
    /// no figure per token or request.
    #[serde(default)]
    pub container_bytes: u64,
    /// Bytes per request with a new token on this route.
    pub retained_bytes_per_new_token: f64,
    /// Bytes per request with a repeated token on this route.
    pub retained_bytes_per_repeat_token: f64,
    /// Bytes per request on this route.
    pub retained_bytes_per_request: f64,
    /// Mature live blocks.
    pub blocks: u64,
    /// Total bytes that matured.
    pub matured_bytes: u64,
    /// Bytes of those that were freed since.
    pub evicted_bytes: u64,
    /// Requests with a new token whose blocks matured.
    pub new_tokens: u64,
    /// Current growth of mature bytes per second.
    pub growth_bytes_per_second: f64,
    /// Part of the evidence that was not lost, 0 to 1.
    pub confidence: f64,
    /// How its blocks are bound to requests.
    pub binding: Binding,
    /// Seconds until the limit is reached.
    pub time_to_oom_seconds: Option<TimeToOom>,
    /// The evidence for the state, in sentences.
    pub evidence: Vec<String>,
    /// Seconds after the attach at which it was first suspected.
    pub suspected_after_seconds: Option<f64>,
    /// Seconds after the attach at which it was confirmed.
    pub confirmed_after_seconds: Option<f64>,
    /// The kind of evidence.
    #[serde(default)]
    pub basis: Basis,
    /// The growing container, if known.
    #[serde(default)]
    pub container: Option<ContainerSummary>,
    /// How exact the figures are. `None`: not known.
    #[serde(default)]
    pub precision: Option<Precision>,
    /// What usually fixes growth of this kind, if container and line are known.
    #[serde(default)]
    pub hint: Option<String>,
}

/// How exact the figures of a finding are: standard errors in bytes, without systematic errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Precision {
    /// Error of the bytes per request with a new token.
    pub per_new_token: f64,
    /// Error of the bytes per request with a repeated token.
    pub per_repeat_token: f64,
    /// Error of the bytes per request.
    pub per_request: f64,
    /// Error of the growth per second.
    pub per_second: f64,
    /// Requests with a new token that keep anything. Others may have a token that the service knew before. 0: not counted.
    pub keeping_tokens: u64,
    /// Error of the bytes that each of those keeps.
    pub per_keeping_token: f64,
    /// The bytes are those by which the process grew, because more was kept than was seen.
    pub is_of_process: bool,
    /// Each event keeps more than was seen. (Known tokens, which keep nothing, make the figures per new token lower bounds too.)
    pub is_part: bool,
}

/// Name of the route if several routes are possible.
pub const UNDECIDED: &str = "(undecided)";

/// The kind of evidence that a finding is based on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Live blocks, from allocator probes.
    #[default]
    Blocks,
    /// The entries of a container, counted from outside.
    Container,
    /// The reachable bytes that the collector found.
    Collector,
    /// The runtime's own heap profile.
    Profile,
    /// The process's memory as a whole.
    Process,
}

/// A container that grows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// Its path (`app.claims_cache`): names of the program only.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Entries when the growth began.
    pub entries_start: u64,
    /// Entries now.
    pub entries_end: u64,
    /// Entries per request with a new token, if the cause is `token_keyed`.
    pub entries_per_new_token: Option<f64>,
    /// Entries per request of its route.
    pub entries_per_request: Option<f64>,
    /// Estimated bytes per entry, with the objects that it holds.
    pub bytes_per_entry: Option<f64>,
}

/// When memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeToOom {
    /// Seconds at the measured growth rate.
    pub median: f64,
    /// Seconds at the upper end of the growth rate's interval. With a probability of 95 % it is later.
    pub early: f64,
    /// Seconds at the lower end. With a probability of 95 % it is earlier. `None`: the interval includes no
    /// growth.
    #[serde(default)]
    pub late: Option<f64>,
}

/// A code location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// Function.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
    /// Binary or library.
    pub module: String,
    /// Retained bytes of this site.
    pub retained_bytes: u64,
    /// Its biggest stack, innermost frame first.
    pub stack: Vec<Frame>,
}

/// Traffic and growth of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteSummary {
    /// `GET /users/{id}`.
    pub route: String,
    /// Requests that ended.
    pub requests: u64,
    /// Requests with a new token.
    pub new_tokens: u64,
    /// Requests with a repeated token.
    pub repeat_tokens: u64,
    /// Mature live bytes.
    pub retained_bytes: u64,
    /// 99th percentile of latency, seconds.
    pub p99_seconds: f64,
    /// Traced requests per second in that part of the observation in which there were fewest, of those parts that
    /// [`Bound`] may rest on. The bound divided by it is the most that a request of this route could keep.
    #[serde(default)]
    pub least_requests_per_second: f64,
    /// The same for requests with a new token.
    #[serde(default)]
    pub least_new_tokens_per_second: f64,
}

/// Tokens whose requests have ended, and how many of them are still in the target's memory. Of more than
/// 16,384 tokens a random sample is searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencySummary {
    /// Tokens searched for. Their last request ended at least 10 s earlier.
    pub tokens: u64,
    /// Tokens found.
    pub resident: u64,
    /// Bytes of memory scanned.
    pub scanned_bytes: u64,
    /// Not all memory was scanned, so `resident` is a lower bound.
    pub cut: bool,
    /// The same in one sentence.
    pub said: String,
    /// By the age of the token's last request, youngest first.
    pub ages: Vec<ResidentAge>,
}

/// Tokens by the age of their last request: at least this age, and less than the next entry's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentAge {
    /// Seconds since the end of the last request that carried them.
    pub at_least_seconds: u64,
    /// Tokens of that age that were searched for.
    pub tokens: u64,
    /// Tokens found.
    pub resident: u64,
}

/// The growth of the process since the start, and what explains it. All bytes are resident: headers and rounding of
/// the allocator are estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Rise of the floor of the process's anonymous memory.
    pub gained_bytes: u64,
    /// Growth of leaks and suspicions.
    pub findings_bytes: u64,
    /// Growth of caches, warm-up and other memory that is not a leak.
    pub benign_bytes: u64,
    /// The rest of the gain. If it is too large, the verdict is not `no_leak`: see [`Bound`].
    pub unexplained_bytes: u64,
}

/// The largest growth that could have been missed while nothing was found: with a probability of 95 % less is leaking.
/// It covers the routes that were used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Seconds of observation on which it rests.
    #[serde(default)]
    pub seconds: f64,
    /// Seconds that the memory would last at that rate. `None`: no limit applies.
    pub lasts_seconds: Option<f64>,
    /// Seconds of further observation after which the memory would last for the horizon, if still nothing grows then.
    pub observe_seconds: Option<f64>,
    /// Leaks that occur in fewer than one in so many requests could have been missed. `None`: requests were not followed
    /// one by one.
    pub one_in_requests: Option<f64>,
    /// Losses, short observation or a heap that is not read do not stand against it, so that it holds for all memory.
    #[serde(default)]
    pub is_whole: bool,
    /// The entries of containers were counted.
    #[serde(default)]
    pub counts_containers: bool,
}

impl Bound {
    /// The bound of a judgement that lacks this evidence: it is whole if only its size forbids `no_leak`.
    #[must_use]
    pub fn without(self, lacks: &[Lack]) -> Self {
        Self {
            is_whole: lacks.iter().all(|lack| *lack == Lack::Horizon),
            ..self
        }
    }
}

/// Losses and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Records dropped because the ring buffer was full.
    pub dropped_events: u64,
    /// Allocator calls whose return probe was missed.
    pub missed_returns: u64,
    /// Frees of blocks that are older than the attach or sampled out.
    pub unknown_frees: u64,
    /// Blocks whose free was missed.
    pub lost_frees: u64,
    /// Blocks refused because the map was full.
    pub map_full: u64,
    /// Stacks refused because the map was full: the sites of their blocks are unknown.
    pub stacks_full: u64,
    /// Truncated stacks.
    pub stacks_truncated: u64,
    /// Blocks left out by sampling (estimates account for them).
    pub sampled_out: u64,
    /// Hits of allocator probes in the target, plus its traced system calls.
    pub probe_hits: u64,
    /// CPU seconds that allocator probes (by calibration) and request tracing (by measurement) cost the
    /// target.
    pub probe_seconds: f64,
    /// `probe_seconds` divided by the target's CPU time.
    pub overhead_ratio: f64,
    /// Resident bytes of the agent.
    pub agent_rss_bytes: u64,
    /// CPU seconds of the agent.
    pub agent_cpu_seconds: f64,
    /// Kernel memory of the maps, bytes.
    pub map_bytes: u64,
}

impl Health {
    /// Adds the counters and the cost of another process. What the agent itself uses is counted for all processes already.
    pub fn add(&mut self, part: &Self) {
        // With a ratio of 0 the CPU time is not known, and there is no cost.
        let cpu = |one: &Self| {
            if one.overhead_ratio > 0.0 {
                one.probe_seconds / one.overhead_ratio
            } else {
                0.0
            }
        };
        let cpu = cpu(self) + cpu(part);
        self.dropped_events += part.dropped_events;
        self.missed_returns += part.missed_returns;
        self.unknown_frees += part.unknown_frees;
        self.lost_frees += part.lost_frees;
        self.map_full += part.map_full;
        self.stacks_full += part.stacks_full;
        self.stacks_truncated += part.stacks_truncated;
        self.sampled_out += part.sampled_out;
        self.probe_hits += part.probe_hits;
        self.probe_seconds += part.probe_seconds;
        if cpu > 0.0 {
            self.overhead_ratio = self.probe_seconds / cpu;
        }
    }
}

/// Data for the live view, the page and the metrics only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// (seconds since start, RSS bytes, mature live bytes), at most 240 points.
    pub curve: Vec<(f64, u64, u64)>,
    /// Requests per second over the last 10 s.
    pub requests_per_second: f64,
    /// New tokens per second over the last 10 s.
    pub new_tokens_per_second: f64,
    /// (function, `file:line`, live bytes, live blocks): top sites by live bytes, at most 20.
    pub top_sites: Vec<LiveSite>,
}

/// A row of the top sites.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSite {
    /// The leading user frame's function.
    pub function: String,
    /// `file:line`, or the module.
    pub location: String,
    /// Live bytes, mature or not.
    pub bytes: u64,
    /// Live blocks.
    pub blocks: u64,
}

impl Verdict {
    /// The exit code of `--exit-code`: 0 no leak, 1 confirmed, 2 suspect, 4 insufficient evidence.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Leak => 1,
            Self::Suspect => 2,
            Self::NoLeak => 0,
            Self::InsufficientEvidence => 4,
        }
    }
}
