//! What an agent observes of the simulated service.

use std::collections::BTreeMap;

use heaptide_judge::events::{
    Binding, LiveGroup, MemoryKind, MemorySample, Nanos, Observation, RequestId, Returned, SiteId,
    Snapshot,
};

use super::{BASE_RSS, Keeps, World};

impl World {
    /// Losses, memory and live blocks.
    pub(super) fn snapshot(&mut self) {
        let weight = 1.0 / self.trace.sampling;
        let mut groups: BTreeMap<(u64, Option<RequestId>, u64), LiveGroup> = BTreeMap::new();
        let mut live = 0;
        for block in self.blocks.values() {
            live += block.bytes;
            if block.older {
                continue;
            }
            let born = block.born.0 / 1_000_000_000 * 1_000_000_000;
            let inferred = matches!(self.trace.keeps, Keeps::StrayTimer(_));
            let binding = match block.request {
                None => Binding::None,
                Some(_) if inferred => Binding::Inferred,
                Some(_) => Binding::Exact,
            };
            let group = groups
                .entry((block.site, block.request, born))
                .or_insert(LiveGroup {
                    site: SiteId(block.site),
                    request: block.request,
                    binding,
                    born: Nanos(born),
                    blocks: 0.0,
                    bytes: 0.0,
                    seen: 0,
                    variance: 0.0,
                    kind: MemoryKind::Heap,
                    size: 0,
                });
            group.blocks += weight;
            group.bytes += weight * block.bytes as f64;
            group.seen += 1;
            group.variance += weight * (weight - 1.0) * (block.bytes as f64).powi(2);
        }
        self.peak = self.peak.max(live);
        let held = if self.trace.ratchet { self.peak } else { live };
        let rss = BASE_RSS + held;
        self.losses.at = self.now;
        let mut groups: Vec<LiveGroup> = groups.into_values().collect();
        for group in &mut groups {
            group.size = (group.bytes / group.blocks) as u32;
        }
        let returned = self.returned.iter().map(|(size, blocks)| Returned {
            size: *size,
            blocks: *blocks,
        });
        let returned = (self.trace.sampling >= 1.0).then(|| returned.collect());
        self.out.push(Observation::Losses(self.losses));
        self.out.push(Observation::Memory(MemorySample {
            at: self.now,
            rss,
            rss_anon: rss,
            limit: Some(self.trace.limit),
            used: rss,
            ..MemorySample::default()
        }));
        self.out.push(Observation::Snapshot(Snapshot {
            at: self.now,
            groups,
            returned,
        }));
    }
}
