//! What heaptide says: the report (`heaptide.report/v1`) and its parts, read by every output.
//!
//! The JSON form is an interface (design.md): fields may be added, never renamed.

use serde::{Deserialize, Serialize};

use crate::events::{Binding, Frame};

/// The value of `schema`.
pub const SCHEMA: &str = "heaptide.report/v1";

/// Everything known about a target at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of heaptide.
    pub version: String,
    /// Who was observed.
    pub target: TargetSummary,
    /// How long and how much traffic.
    pub window: Window,
    /// Memory at both ends.
    pub memory: Memory,
    /// The answer.
    pub verdict: Verdict,
    /// Why, in one or two sentences a person understands.
    pub reason: String,
    /// What grows, worst first; causes that are no leak included, with state `none`.
    pub findings: Vec<Finding>,
    /// Traffic and growth per route, busiest first.
    pub routes: Vec<RouteSummary>,
    /// Tokens still in memory; `None`: none were looked for.
    #[serde(default)]
    pub residency: Option<ResidencySummary>,
    /// Losses and cost.
    pub health: Health,
    /// The processes of the service, where there are several: traffic, routes and findings above are of all
    /// of them, the rest is of the first.
    #[serde(default)]
    pub processes: Vec<ProcessSummary>,
    /// For the live view and metrics, not part of the JSON interface.
    #[serde(skip)]
    pub live: Live,
}

/// Who was observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetSummary {
    /// Process id.
    pub pid: u32,
    /// Executable.
    pub exe: String,
    /// What runs requests in it.
    pub runtime: String,
    /// Its allocators.
    pub allocators: Vec<String>,
    /// How allocations were watched.
    pub mode: String,
    /// What could not be seen, and why.
    pub limitations: Vec<String>,
}

/// One process of a service that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSummary {
    /// Process id.
    pub pid: u32,
    /// What was found of it alone.
    pub verdict: Verdict,
    /// Requests that it served.
    pub requests: u64,
    /// Resident bytes at the end.
    pub rss_bytes: u64,
    /// Bytes that its findings keep.
    pub retained_bytes: u64,
}

/// How long and how much traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Seconds observed.
    pub seconds: f64,
    /// Requests that ended.
    pub requests: u64,
    /// Requests with a credential first seen.
    pub new_tokens: u64,
    /// Requests with a credential seen before.
    pub repeat_tokens: u64,
    /// Requests without one.
    pub anonymous: u64,
    /// Distinct credentials, estimated (`HyperLogLog`).
    pub distinct_tokens: u64,
    /// Requests are seen at present: `false` in a pause that keeps their cost within the budget.
    pub requests_seen: bool,
}

/// Memory at both ends of the window.
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
    /// The smallest limit.
    pub limit_bytes: Option<u64>,
    /// What is used of it.
    pub used_bytes: u64,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one confirmed finding.
    Leak,
    /// At least one suspect finding.
    Suspect,
    /// Enough was seen, and nothing grows without bounds.
    NoLeak,
    /// Losses or too little traffic forbid a verdict; `reason` says which.
    InsufficientEvidence,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// Not a leak, or not enough for a suspicion.
    None,
    /// Grows and has let nothing (or too little) go so far.
    Suspect,
    /// And has passed the growth budget.
    Confirmed,
}

/// What makes it grow, or why it is no leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Each token first seen keeps memory, repeats do not.
    TokenKeyed,
    /// Every request keeps memory, whatever its token.
    PerRequest,
    /// Both.
    Mixed,
    /// Grows without a request.
    Background,
    /// Too little contrast between new and repeated tokens to tell.
    Indeterminate,
    /// Not a leak: lets go as much as it takes.
    BoundedCache,
    /// Not a leak: slows down and stops.
    WarmUp,
    /// Not a leak: freed, but kept by the allocator.
    AllocatorRetention,
    /// Not a leak: memory of requests under way.
    WorkingSet,
}

/// A series with a state and a cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How sure.
    pub state: FindingState,
    /// What makes it grow.
    pub cause: Cause,
    /// Route, `(background)` when no request is involved.
    pub route: String,
    /// The code that allocated what is kept: the biggest contributor.
    pub site: SiteSummary,
    /// Other sites of the same route and cause that are part of it, biggest first.
    pub also: Vec<SiteSummary>,
    /// Mature bytes live now that were not there at the start.
    pub retained_bytes: u64,
    /// Standard error that sampling leaves in them; 0 where every block is counted.
    #[serde(default)]
    pub retained_bytes_error: u64,
    /// Of those, in blocks so large that they are the container itself, such as the table of a hash
    /// map that doubles: in no figure per token or request.
    #[serde(default)]
    pub container_bytes: u64,
    /// Per request with a new token on this route.
    pub retained_bytes_per_new_token: f64,
    /// Per request with a repeated token on this route.
    pub retained_bytes_per_repeat_token: f64,
    /// Per request on this route.
    pub retained_bytes_per_request: f64,
    /// Mature blocks live now.
    pub blocks: u64,
    /// Bytes that ever matured.
    pub matured_bytes: u64,
    /// Bytes of those that were freed since.
    pub evicted_bytes: u64,
    /// Requests with a new token whose blocks matured.
    pub new_tokens: u64,
    /// Bytes per second at which mature bytes grow now.
    pub growth_bytes_per_second: f64,
    /// 0..1: the part of the evidence that was not lost.
    pub confidence: f64,
    /// How surely its blocks are tied to their requests.
    pub binding: Binding,
    /// Seconds until the limit is reached.
    pub time_to_oom_seconds: Option<TimeToOom>,
    /// What the state rests on, one sentence each.
    pub evidence: Vec<String>,
    /// Seconds after the attach at which it was first suspected.
    pub suspected_after_seconds: Option<f64>,
    /// Seconds after the attach at which it was confirmed.
    pub confirmed_after_seconds: Option<f64>,
    /// What it was judged by.
    #[serde(default)]
    pub basis: Basis,
    /// The container that grows, where one is known.
    #[serde(default)]
    pub container: Option<ContainerSummary>,
}

