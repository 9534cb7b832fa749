//! Tables that grow without bounds: one block, repeatedly replaced by larger ones.
//!
//! Between two enlargements the fill level is not visible. A table has stopped when its next enlargement is
//! overdue. Earlier blocks were filled at the rate `r`, so the current block is full after `(its bytes -
//! bytes of the previous one) / r`. After twice that time the table has stopped.

use std::collections::BTreeMap;

use crate::attribution::sites::LeadingFrameId;
use crate::events::Nanos;
use crate::growth::tables::Table;

/// Minimum enlargements for a suspicion.
const LEAST_STEPS: usize = 4;
/// Minimum growth factor for a suspicion.
const LEAST_FACTOR: f64 = 3.0;
/// Minimum seconds from the first enlargement for a suspicion.
const LEAST_SECONDS: f64 = 8.0;
/// An enlargement is overdue after this multiple of the expected time,
const OVERDUE: f64 = 2.0;
/// and this many seconds more, because enlargements are seen at snapshots only.
const SLACK_SECONDS: f64 = 10.0;

/// How a table grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growing {
    /// Bytes filled per second.
    pub rate: f64,
    /// Bytes filled at present.
    pub filled: f64,
    /// Time of its first block.
    pub since: Nanos,
}

/// State of a table between snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tracker {
    pub(super) suspected: Option<Nanos>,
    pub(super) confirmed: Option<Nanos>,
    pub(super) growing: Option<Growing>,
}

/// State of all tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableJudge {
    pub(super) trackers: BTreeMap<LeadingFrameId, Tracker>,
}

/// Whether a table grows without bounds at `now`.
pub fn growing(table: &Table, now: Nanos) -> Option<Growing> {
    let steps = &table.steps;
    let (first, last) = (steps.first()?, steps.last()?);
    let enough = steps.len() > LEAST_STEPS
        && last.bytes >= LEAST_FACTOR * first.bytes
        && last.at.since(first.at) >= LEAST_SECONDS;
    if !enough {
        return None;
    }
    // At an enlargement the previous block was full; the rate is from the later half of the time.
    let full = |k: usize| steps[k - 1].bytes;
    let k = steps.len() - 1;
    let half = last.at.since(first.at) / 2.0;
    let j = (1..k)
        .rev()
        .find(|j| last.at.since(steps[*j].at) >= half)
        .unwrap_or(1);
    let rate = (full(k) - full(j)) / last.at.since(steps[j].at).max(1e-9);
    let age = now.since(last.at);
    let due = (last.bytes - full(k)) / rate;
    (rate > 0.0 && age <= OVERDUE * due + SLACK_SECONDS).then(|| Growing {
        rate,
        filled: (full(k) + rate * age).min(last.bytes),
        since: first.at,
    })
}

/// The largest rate in bytes per second at which the current block can have been filled without another enlargement
/// until `now`. At its allocation it was filled as far as the block before it was large. 0 if no enlargement was seen.
pub(super) fn most_filled(table: &Table, now: Nanos) -> f64 {
    let [.., before, last] = table.steps.as_slice() else {
        return 0.0;
    };
    (last.bytes - before.bytes) / now.since(last.at).max(1.0)
}

impl TableJudge {
    /// Forgets all tables.
    pub fn forget(&mut self) {
        self.trackers.clear();
    }

    /// Bytes filled per second of all tables that grow.
    pub fn rate(&self) -> f64 {
        self.trackers
            .values()
            .filter_map(|one| one.growing)
            .map(|growing| growing.rate)
            .sum()
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.trackers.len() * (size_of::<Tracker>() + 32)
    }
}
