//! Traces without allocator probes: what the service keeps, and how it is observed.

/// What the service keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holds {
    /// Nothing.
    Nothing,
    /// An entry per token that is new on `GET /api/data`.
    PerToken,
    /// One per so many tokens: those of one subject.
    PerSubject(u64),
    /// One per request of `GET /api/data` with a token.
    PerRequest,
    /// One per so many requests of `GET /api/data` with a token.
    OneIn(u64),
    /// One per upload, with its body.
    Bodies,
    /// One per token and one per request.
    Both,
    /// So many per second of a timer.
    Timer(f64),
    /// Garbage in cycles, per request, never collected.
    Cycles,
    /// Per token, in an LRU cache of this size.
    Lru(usize),
    /// Per token, for so many seconds.
    Ttl(f64),
    /// Per token, all removed every so many seconds.
    Batch(f64),
    /// Buffers that are used again: as many as were ever needed at once.
    Pool,
    /// One for each of the first so many requests of the route.
    WarmUp(u64),
    /// One per request in flight: rises and falls.
    WorkingSet,
    /// Garbage in cycles, collected every so many seconds.
    Sawtooth(f64),
    /// Memory of a burst at so many seconds, which the allocator keeps.
    Burst(f64),
}

/// How it is observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    /// By censuses.
    Containers,
    /// By its collector's heap.
    Heap,
    /// By page faults.
    Faults,
}

/// A trace to generate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignalTrace {
    pub holds: Holds,
    pub seen: Seen,
    pub seed: u64,
    /// Seconds that are observed.
    pub seconds: f64,
    /// Second at which the traffic stops.
    pub stop: f64,
    /// Seconds of traffic before the attach.
    pub before: f64,
    /// Requests per second.
    pub rate: f64,
    /// Seconds for which requests are traced, and seconds of the pause that follows, again and again.
    pub windows: Option<(f64, f64)>,
    /// Bytes of an entry.
    pub entry: f64,
    /// Part of the censuses that are cut short and miss the container.
    pub cut: f64,
    /// Whether the container's bytes are known.
    pub sized: bool,
    /// Part of an entry's bytes that a census sees; the rest is what the entry refers to.
    pub owned: f64,
    /// Whether its length is sampled between censuses.
    pub looks: bool,
    pub limit: u64,
}

impl Default for SignalTrace {
    fn default() -> Self {
        Self {
            holds: Holds::Nothing,
            seen: Seen::Containers,
            seed: 1,
            seconds: 60.0,
            stop: f64::INFINITY,
            before: 5.0,
            rate: 100.0,
            windows: None,
            entry: 1_900.0,
            cut: 0.0,
            sized: true,
            owned: 1.0,
            looks: false,
            limit: 88 << 20,
        }
    }
}