/// The route of what several routes may have done.
pub const UNDECIDED: &str = "(undecided)";

/// What a finding was judged by.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Live blocks, by allocator probes.
    #[default]
    Blocks,
    /// The entries of a container, counted from outside.
    Container,
    /// What the collector found reachable.
    Collector,
    /// The runtime's own heap profile.
    Profile,
    /// The process's memory as a whole.
    Process,
}

/// A container that grows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// How it is reached (`app.claims_cache`): names of the program only.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Entries when the growth began.
    pub entries_start: u64,
    /// Entries now.
    pub entries_end: u64,
    /// Entries per request with a new token, when the cause is those.
    pub entries_per_new_token: Option<f64>,
    /// Entries per request of its route.
    pub entries_per_request: Option<f64>,
    /// Bytes of one entry with what it holds, estimated.
    pub bytes_per_entry: Option<f64>,
}

/// When memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeToOom {
    /// With the growth as measured.
    pub median: f64,
    /// With the growth at the upper end of its interval: it comes later with a probability of 95 %.
    pub early: f64,
    /// With the growth at the lower end: it comes earlier with a probability of 95 %. `None`: no growth
    /// at all is within the interval.
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
    /// Its most frequent stack, innermost first.
    pub stack: Vec<Frame>,
}

/// Traffic and growth of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteSummary {
    /// `GET /users/{id}`.
    pub route: String,
    /// Requests that ended.
    pub requests: u64,
    /// Of those with a token first seen.
    pub new_tokens: u64,
    /// Of those with a token seen before.
    pub repeat_tokens: u64,
    /// Mature live bytes held by it now.
    pub retained_bytes: u64,
    /// 99th percentile of latency, seconds.
    pub p99_seconds: f64,
}

/// Tokens whose requests are over, and how many of them are still in the target's memory. Of more than
/// 16,384 tokens a random part was looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencySummary {
    /// Tokens that were looked for: their last request ended more than 10 s before.
    pub tokens: u64,
    /// Those found.
    pub resident: u64,
    /// Bytes of memory that were looked through.
    pub scanned_bytes: u64,
    /// Not all of the memory could be looked through: more may be there.
    pub cut: bool,
    /// The same in one sentence.
    pub said: String,
    /// By the age of the token's last request, youngest first.
    pub ages: Vec<ResidentAge>,
}

/// Tokens whose last request ended at least so long ago, and less than the next entry's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentAge {
    /// Seconds since the end of the last request that carried them.
    pub at_least_seconds: u64,
    /// Tokens of that age that were looked for.
    pub tokens: u64,
    /// Those found.
    pub resident: u64,
}

/// Losses and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Records that the ring could not take.
    pub dropped_events: u64,
    /// Allocator calls whose return was never seen.
    pub missed_returns: u64,
    /// Frees of blocks that are older than the attach or sampled out.
    pub unknown_frees: u64,
    /// Blocks whose free was missed.
    pub lost_frees: u64,
    /// Blocks that a full map refused.
    pub map_full: u64,
    /// Stacks cut short.
    pub stacks_truncated: u64,
    /// Blocks left out by sampling (estimates account for them).
    pub sampled_out: u64,
    /// Hits of allocator probes in the target, and its system calls that were looked at.
    pub probe_hits: u64,
    /// CPU seconds that allocator probes (by calibration) and the seeing of requests (as measured now and then)
    /// cost it.
    pub probe_seconds: f64,
    /// The same against the target's CPU time.
    pub overhead_ratio: f64,
    /// Resident bytes of the agent.
    pub agent_rss_bytes: u64,
    /// CPU seconds of the agent.
    pub agent_cpu_seconds: f64,
    /// Kernel memory of the maps, bytes.
    pub map_bytes: u64,
}

/// What only the live view and the metrics read.
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
    /// The exit code of `--exit-code`: 0 no finding, 1 confirmed, 2 suspect.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Leak => 1,
            Self::Suspect => 2,
            Self::NoLeak | Self::InsufficientEvidence => 0,
        }
    }
}
