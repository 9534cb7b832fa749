//! Instances that a cache with a bound of its own holds, such as `functools.lru_cache(maxsize=128)`. Their number grows
//! while the cache fills, and that has an end. Pure.

use crate::events::INSTANCES;
use crate::growth::signals::SignalKey;

use super::curve::Curve;

/// Part of a container's kind if it has a bound of its own.
const BOUNDED: &str = " of at most ";
/// Minimum growth of bounded caches, relative to that of the instances.
const HELD: f64 = 0.9;

/// Whether a container has a bound of its own.
pub(super) fn is_bounded(key: &SignalKey) -> bool {
    matches!(key, SignalKey::Container(_, kind) if kind.contains(BOUNDED))
}

/// Whether one of the `bounded` caches grows by at least as many entries as the instances of `key` since point `from`,
/// and in the later half of that time. So instances that go on to grow when the cache is full are not excused.
pub(super) fn holds(bounded: &[&Curve], key: &SignalKey, curve: &Curve, from: usize) -> bool {
    let SignalKey::Container(_, kind) = key else {
        return false;
    };
    let last = curve.len() - 1;
    let covers = |cache: &&Curve, from: usize| {
        let at = curve.points[from].at;
        let Some(cache_last) = cache.len().checked_sub(1) else {
            return false;
        };
        let since = cache.points.partition_point(|point| point.at < at);
        let grown = cache.value(cache_last) - cache.value(since.min(cache_last));
        grown >= HELD * (curve.value(last) - curve.value(from))
    };
    kind == INSTANCES
        && bounded
            .iter()
            .any(|cache| covers(cache, from) && covers(cache, from + (last - from) / 2))
}
