//! Whether a collector's heap shows the growth that its sampled objects show. Pure.
//!
//! Objects that replace older ones survive as those of a leak do, until the cache has turned over, which may take
//! hours. But the heap of a full cache does not grow: what collections find reachable stays the same.

use crate::events::Nanos;
use crate::growth::signals::{SignalKey, Signals};

use super::line::{Line, levels};

/// Minimum number of levels since the growth began.
const LEAST_LEVELS: usize = 3;
/// Seconds of growth after which it is believed without them: the collector hardly ever runs.
const PATIENCE: f64 = 60.0;
/// Minimum growth of the heap relative to that of the objects.
const SHOWN: f64 = 0.5;

/// Whether the heap grows as its objects do: by `bytes` since `from`. The doubt of a standard error is in favour of the
/// objects. True for a process without collections.
pub(super) fn shows(signals: &Signals, from: Nanos, now: Nanos, bytes: f64) -> bool {
    let levels = levels(signals, &SignalKey::Heap);
    if levels.is_empty() {
        return true;
    }
    // With the last level before.
    let first = levels.partition_point(|level| level.0 <= from);
    let since = &levels[first.saturating_sub(1)..];
    let Some(line) = Line::through(since).filter(|_| since.len() >= LEAST_LEVELS) else {
        return now.since(from) >= PATIENCE;
    };
    let grown = (line.slope + line.error) * now.since(from);
    grown >= SHOWN * bytes
}
