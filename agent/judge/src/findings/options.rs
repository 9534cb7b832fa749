//! Settings of the judge, and the constants of its method. docs/judging.md explains them.

/// Settings of the judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgeOptions {
    /// Bytes that the process may use. It lowers the detected limit, and never raises it.
    pub memory_limit: Option<u64>,
    /// Size of a cache that the service is known to have. Series with at most this many holders are not
    /// suspected.
    pub expect_cache_entries: Option<u64>,
    /// Minimum maturity age: seconds from the end of a request until its blocks are mature.
    pub maturity_seconds: f64,
    /// Growth budget: part of the headroom at the onset by which the floor must grow before a leak is
    /// confirmed.
    pub budget: f64,
    /// Seconds that the memory must last at the bound for the verdict `no_leak`.
    pub horizon_seconds: f64,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self {
            memory_limit: None,
            expect_cache_entries: None,
            maturity_seconds: 10.0,
            budget: 0.05,
            horizon_seconds: 7.0 * 86_400.0,
        }
    }
}

/// Minimum holders for a suspicion. A holder is a request with live blocks, or a block without a request.
pub const LEAST_HOLDERS: f64 = 20.0;
/// Minimum seconds of matured growth for a suspicion.
pub const LEAST_SECONDS: f64 = 3.0;
/// Minimum time from onset to confirmation, in maturity ages.
pub const CONFIRM_AGES: f64 = 4.0;
/// The same as a part of the time to out-of-memory, up to [`CONFIRM_SECONDS`]. A cache that is cleared
/// every minute must have time to be cleared.
pub const CONFIRM_PART: f64 = 0.1;
/// Maximum of [`CONFIRM_PART`] in seconds, and the value without a known limit.
pub const CONFIRM_SECONDS: f64 = 100.0;
/// Eviction gate: minimum retained part of matured bytes.
pub const KEPT: f64 = 0.3;
/// Linearity gate: minimum ratio of late to early growth per event.
pub const LINEAR: f64 = 0.5;
/// Freshness gate: minimum ratio of recent to mean growth per event.
pub const FRESH: f64 = 0.3;
/// Records gate: minimum ratio of the late floor to the peak before the window.
pub const RECORD: f64 = 1.02;
/// Records gate: minimum ratio of the late floor to the peak before it. Less than 1, because part of a leak
/// may be freed.
pub const LEVEL: f64 = 0.95;
/// Seconds after which a series that grew in only one snapshot has stopped.
pub const QUIET_SECONDS: f64 = 20.0;
/// Expected holders in the recent part of a window that freshness needs.
pub const FRESH_HOLDERS: f64 = 20.0;
/// Minimum length of that part, seconds.
pub const FRESH_SECONDS: f64 = 8.0;
/// Minimum length of that part, relative to the window.
pub const FRESH_PART: f64 = 0.15;
/// Recent part of a window whose floor counts against the growth budget.
pub const FLOOR_PART: f64 = 0.1;
/// A state is dropped when the gates have failed for this part of the time since the suspicion.
pub const PATIENCE: f64 = 0.15;
/// A state is dropped at once when the live bytes are below this part of their peak.
pub const WIPED: f64 = 0.5;
/// Evicted part of earlier matured bytes from which only the whole history is tested.
pub const EVICTING: f64 = 0.2;
/// False discovery rate.
pub const FALSE_DISCOVERY: f64 = 0.05;
/// Minimum matured requests of a class for a comparison.
pub const LEAST_CONTRAST: u64 = 20;
/// Standard errors for a comparison of mean bytes. More than usual, because sizes have heavy tails.
pub const SURER: f64 = 3.0;
/// Negative logarithm of the one-sided significance level, 1 in 40.
pub const UNLIKELY: f64 = 3.69;
/// Ratio of repeated to new tokens below which the cause is `token_keyed`.
pub const TOKEN_KEYED_BELOW: f64 = 0.25;
/// Ratio of repeated to new tokens above which the cause is `per_request`.
pub const PER_REQUEST_ABOVE: f64 = 0.75;
/// Minimum size of a series, relative to the largest of its group, to be confirmed with it.
pub const PART_OF_GROUP: f64 = 0.1;
/// A route's series with inferred binding is ignored if it is smaller than this part of the same site's
/// background series: the work only ran while a request was open on its thread.
pub const STRAY: f64 = 0.2;
/// Maximum lost part of the evidence for a confirmation.
pub const LOSS_CONFIRM: f64 = 0.001;
/// Maximum lost part of the evidence for a verdict.
pub const LOSS_ANY: f64 = 0.05;
/// Minimum levels of a signal for the verdict `no_leak`.
pub const LEAST_LEVELS: usize = 5;
/// Minimum requests for the verdict `no_leak`.
pub const LEAST_REQUESTS: u64 = 50;
/// Growth budget in bytes without a known limit.
pub const BUDGET_WITHOUT_LIMIT: f64 = 64.0 * 1024.0 * 1024.0;
/// Minimum seconds of failing gates before a suspicion is dropped.
pub const DROP_SUSPECT_SECONDS: f64 = 3.0;
/// Minimum seconds of failing gates before a confirmation is dropped.
pub const DROP_CONFIRMED_SECONDS: f64 = 30.0;
