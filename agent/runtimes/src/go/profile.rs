//! Go's heap profile: `runtime.mbuckets`, a list of call stacks with their samples.

use std::collections::{HashMap, HashSet};

use std::sync::Arc;
use std::time::Duration;

use heaptide_ebpf::site_hash;
use heaptide_process::memory::{Budget, ProcessMemory};
use heaptide_process::symbols::Symbolizer;

use super::layout::{self, Words};
use super::variables::Variables;
use heaptide_judge::events::{Nanos, Observation, Profile, ProfiledSite, SiteId};

/// Maximum buckets read.
const MOST: usize = 50_000;
/// Budget of a reading.
const BYTES: u64 = 128 << 20;
const TIME: Duration = Duration::from_secs(1);
/// Bytes of a bucket read before the length of its stack is known.
pub(super) const HEAD_BYTES: usize = 64;
/// Upper bound of a stack's frames (the runtime keeps at most 128).
const MOST_FRAMES: u64 = 256;

/// Sampling rate in bytes if heaptide enables the profile.
pub(super) const RATE: u64 = 32 << 10;

/// An enabled profile, which is disabled when this is dropped.
pub(super) struct Enabled {
    memory: Arc<ProcessMemory>,
    address: u64,
}

impl Enabled {
    /// Enables it; `None` if that is denied.
    pub(super) fn new(memory: Arc<ProcessMemory>, address: u64) -> Option<Self> {
        memory
            .write_word(address, RATE)
            .then_some(Self { memory, address })
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        // If the program has changed the rate since, its value is kept. An ended process needs
        // nothing.
        if self.memory.word(self.address, &mut Budget::small()) == Some(RATE) {
            self.memory.write_word(self.address, 0);
        }
    }
}

/// Reads the profile of one process.
pub(super) struct ProfileReader {
    memory: Arc<ProcessMemory>,
    /// Distinguishes site ids of processes.
    layout_id: u32,
    layout: layout::Bucket,
    announced: HashSet<SiteId>,
}

/// One call stack and object size.
struct Bucket {
    next: u64,
    size: u64,
    frames: Vec<u64>,
    live: u64,
}

impl ProfileReader {
    pub(super) fn new(memory: Arc<ProcessMemory>, layout_id: u32, layout: layout::Bucket) -> Self {
        Self {
            memory,
            layout_id,
            layout,
            announced: HashSet::new(),
        }
    }

    /// Live memory by the runtime's samples; `None` if it takes none.
    pub(super) fn read(
        &mut self,
        at: Nanos,
        variables: &Variables,
        symbolizer: &mut Symbolizer,
        sink: &mut dyn FnMut(Observation),
    ) -> Option<Profile> {
        let budget = &mut Budget::new(BYTES, MOST as u64, TIME);
        let rate = self.memory.word(variables.profile_rate?, budget)?;
        if rate == 0 || rate > 1 << 40 {
            return None;
        }
        let mut next = self.memory.word(variables.buckets?, budget)?;
        let mut sites: HashMap<SiteId, (f64, f64)> = HashMap::new();
        for _ in 0..MOST {
            if next == 0 || !budget.object() {
                break;
            }
            let Some(bucket) = self.bucket(next, budget) else {
                break;
            };
            next = bucket.next;
            if bucket.live == 0 || bucket.size == 0 {
                continue;
            }
            let id = SiteId(site_hash(self.layout_id, &bucket.frames));
            if self.announced.insert(id) {
                sink(Observation::Site(
                    symbolizer.resolve_each(id, &bucket.frames),
                ));
            }
            let objects = bucket.live as f64 * weight(bucket.size, rate);
            let sums = sites.entry(id).or_default();
            sums.0 += objects * bucket.size as f64;
            sums.1 += objects;
        }
        let sites = sites
            .into_iter()
            .map(|(site, (bytes, objects))| ProfiledSite {
                site,
                bytes: bytes as u64,
                objects: objects.round() as u64,
            })
            .collect();
        Some(Profile { at, sites })
    }

    fn bucket(&self, address: u64, budget: &mut Budget) -> Option<Bucket> {
        let layout = self.layout;
        let head = self.memory.words::<{ HEAD_BYTES / 8 }>(address, budget)?;
        let head = Words(&head);
        let frames = head.word(layout.frames);
        if frames > MOST_FRAMES {
            return None;
        }
        // the stack, then the sums of the completed cycle
        let frames = frames as usize;
        let sums = usize::from(layout.allocations.max(layout.frees) / 8) + 1;
        let mut words = vec![0_u64; frames + sums];
        let from = address.wrapping_add(u64::from(layout.bytes));
        let into = bytemuck::cast_slice_mut(&mut words);
        if !self.memory.fill(from, into, budget) {
            return None;
        }
        let sums = words.split_off(frames);
        let sums = Words(&sums);
        let (allocations, frees) = (sums.word(layout.allocations), sums.word(layout.frees));
        Some(Bucket {
            next: head.word(layout.next),
            size: head.word(layout.size),
            frames: words,
            live: allocations.saturating_sub(frees),
        })
    }
}

/// Number of objects of a size that a sample represents: on average one byte in `rate` is sampled.
fn weight(size: u64, rate: u64) -> f64 {
    if rate <= 1 {
        return 1.0;
    }
    let chance = 1.0 - (-(size as f64) / rate as f64).exp();
    1.0 / chance.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_many() {
        assert!((weight(64, 1) - 1.0).abs() < 1e-9);
        assert!((weight(1, 524_288) - 524_288.5).abs() < 1.0);
        assert!((weight(64 << 20, 524_288) - 1.0).abs() < 1e-9);
    }
}
