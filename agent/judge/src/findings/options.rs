//! What the user may tell the judge, and the constants of its method. docs/judging.md explains them.

/// Settings of the judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgeOptions {
    /// Bytes that the process may use; lowers the limit that was found, never raises it.
    pub memory_limit: Option<u64>,
    /// A cache of so many entries is known to be in the service: fewer holders are no suspicion.
    pub expect_cache_entries: Option<u64>,
    /// Least age after a request's end that makes its blocks mature, seconds.
    pub maturity_seconds: f64,
    /// Part of the headroom at onset by which the floor must grow before a leak is confirmed.
    pub budget: f64,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self {
            memory_limit: None,
            expect_cache_entries: None,
            maturity_seconds: 10.0,
            budget: 0.05,
        }
    }
}

/// Holders (requests with live blocks, background: blocks) that a suspicion needs.
pub const LEAST_HOLDERS: f64 = 20.0;
/// Seconds of matured growth that a suspicion needs.
pub const LEAST_SECONDS: f64 = 3.0;
/// Seconds of matured growth that a confirmation needs, in maturity ages.
pub const CONFIRM_AGES: f64 = 4.0;
/// The same as a part of the time to out-of-memory, up to [`CONFIRM_SECONDS`]: where there is time, what lets go
/// every minute is given the time to do so.
pub const CONFIRM_PART: f64 = 0.1;
/// See [`CONFIRM_PART`]; also where no limit is known.
pub const CONFIRM_SECONDS: f64 = 100.0;
/// A cache lets go; a leak keeps more than this part of what matured.
pub const KEPT: f64 = 0.3;
/// Growth per event late in a window against early in it: below, it slows down.
pub const LINEAR: f64 = 0.5;
/// Recent growth against mean growth: below, it has stopped.
pub const FRESH: f64 = 0.3;
/// The late floor must be above every earlier peak by this factor.
pub const RECORD: f64 = 1.02;
/// The late floor may be below the peak before it by this factor, because part of a leak may be let go.
pub const LEVEL: f64 = 0.95;
/// Seconds after which a series that grew in one snapshot only has stopped.
pub const QUIET_SECONDS: f64 = 20.0;
/// Holders that the most recent part of a window should have brought, to tell whether it did.
pub const FRESH_HOLDERS: f64 = 20.0;
/// Least length of that part, seconds, and against the window.
pub const FRESH_SECONDS: f64 = 8.0;
/// See [`FRESH_SECONDS`].
pub const FRESH_PART: f64 = 0.15;
/// Most recent part of a window whose least mature bytes count against the growth budget.
pub const FLOOR_PART: f64 = 0.1;
/// Gates must fail for this part of the time since the onset before a state is dropped.
pub const PATIENCE: f64 = 0.15;
/// Live bytes against their peak: below, so much was let go at once that no patience is needed.
pub const WIPED: f64 = 0.5;
/// Part of earlier matured bytes that was evicted: above, only the whole history may speak.
pub const EVICTING: f64 = 0.2;
/// False discoveries among all suspicions, on the average.
pub const FALSE_DISCOVERY: f64 = 0.05;
/// Requests of a class that must have matured before causes are compared.
pub const LEAST_CONTRAST: u64 = 20;
/// Standard errors between mean bytes and a bound. Sizes have heavy tails, so a few more than usual.
pub const SURER: f64 = 3.0;
/// Minus the logarithm of the probability below which something is no chance: 1 in 40, on one side.
pub const UNLIKELY: f64 = 3.69;
/// Repeated against new tokens: below, repeats keep nothing.
pub const TOKEN_KEYED_BELOW: f64 = 0.25;
/// Repeated against new tokens: above, every request keeps alike.
pub const PER_REQUEST_ABOVE: f64 = 0.75;
/// Part of the largest series of a finding that another one must hold to be confirmed with it.
pub const PART_OF_GROUP: f64 = 0.1;
/// Part of what a site keeps for no request below which what it seems to keep for a route's requests, by
/// inference alone, is no growth of the route's: work that ran while a request was open on its thread.
pub const STRAY: f64 = 0.2;
/// Lost part of the evidence that forbids a confirmation.
pub const LOSS_CONFIRM: f64 = 0.001;
/// Lost part of the evidence that forbids a verdict.
pub const LOSS_ANY: f64 = 0.05;
/// Requests below which "nothing grows" means nothing.
pub const LEAST_REQUESTS: u64 = 50;
/// Growth budget in bytes when no limit is known.
pub const BUDGET_WITHOUT_LIMIT: f64 = 64.0 * 1024.0 * 1024.0;
/// Seconds for which gates must fail before a suspicion is dropped.
pub const DROP_SUSPECT_SECONDS: f64 = 3.0;
/// Seconds for which gates must fail before a confirmation is dropped.
pub const DROP_CONFIRMED_SECONDS: f64 = 30.0;
