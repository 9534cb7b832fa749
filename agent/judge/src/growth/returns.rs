//! Returned memory: blocks that are older than the observation and are freed in it. A cache that was full before the
//! attach frees as many of them as it adds, and a leak frees none.
//!
//! The code that allocated such a block is unknown, but its size is evidence: blocks that a full cache keeps replace
//! blocks of the same sizes. So the blocks of a size class that were freed are divided among the series in proportion
//! to what each keeps of this class. A cache that shrinks does not hide a leak of other sizes.
//!
//! Entries may differ in size from those that they replace. So blocks that were freed beyond this are balanced by number
//! with blocks that are kept beyond it. This is weaker evidence: it can keep a series from being suspected, but it does
//! not make the bound of `no_leak` smaller.

use std::collections::BTreeMap;

use crate::events::{Nanos, Snapshot};

use super::keys::SeriesKey;
use super::series::Series;

/// The class of blocks whose size the allocator does not report.
const UNSIZED: u32 = 0;
/// Such blocks are divided only if they are at least this part of all that is kept: fewer may belong to one series
/// alone, and it is not known to which.
const BALANCED: f64 = 0.9;

/// Blocks freed by size class.
type Freed = BTreeMap<u32, f64>;

/// Returned memory of one target.
#[derive(Clone, Debug, Default)]
pub struct Returns {
    /// Totals by the last snapshot.
    last: Freed,
    /// By epoch.
    epochs: Vec<Freed>,
}

impl Returns {
    /// Takes a snapshot, which ends an epoch. Frees before `mature` do not count, because they belong to requests
    /// that were in flight when the observation began.
    pub fn take(&mut self, snapshot: &Snapshot, mature: Nanos) {
        let mut freed = Freed::new();
        for one in snapshot.returned.iter().flatten() {
            let now = one.blocks as f64;
            let before = self.last.insert(one.size, now).unwrap_or(0.0);
            if snapshot.at > mature && now > before {
                *freed.entry(one.size).or_default() += now - before;
            }
        }
        if snapshot.returned.is_none() {
            // The totals are not known any more, so earlier ones do not count either.
            self.epochs.iter_mut().for_each(Freed::clear);
        }
        self.epochs.push(freed);
    }

    /// Merges the successor of epoch `at` into it.
    pub fn merge_epochs(&mut self, at: usize) {
        if at + 1 >= self.epochs.len() {
            return;
        }
        for (size, blocks) in self.epochs.remove(at + 1) {
            *self.epochs[at].entry(size).or_default() += blocks;
        }
    }

    /// Divides the freed blocks among the series.
    pub fn divide(&self, series: &mut BTreeMap<SeriesKey, Series>) {
        let mut kept = Freed::new();
        let mut all = 0.0;
        for one in series.values() {
            for (size, now) in &one.sizes {
                *kept.entry(*size).or_default() += now.blocks;
                all += now.blocks;
            }
        }
        let unsized_blocks: f64 = self
            .epochs
            .iter()
            .filter_map(|freed| freed.get(&UNSIZED))
            .sum();
        let is_balanced = unsized_blocks >= BALANCED * all;
        let rest = self.rest(&kept);
        for one in series.values_mut() {
            let mean = bytes_per_block(one);
            let blocks: f64 = one.sizes.values().map(|now| now.blocks).sum();
            let unmatched: f64 = one
                .sizes
                .iter()
                .map(|(size, now)| now.bytes * rest.kept.get(size).copied().unwrap_or(0.0))
                .sum();
            let epochs = one.epochs.iter_mut().zip(&self.epochs);
            for ((epoch, freed), part) in epochs.zip(&rest.epochs) {
                epoch.returned = 0.0;
                epoch.balanced = unmatched * rest.ratio * part;
                for (size, freed) in freed {
                    if *size == UNSIZED {
                        if is_balanced && all > 0.0 {
                            epoch.returned += freed * blocks / all * mean;
                        }
                    } else if let (Some(now), Some(kept)) = (one.sizes.get(size), kept.get(size)) {
                        epoch.returned += freed * now.bytes / kept;
                    }
                }
            }
        }
    }

    /// What is left after blocks of the same sizes were balanced. `kept`: blocks kept of each size.
    fn rest(&self, kept: &Freed) -> Rest {
        let mut freed = Freed::new();
        for (size, blocks) in self.epochs.iter().flatten() {
            if *size != UNSIZED {
                *freed.entry(*size).or_default() += blocks;
            }
        }
        let of = |all: &Freed, size: &u32| all.get(size).copied().unwrap_or(0.0);
        let left = |size: &u32| (of(&freed, size) - of(kept, size)).max(0.0);
        let more: f64 = freed.keys().map(left).sum();
        let unmatched = |size: &u32, kept: f64| (kept - of(&freed, size)).max(0.0);
        let fewer: f64 = kept.iter().map(|(size, now)| unmatched(size, *now)).sum();
        let parts = self.epochs.iter().map(|epoch| {
            let of_epoch = epoch.iter().filter(|(size, _)| **size != UNSIZED);
            let left = of_epoch.map(|(size, blocks)| left(size) * blocks / of(&freed, size));
            left.sum::<f64>() / more.max(1.0)
        });
        Rest {
            ratio: if fewer > 0.0 {
                (more / fewer).min(1.0)
            } else {
                0.0
            },
            epochs: parts.collect(),
            kept: kept
                .iter()
                .map(|(size, now)| (*size, unmatched(size, *now) / now.max(1.0)))
                .collect(),
        }
    }
}

/// Blocks that were freed and kept without others of their size.
struct Rest {
    /// Blocks freed for each block kept, at most 1.
    ratio: f64,
    /// Part of these freed blocks by epoch.
    epochs: Vec<f64>,
    /// Part of the kept blocks of each size.
    kept: BTreeMap<u32, f64>,
}

fn bytes_per_block(series: &Series) -> f64 {
    let (bytes, blocks) = series.sizes.values().fold((0.0, 0.0), |sum, now| {
        (sum.0 + now.bytes, sum.1 + now.blocks)
    });
    if blocks > 0.0 { bytes / blocks } else { 0.0 }
}
