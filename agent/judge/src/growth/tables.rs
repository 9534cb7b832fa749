//! Tables: memory of a function in one block that is replaced by larger blocks (a `Vec`, a hash table, a
//! growing buffer). Cohorts do not show such growth, because each block is freed when the next one is
//! allocated.

use std::collections::BTreeMap;

use crate::attribution::Attribution;
use crate::attribution::keys::Class;
use crate::attribution::keys::RouteId;
use crate::attribution::sites::LeadingFrameId;
use crate::events::{Nanos, RequestId, SiteId};

use super::reading::Biggest;

/// Maximum number of tables.
const MOST_TABLES: usize = 256;
/// Maximum number of enlargements kept per table: the first and the latest ones.
const MOST_STEPS: usize = 32;
/// A block counts as an enlargement if it is larger than the previous one by this factor.
const STEP: f64 = 1.03;
/// Snapshots without the table after which it is dropped. One snapshot may fall between free and
/// allocation.
const PATIENCE: u32 = 2;

/// A block that replaced a smaller one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Enlargement {
    /// Time of the first snapshot that contained it.
    pub at: Nanos,
    /// Its bytes.
    pub bytes: f64,
    /// Route and token class of the request that made it, once they are known.
    pub owner: Option<(RouteId, Class)>,
    request: Option<RequestId>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The first block and its replacements.
    pub steps: Vec<Enlargement>,
    /// Allocation site of the current block.
    pub site: SiteId,
    missing: u32,
}

/// All tables of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    all: BTreeMap<LeadingFrameId, Table>,
}

impl Tables {
    /// Takes the leading frames most of whose bytes are in one block.
    pub fn take(
        &mut self,
        biggest: &[(LeadingFrameId, Biggest)],
        now: Nanos,
        attribution: &Attribution,
    ) {
        for (leading, block) in biggest {
            if !self.all.contains_key(leading) && !self.make_room() {
                continue;
            }
            let table = self.all.entry(*leading).or_insert_with(|| Table {
                steps: Vec::new(),
                site: block.site,
                missing: 0,
            });
            table.take(block, now);
        }
        self.all.retain(|leading, table| {
            let seen = biggest
                .binary_search_by(|(other, _)| other.cmp(leading))
                .is_ok();
            table.missing = if seen { 0 } else { table.missing + 1 };
            table.find_owners(attribution);
            table.missing < PATIENCE
        });
    }

    /// If the table is full, drops an entry that never grew.
    fn make_room(&mut self) -> bool {
        if self.all.len() < MOST_TABLES {
            return true;
        }
        let still = self.all.iter().find(|(_, table)| table.steps.len() < 2);
        let still = still.map(|(leading, _)| *leading);
        still.is_some_and(|leading| self.all.remove(&leading).is_some())
    }

    /// All tables.
    pub fn iter(&self) -> impl Iterator<Item = (&LeadingFrameId, &Table)> {
        self.all.iter()
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.all.len() * (MOST_STEPS * size_of::<Enlargement>() + size_of::<Table>() + 64)
    }
}

impl Table {
    fn take(&mut self, block: &Biggest, now: Nanos) {
        let before = self.steps.last().map_or(0.0, |step| step.bytes);
        self.site = block.site;
        if block.bytes < before / STEP {
            // It shrank, so its growth is bounded so far.
            self.steps.clear();
        } else if block.bytes < before * STEP {
            return;
        }
        if self.steps.len() >= MOST_STEPS {
            self.steps.remove(1);
        }
        self.steps.push(Enlargement {
            at: now,
            bytes: block.bytes,
            owner: None,
            request: block.request,
        });
    }

    /// The request of an enlargement may still have been in flight when its block was first seen.
    fn find_owners(&mut self, attribution: &Attribution) {
        for step in &mut self.steps {
            let known = step.request.and_then(|id| attribution.requests.get(id));
            if let Some(entry) = known.filter(|_| step.owner.is_none()) {
                step.owner = Some((attribution.routes.resolve(entry.route), entry.class));
            }
        }
    }
}
