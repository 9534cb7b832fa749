//! Tables that grow without bounds: one block, replaced by larger ones again and again.
//!
//! Between two steps nothing can be seen, so what says that a table has stopped is that its next step
//! does not come. Entries come at the rate `r` at which earlier blocks were filled; the block that is
//! there now is full after `(its bytes - the last one's) / r`. With twice that gone it has stopped.

use std::collections::BTreeMap;

use crate::attribution::sites::LeadingFrameId;
use crate::events::Nanos;
use crate::growth::tables::Table;

/// Steps that a suspicion needs.
const LEAST_STEPS: usize = 4;
/// Growth that it needs.
const LEAST_FACTOR: f64 = 3.0;
/// Seconds from the first step that it needs.
const LEAST_SECONDS: f64 = 8.0;
/// A step is overdue when it took so many times as long as it should have.
const OVERDUE: f64 = 2.0;
/// And so many seconds more, because steps are seen at snapshots only.
const SLACK_SECONDS: f64 = 10.0;

/// How a table grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growing {
    /// Bytes filled per second.
    pub rate: f64,
    /// Bytes filled now.
    pub filled: f64,
    /// When its first block was seen.
    pub since: Nanos,
}

/// What is remembered of a table between snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tracker {
    pub(super) suspected: Option<Nanos>,
    pub(super) confirmed: Option<Nanos>,
    pub(super) growing: Option<Growing>,
}

/// What was judged of all tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableJudge {
    pub(super) trackers: BTreeMap<LeadingFrameId, Tracker>,
}

/// Whether a table grows without bounds, as far as one can see at `now`.
pub fn growing(table: &Table, now: Nanos) -> Option<Growing> {
    let steps = &table.steps;
    let (first, last) = (steps.first()?, steps.last()?);
    let enough = steps.len() > LEAST_STEPS
        && last.bytes >= LEAST_FACTOR * first.bytes
        && last.at.since(first.at) >= LEAST_SECONDS;
    if !enough {
        return None;
    }
    // at a step the block before it was full; the rate is taken over the later half of the steps' time
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

impl TableJudge {
    /// Forgets all.
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

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        self.trackers.len() * (size_of::<Tracker>() + 32)
    }
}
