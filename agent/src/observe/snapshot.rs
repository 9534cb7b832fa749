//! Groups live blocks for a snapshot.

use std::collections::HashMap;

use heaptide_ebpf::Block;

use crate::decode;
use heaptide_judge::events::{Binding, LiveGroup, MemoryKind, Nanos, RequestId, SiteId};

const SECOND: u64 = 1_000_000_000;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    site: SiteId,
    request: u64,
    born_second: u64,
    binding: u8,
}

/// Groups under construction, with the kernel's sites, including provisional ones.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<Key, LiveGroup>,
    blocks: u64,
}

impl Groups {
    /// Adds a block with its sampling weight.
    ///
    /// A block of `s` bytes that was kept with probability `p = s / T` represents `w = T / s` blocks;
    /// `w (w - 1) s^2` is the unbiased estimate of the variance it adds to the bytes
    /// (Horvitz-Thompson).
    pub(super) fn add(&mut self, block: &Block) {
        self.blocks += 1;
        let site = SiteId(block.site);
        let bytes = block.size as f64;
        let interval = f64::from(block.interval);
        let weight = if interval > bytes && bytes > 0.0 {
            interval / bytes
        } else {
            1.0
        };
        let born_second = block.born_ns / SECOND;
        let key = Key {
            site,
            request: block.request,
            born_second,
            binding: block.binding,
        };
        let group = self.groups.entry(key).or_insert_with(|| LiveGroup {
            site,
            request: (block.request != 0).then_some(RequestId(block.request)),
            binding: decode::binding_of(block.binding).unwrap_or(Binding::None),
            born: Nanos(born_second * SECOND),
            blocks: 0.0,
            bytes: 0.0,
            seen: 0,
            variance: 0.0,
            kind: MemoryKind::Heap,
            size: 0,
        });
        group.blocks += weight;
        group.bytes += weight * bytes;
        group.seen += 1;
        group.variance += weight * (weight - 1.0) * bytes * bytes;
    }

    /// How many blocks were added.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The sites of all blocks.
    pub(super) fn sites(&self) -> impl Iterator<Item = u64> {
        self.groups.keys().map(|key| key.site.0)
    }

    /// The groups.
    pub(super) fn finish(self) -> Vec<LiveGroup> {
        let mut groups: Vec<LiveGroup> = self.groups.into_values().collect();
        for group in &mut groups {
            let mean = group.bytes / group.blocks.max(1.0);
            group.size = heaptide_ebpf::size_class(mean as u64);
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn sampled_blocks_weigh_what_they_stand_for() {
        let mut groups = Groups::default();
        let block = Block {
            size: 64,
            interval: 256,
            ..Block::zeroed()
        };
        groups.add(&block);
        groups.add(&Block {
            size: 1024,
            ..block
        });
        let all = groups.finish();
        assert_eq!(all.len(), 1);
        assert!((all[0].blocks - 5.0).abs() < 1e-9);
        assert!((all[0].bytes - (256.0 + 1024.0)).abs() < 1e-9);
        assert_eq!(all[0].seen, 2);
        assert!((all[0].variance - 4.0 * 3.0 * 64.0 * 64.0).abs() < 1e-6);
    }

    #[test]
    fn births_of_different_seconds_stay_apart() {
        let mut groups = Groups::default();
        for born_ns in [0, SECOND - 1, SECOND] {
            groups.add(&Block {
                size: 8,
                born_ns,
                ..Block::zeroed()
            });
        }
        let mut seen: Vec<u32> = groups.finish().iter().map(|group| group.seen).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    }
}
