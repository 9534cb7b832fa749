//! Go's own heap profile: `runtime.mbuckets`, a list of call stacks with what was sampled of each.

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::site_hash;

use heaptide_process::{memory, symbols::Symbolizer};

use super::layout::{self, Words};
use super::variables::Variables;
use heaptide_judge::events::{Nanos, Observation, Profile, ProfiledSite, SiteId};

/// Buckets that are read at most.
const MOST: usize = 50_000;
/// Bytes of a bucket that are read before it is known how long its stack is.
pub(super) const HEAD_BYTES: usize = 64;
/// Frames of a stack that are believed (the runtime keeps 128 at most).
const MOST_FRAMES: u64 = 256;

/// Bytes between two samples where heaptide switches the profile on.
pub(super) const RATE: u64 = 32 << 10;

/// A profile that was switched on, and is switched off again when this is dropped.
pub(super) struct Enabled {
    pid: u32,
    address: u64,
}

impl Enabled {
    /// Switches it on; `None` when that is refused.
    pub(super) fn new(pid: u32, address: u64) -> Option<Self> {
        memory::write_word(pid, address, RATE).then_some(Self { pid, address })
    }
}

impl Drop for Enabled {
    fn drop(&mut self) {
        // Whoever has changed it since keeps what they wrote. A process that has ended needs nothing.
        if memory::word(self.pid, self.address) == Some(RATE) {
            memory::write_word(self.pid, self.address, 0);
        }
    }
}

/// Reads the profile of one process.
pub(super) struct Reader {
    pid: u32,
    /// Sites of other processes must not have the same ids.
    layout_id: u32,
    layout: layout::Bucket,
    announced: HashSet<SiteId>,
}

/// One call stack and size.
struct Bucket {
    next: u64,
    size: u64,
    frames: Vec<u64>,
    live: u64,
}

impl Reader {
    pub(super) fn new(pid: u32, layout_id: u32, layout: layout::Bucket) -> Self {
        Self {
            pid,
            layout_id,
            layout,
            announced: HashSet::new(),
        }
    }

    /// What is live by the runtime's own samples; `None` when it takes none.
    pub(super) fn read(
        &mut self,
        at: Nanos,
        variables: &Variables,
        symbolizer: &mut Symbolizer,
        sink: &mut dyn FnMut(Observation),
    ) -> Option<Profile> {
        let rate = memory::word(self.pid, variables.profile_rate?)?;
        if rate == 0 || rate > 1 << 40 {
            return None;
        }
        let mut next = memory::word(self.pid, variables.buckets?)?;
        let mut sites: HashMap<SiteId, (f64, f64)> = HashMap::new();
        for _ in 0..MOST {
            if next == 0 {
                break;
            }
            let Some(bucket) = self.bucket(next) else {
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

    fn bucket(&self, address: u64) -> Option<Bucket> {
        let layout = self.layout;
        let head = memory::words::<{ HEAD_BYTES / 8 }>(self.pid, address)?;
        let head = Words(&head);
        let frames = head.word(layout.frames);
        if frames > MOST_FRAMES {
            return None;
        }
        // the stack, then the completed cycle's sums
        let frames = frames as usize;
        let sums = usize::from(layout.allocations.max(layout.frees) / 8) + 1;
        let mut words = vec![0_u64; frames + sums];
        let from = address.wrapping_add(u64::from(layout.bytes));
        if !memory::read(self.pid, from, bytemuck::cast_slice_mut(&mut words)) {
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

/// How many objects of a size a sample stands for: each byte is sampled once in `rate` on average.
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
