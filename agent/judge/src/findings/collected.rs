//! Whether a collector's heap shows the growth that its sampled objects show. Pure.
//!
//! Objects that replace older ones survive as those of a leak do, until the cache has turned over, which may take
//! hours. But the heap of a full cache does not grow: what collections find reachable stays the same.

use crate::events::Nanos;
use crate::growth::signals::{SignalKey, Signals};

use super::line::{Line, levels};

/// Minimum number of levels.
const LEAST_LEVELS: usize = 4;
/// Seconds of growth after which it is believed without them: Go's collector runs every two minutes at the latest.
const PATIENCE: f64 = 150.0;
/// Minimum growth of the heap relative to that of the objects: the lower end of its interval.
const SHOWN: f64 = 0.25;
/// One-sided 95 % quantiles of Student's distribution with 2, 3, ... degrees of freedom.
const STUDENT: [f64; 9] = [2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81];
/// The same with many.
const NORMAL: f64 = 1.75;

/// Whether the heap grows as its objects do: by `bytes` since `from`. True for a process without collections.
pub(super) fn shows(signals: &Signals, from: Nanos, now: Nanos, bytes: f64) -> bool {
    let levels = levels(signals, &SignalKey::Heap);
    if levels.is_empty() {
        return true;
    }
    // With the last level before, and with earlier ones if there are few: they can only delay a finding.
    let first = levels.partition_point(|level| level.0 <= from);
    let first = first.saturating_sub(1);
    if levels.len() - first < LEAST_LEVELS && now.since(from) >= PATIENCE {
        return true;
    }
    let since = &levels[first.min(levels.len().saturating_sub(LEAST_LEVELS))..];
    let Some(line) = Line::through(since).filter(|_| since.len() >= LEAST_LEVELS) else {
        return now.since(from) >= PATIENCE;
    };
    let quantile = STUDENT.get(since.len() - LEAST_LEVELS).unwrap_or(&NORMAL);
    let grown = (line.slope - quantile * line.error) * now.since(from);
    grown >= SHOWN * bytes
}
