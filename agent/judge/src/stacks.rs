//! Live heap memory by call stack and requests: a snapshot joined with its sites and routes.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use crate::events::{Frame, LiveGroup, MemoryKind, Site, SiteId, Snapshot, TokenClass};
use crate::report::TargetSummary;

/// Live memory by call stack: the input of flame graph and pprof profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveStacks {
    /// One entry per site, route and token class. The same stack may occur more than once.
    pub stacks: Vec<LiveStack>,
}

/// The requests that allocated a block: their route, and the class of their tokens.
pub type Origin = (String, TokenClass);

/// Live memory of one call stack.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveStack {
    /// Frames, innermost first.
    pub frames: Arc<[Frame]>,
    /// Live bytes, estimated.
    pub bytes: u64,
    /// Live blocks, estimated.
    pub blocks: u64,
    /// The requests that allocated them. `None`: no request, or none that is known.
    pub origin: Option<Origin>,
}

impl LiveStacks {
    /// The heap blocks of a snapshot by stack. Unknown sites are left out. `origin` returns the requests that allocated a
    /// group.
    pub fn of<S: BuildHasher>(
        sites: &HashMap<SiteId, Site, S>,
        snapshot: &Snapshot,
        origin: impl Fn(&LiveGroup) -> Option<Origin>,
    ) -> Self {
        let mut by_site: HashMap<(SiteId, Option<Origin>), (f64, f64)> = HashMap::new();
        for group in snapshot
            .groups
            .iter()
            .filter(|group| group.kind == MemoryKind::Heap)
        {
            let sums = by_site.entry((group.site, origin(group))).or_default();
            sums.0 += group.bytes;
            sums.1 += group.blocks;
        }
        let stacks = by_site
            .into_iter()
            .filter_map(|((site, origin), (bytes, blocks))| {
                let frames = sites.get(&site)?.stack.clone();
                Some(LiveStack {
                    frames,
                    bytes: bytes as u64,
                    blocks: blocks as u64,
                    origin,
                })
            })
            .collect();
        Self { stacks }
    }

    /// Why there is nothing to show, and what would show it. `None`: there is something.
    pub fn missing(&self, target: &TargetSummary) -> Option<String> {
        if self.bytes() > 0 {
            return None;
        }
        let (runtime, pid) = (&target.runtime, target.pid);
        let process = format!("pid {pid} ({runtime})");
        Some(match target.mode.as_str() {
            "trace" => format!(
                "No block that was allocated since the attach is live in the allocators that heaptide traces in {process}."
            ),
            "watch" => format!(
                "Mode watch traces no allocations of {process}. `--mode trace` traces all of them."
            ),
            mode => format!(
                "No allocation of {process} was being traced at the end: mode {mode} traces them for short times, or not \
                 at all where the runtime's own objects are read. `--mode trace` traces all of them."
            ),
        })
    }

    /// All live bytes.
    pub fn bytes(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.bytes).sum()
    }
}
