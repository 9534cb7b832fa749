//! Returned memory: blocks that are older than the observation and are freed in it. A cache that was full before the
//! attach frees as many of them as it adds, and a leak frees none.
//!
//! The code that allocated such a block is unknown, but its size is evidence: blocks that a full cache keeps replace
//! blocks of the same sizes. So the blocks of a size class that were freed are divided among the series in proportion
//! to what each keeps of this class. A cache that shrinks does not hide a leak of other sizes.

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
        for one in series.values_mut() {
            let mean = bytes_per_block(one);
            let blocks: f64 = one.sizes.values().map(|now| now.blocks).sum();
            for (epoch, freed) in one.epochs.iter_mut().zip(&self.epochs) {
                epoch.returned = 0.0;
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
}

fn bytes_per_block(series: &Series) -> f64 {
    let (bytes, blocks) = series.sizes.values().fold((0.0, 0.0), |sum, now| {
        (sum.0 + now.bytes, sum.1 + now.blocks)
    });
    if blocks > 0.0 { bytes / blocks } else { 0.0 }
}
