//! Tables: memory of a function that lies in one block which is replaced by larger ones (a `Vec`, a hash
//! table, a buffer that grows). Cohorts do not see such growth: each block is freed when the next is there.

use std::collections::BTreeMap;

use crate::attribution::Attribution;
use crate::attribution::keys::Class;
use crate::attribution::keys::RouteId;
use crate::attribution::sites::LeadingFrameId;
use crate::events::{Nanos, RequestId, SiteId};

use super::reading::Biggest;

/// Tables followed at most.
const MOST_TABLES: usize = 256;
/// Steps kept of each: the first and the latest.
const MOST_STEPS: usize = 32;
/// A block is a step when it is larger than the one before by this factor.
const STEP: f64 = 1.03;
/// Snapshots without the table after which it is gone: one may fall between free and allocation.
const PATIENCE: u32 = 2;

/// A block that took the place of a smaller one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Enlargement {
    /// The snapshot that showed it first.
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
    /// The block that was there first, and what took its place.
    pub steps: Vec<Enlargement>,
    /// Where the block was allocated that is there now.
    pub site: SiteId,
    missing: u32,
}

/// All tables of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    all: BTreeMap<LeadingFrameId, Table>,
}

impl Tables {
    /// Takes the leading_frames of a snapshot most of whose bytes lie in one block.
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

    /// When all places are taken, one that never grew makes room.
    fn make_room(&mut self) -> bool {
        if self.all.len() < MOST_TABLES {
            return true;
        }
        let still = self.all.iter().find(|(_, table)| table.steps.len() < 2);
        let still = still.map(|(leading, _)| *leading);
        still.is_some_and(|leading| self.all.remove(&leading).is_some())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&LeadingFrameId, &Table)> {
        self.all.iter()
    }

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        self.all.len() * (MOST_STEPS * size_of::<Enlargement>() + size_of::<Table>() + 64)
    }
}

impl Table {
    fn take(&mut self, block: &Biggest, now: Nanos) {
        let before = self.steps.last().map_or(0.0, |step| step.bytes);
        self.site = block.site;
        if block.bytes < before / STEP {
            // it fell: whatever it is, its growth has bounds so far
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

    /// The request of a step may still have been under way when its block was seen.
    fn find_owners(&mut self, attribution: &Attribution) {
        for step in &mut self.steps {
            let known = step.request.and_then(|id| attribution.requests.get(id));
            if let Some(entry) = known.filter(|_| step.owner.is_none()) {
                step.owner = Some((attribution.routes.resolve(entry.route), entry.class));
            }
        }
    }
}
