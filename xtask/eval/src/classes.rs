//! The classes of the corpus, one line each. `plan.rs` has their contents.
// tidy: table

/// The expected result of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Must be confirmed.
    Leak,
    /// Must never be confirmed.
    Benign,
    /// A cache that cannot be told from a leak while it fills; scored separately.
    Hard,
    /// A leak with faulty observations: confirmed, but with lower requirements.
    FaultyLeak,
    /// A leak with so many losses that it must not be confirmed, only suspected.
    LossyLeak,
}

macro_rules! classes {
    ($($name:ident $kind:ident $what:literal,)*) => {
        /// A class of traces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Class { $(#[doc = $what] $name,)* }

        impl Class {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The expected result.
            pub(crate) fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            fn camel(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

classes! {
    TokenKeyed Leak "an entry per distinct token, forever",
    PerRequest Leak "an entry for a fraction (0.2-1) of the requests, forever",
    RareRoute Leak "either, on a route with 1-5 % of the traffic",
    PartlyEvicted Leak "an entry per distinct token, 40 % of them freed later",
    LateOnset Leak "either, from some time after the attach on",
    AllFresh Leak "either, if no token is used twice: the cause cannot be known",
    TableDoubling Leak "entries inside one table that doubles",
    ReallocGrowth Leak "entries inside one buffer that grows by an eighth",
    Several Leak "two or three of these at once",
    Background Leak "entries of a timer",
    LateAttach Leak "an entry per distinct token; thousands of tokens were known before the attach",
    Lru Benign "an LRU cache",
    Ttl Benign "entries that live for 10-120 s",
    BatchTtl Benign "a cache cleared as a whole every 60-300 s",
    WarmUp Benign "an entry for each of the first requests",
    SlowRequests Benign "requests of 1-20 s that hold much memory while they run",
    RssRatchet Benign "bursts, and an allocator that returns no memory",
    GcSawtooth Benign "garbage until a collector runs",
    Pools Benign "reused buffers, at most one per request in progress",
    Sessions Benign "entries with exponential lifetimes",
    Deploy Benign "caches, and a new address space half-way",
    Soak Benign "days of little traffic with all kinds of caches: false confirmations per month",
    BigCache Hard "a cache of 6-30 % of the headroom",
    LostFrees Benign "caches, with 0.1-5 % of the frees lost",
    LostFreesLeak LossyLeak "an entry per distinct token, with 0.2-5 % of the frees lost",
    Sampled FaultyLeak "token-keyed or per request, 10 % sampling",
    SampledCache Benign "caches, 10 % sampling",
    WrongOwner FaultyLeak "per request, with 30 % of the blocks given to another request",
    LowRate Leak "an entry per distinct token, at 5-20 requests/s",
    SmallEntries Leak "64 bytes per distinct token, in one block",
    OneInTwenty Leak "an entry for one request in 20 of the main route",
    TrafficStops Leak "an entry per distinct token; the traffic stops half-way, and everything stays held",
    FullCache Benign "an LRU or TTL cache of 1-30 % of the headroom that was full long before the attach",
    Quiet Benign "only the eight benign functions of every trace",
}

impl Class {
    /// `snake_case`.
    pub(crate) fn name(self) -> String {
        let mut out = String::new();
        for letter in self.camel().chars() {
            if letter.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
        }
        out
    }
}
