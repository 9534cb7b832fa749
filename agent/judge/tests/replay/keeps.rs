//! What the simulated service keeps.

/// What the service keeps, and when it is freed. The leaky route is `GET /api/data`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keeps {
    /// Nothing.
    Nothing,
    /// An entry per distinct token, for ever.
    PerToken,
    /// An entry per distinct subject, with so many tokens each.
    PerSubject(u64),
    /// An entry per request, for ever.
    PerRequest,
    /// An entry per request and another per distinct token.
    Both,
    /// A growing table besides the entries of [`Keeps::PerToken`]: doubles like hashbrown's.
    PerTokenWithTable,
    /// Entries per distinct token inside one table that doubles, at most so many.
    TableOnly(u64),
    /// An entry per distinct token in an LRU cache of this size.
    Lru(usize),
    /// The same, and besides a block of another size per distinct token for ever.
    CacheAndLeak(usize),
    /// An entry per distinct token, removed after this many seconds.
    Ttl(f64),
    /// An entry per distinct token, all removed every so many seconds.
    Batch(u64),
    /// An entry for each of the first so many requests, then nothing.
    WarmUp(u64),
    /// Entries of a timer, so many per second.
    Timer(u64),
    /// The same, but every tenth entry seems to belong to the latest request, by inference.
    StrayTimer(u64),
    /// An entry per distinct token from so many seconds on.
    Late(u64),
    /// An entry per distinct token; 40 % of them are freed 5 s after they matured.
    PartlyEvicted,
}
