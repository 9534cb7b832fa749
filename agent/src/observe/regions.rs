//! Anonymous mappings made by a target while it was observed. Partial unmaps are exact.

use std::collections::BTreeMap;

use crate::decode::{Change, Mapping};
use heaptide_judge::events::{Nanos, RequestId};

/// A mapping, or a remaining part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    end: u64,
    /// Site id.
    pub site: u64,
    /// Request that was current.
    pub request: Option<RequestId>,
    /// Time of the mapping.
    pub born: Nanos,
}

/// All regions of one address space, by start.
#[derive(Debug, Default)]
pub(super) struct Regions {
    regions: BTreeMap<u64, Region>,
    /// The program break, if known.
    brk: Option<u64>,
}

/// Maximum number of regions; further ones are not recorded but counted.
const MAX_REGIONS: usize = 65_536;

impl Regions {
    /// Starts with the present break.
    pub(super) fn new(brk: Option<u64>) -> Self {
        Self {
            regions: BTreeMap::new(),
            brk,
        }
    }

    /// Applies a change; false if there was no room.
    pub(super) fn apply(&mut self, mapping: &Mapping) -> bool {
        match mapping.change {
            Change::Map(start, end) => {
                self.remove(start, end);
                self.add(start, end, mapping)
            }
            Change::Unmap(start, end) => {
                self.remove(start, end);
                true
            }
            Change::Move(old_start, old_end, start, end) => {
                // Only mappings that were observed are recorded. If an older one moves, only its
                // growth is new.
                let known = self.remove(old_start, old_end);
                self.remove(start, end);
                if known {
                    self.add(start, end, mapping)
                } else if end - start > old_end - old_start {
                    self.add(start + (old_end - old_start), end, mapping)
                } else {
                    true
                }
            }
            Change::Break(now) => {
                let before = self.brk.replace(now).unwrap_or(now);
                if now > before {
                    self.add(before, now, mapping)
                } else {
                    self.remove(now, before);
                    true
                }
            }
        }
    }

    fn add(&mut self, start: u64, end: u64, mapping: &Mapping) -> bool {
        if end <= start {
            return true;
        }
        if self.regions.len() >= MAX_REGIONS {
            return false;
        }
        let region = Region {
            end,
            site: mapping.site,
            request: mapping.request,
            born: mapping.at,
        };
        self.regions.insert(start, region);
        true
    }

    /// Removes `[start, end)`, cutting regions that reach beyond it; true if there were any.
    fn remove(&mut self, start: u64, end: u64) -> bool {
        if end <= start {
            return false;
        }
        let touched: Vec<u64> = self
            .regions
            .range(..end)
            .rev()
            .take_while(|(_, region)| region.end > start)
            .map(|(key, _)| *key)
            .collect();
        for key in &touched {
            let Some(region) = self.regions.remove(key) else {
                continue;
            };
            if *key < start {
                self.regions.insert(
                    *key,
                    Region {
                        end: start,
                        ..region
                    },
                );
            }
            if region.end > end {
                self.regions.insert(end, region);
            }
        }
        !touched.is_empty()
    }

    /// Every region with its length.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Region)> {
        self.regions
            .iter()
            .map(|(start, region)| (region.end - start, region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(change: Change) -> Mapping {
        Mapping {
            change,
            site: 1,
            request: None,
            at: Nanos(5),
            space: 0,
        }
    }

    fn after(changes: &[Change]) -> Vec<(u64, u64)> {
        let mut regions = Regions::new(Some(0x5000));
        for one in changes {
            assert!(regions.apply(&change(*one)));
        }
        regions
            .regions
            .iter()
            .map(|(start, region)| (*start, region.end))
            .collect()
    }

    #[test]
    fn partial_unmaps_leave_the_rest() {
        let map = Change::Map(0x10_000, 0x20_000);
        assert_eq!(
            after(&[map, Change::Unmap(0x10_000, 0x12_000)]),
            [(0x12_000, 0x20_000)]
        );
        assert_eq!(
            after(&[map, Change::Unmap(0x1e_000, 0x30_000)]),
            [(0x10_000, 0x1e_000)]
        );
        assert_eq!(
            after(&[map, Change::Unmap(0x14_000, 0x15_000)]),
            [(0x10_000, 0x14_000), (0x15_000, 0x20_000)]
        );
        assert_eq!(after(&[map, Change::Unmap(0x0, 0x30_000)]), []);
        assert_eq!(
            after(&[map, Change::Unmap(0x30_000, 0x40_000)]),
            [(0x10_000, 0x20_000)]
        );
    }

    #[test]
    fn a_moved_mapping_is_the_same_memory() {
        let map = Change::Map(0x10_000, 0x20_000);
        let moved = Change::Move(0x10_000, 0x20_000, 0x40_000, 0x60_000);
        assert_eq!(after(&[map, moved]), [(0x40_000, 0x60_000)]);
        assert_eq!(
            after(&[moved]),
            [(0x50_000, 0x60_000)],
            "older than the attach: its growth"
        );
        let shrunk = Change::Move(0x10_000, 0x20_000, 0x10_000, 0x11_000);
        assert_eq!(after(&[shrunk]), []);
        assert_eq!(after(&[map, shrunk]), [(0x10_000, 0x11_000)]);
    }

    #[test]
    fn the_break_grows_and_shrinks() {
        assert_eq!(after(&[Change::Break(0x8000)]), [(0x5000, 0x8000)]);
        assert_eq!(
            after(&[Change::Break(0x8000), Change::Break(0x6000)]),
            [(0x5000, 0x6000)]
        );
        assert_eq!(after(&[Change::Break(0x5000)]), []);
    }
}
