//! The request table: request ids to routes and token classes, and when requests mature.
//!
//! An entry takes 16 bytes. It is needed as long as live blocks refer to it. After each snapshot the table
//! keeps the entries that the snapshot refers to and those younger than [`YOUNG_SECONDS`]. The table holds
//! at most [`MOST`] entries. Beyond that the oldest ids are dropped and counted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::events::{Nanos, RequestId};

use super::keys::Class;
use super::keys::Map;
use super::keys::RouteId;

/// Maximum number of entries: a hash table of 2^19 slots at 7/8 load, 9 MB.
const MOST: usize = 450_000;
/// Seconds for which an entry is kept although no snapshot refers to it: its request may still allocate.
const YOUNG_SECONDS: f64 = 120.0;
/// Resolution of packed times, nanoseconds.
const TICK: u64 = 1_000_000;

/// The stored data of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its route when it ended.
    pub route: RouteId,
    /// Its token class.
    pub class: Class,
    /// Whether it counts in per-request figures. It does when its class is certain.
    pub exposed: bool,
    /// When its blocks become mature.
    pub mature_at: Nanos,
}

/// [`Entry`] in 8 bytes: 44 bits of milliseconds, 3 of class and exposure, 16 of route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Packed(u64);

impl Packed {
    fn new(entry: Entry) -> Self {
        let class = entry.class.index() as u64;
        let ticks = entry.mature_at.0.div_ceil(TICK).min((1 << 44) - 1);
        let flags = u64::from(entry.exposed) << 2 | class;
        Self(ticks << 19 | flags << 16 | u64::from(entry.route.0))
    }

    fn entry(self) -> Entry {
        Entry {
            route: RouteId(self.0 as u16),
            class: Class::ALL[(self.0 >> 16 & 3) as usize],
            exposed: self.0 >> 18 & 1 == 1,
            mature_at: Nanos((self.0 >> 19) * TICK),
        }
    }
}

/// The table.
pub struct Requests {
    entries: Map<RequestId, Packed>,
    /// Requests not yet mature, earliest first: `(mature_at, id, entry)`.
    waiting: BinaryHeap<Reverse<(Nanos, RequestId, Packed)>>,
    /// The time up to which maturity was counted.
    counted: Nanos,
    dropped: u64,
}

impl Requests {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            entries: Map::default(),
            waiting: BinaryHeap::new(),
            counted: Nanos(0),
            dropped: 0,
        }
    }

    /// The entry of `id`.
    pub fn get(&self, id: RequestId) -> Option<Entry> {
        self.entries.get(&id).map(|packed| packed.entry())
    }

    /// Enters a request that ended.
    pub fn insert(&mut self, id: RequestId, mut entry: Entry) {
        // A late record must not mature in a time that was counted already.
        entry.mature_at = entry
            .mature_at
            .max(Nanos(self.counted.0.saturating_add(TICK)));
        let packed = Packed::new(entry);
        if self.entries.insert(id, packed).is_some() {
            return;
        }
        self.waiting
            .push(Reverse((packed.entry().mature_at, id, packed)));
        if self.entries.len() >= MOST {
            self.shrink();
        }
    }

    /// A stream continued: its blocks mature later, unless they are mature already.
    pub fn prolong(&mut self, id: RequestId, mature_at: Nanos) {
        let Some(packed) = self.entries.get_mut(&id) else {
            return;
        };
        let mut entry = packed.entry();
        if entry.mature_at <= self.counted || mature_at <= entry.mature_at {
            return;
        }
        entry.mature_at = mature_at;
        *packed = Packed::new(entry);
    }

    /// Discards the requests that wait to become mature, so that they are not counted.
    pub fn begin(&mut self) {
        self.waiting.clear();
    }

    /// Requests that became mature since the last call, up to `now`.
    pub fn matured(&mut self, now: Nanos) -> Vec<Entry> {
        let mut out = Vec::new();
        while let Some(Reverse((at, id, packed))) = self.waiting.peek().copied() {
            if at > now {
                break;
            }
            self.waiting.pop();
            match self.entries.get(&id) {
                // It was prolonged: wait for the later time.
                Some(&later) if later.entry().mature_at > at => {
                    self.waiting
                        .push(Reverse((later.entry().mature_at, id, later)));
                }
                _ => out.push(packed.entry()),
            }
        }
        self.counted = self.counted.max(now);
        out
    }

    /// Keeps the requests in `named` and the young ones. `named` is sorted.
    pub fn prune(&mut self, named: &[RequestId], now: Nanos) {
        let young = Nanos(now.0.saturating_sub((YOUNG_SECONDS * 1e9) as u64));
        self.entries.retain(|id, packed| {
            packed.entry().mature_at >= young || named.binary_search(id).is_ok()
        });
        if self.entries.capacity() > 4 * self.entries.len() + 1024 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Entries dropped because the table was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.entries.capacity() * 17 + self.waiting.capacity() * 24
    }

    /// Drops the oldest eighth of the entries.
    fn shrink(&mut self) {
        let keep = MOST / 8 * 7;
        let ids: BTreeSet<RequestId> = self.entries.keys().copied().collect();
        let excess = ids.len().saturating_sub(keep);
        for id in ids.into_iter().take(excess) {
            self.entries.remove(&id);
            self.dropped += 1;
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}
