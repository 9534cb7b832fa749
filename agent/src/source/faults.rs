//! Page faults of the targets: read from the kernel's maps, with the stacks of the runtime's own frames where there are any.

use std::collections::HashMap;

use tracing::{debug, warn};

use super::{Sink, Source, now};
use heaptide_judge::events::{Faults, Observation, RequestId, SiteFaults, SiteId};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Places in one observation, those of most pages.
const MAX_SITES: usize = 512;

impl Source {
    /// Begins to count the page faults of a target, from nothing.
    pub(super) fn watch_faults(&mut self, pid: u32) {
        let Some(watched) = self.watched.get(&pid) else {
            return;
        };
        let config = watched.target.runtime.observer.settings().frames;
        let counted = self.kernel.count_faults(pid);
        let set = self.kernel.set_frames(pid, config);
        if let Err(why) = counted.and(set) {
            warn!(pid, "page faults are not counted: {why}");
        }
    }

    /// Reads what has come since the last reading, and says it.
    pub(super) fn read_faults(&mut self, sink: &mut Sink<'_>) {
        let at = now();
        let mut places: HashMap<u32, Vec<(u64, u64, u64)>> = HashMap::new();
        let taken = self.kernel.take_fault_sites(|key, pages| {
            let of = places.entry(key.tgid as u32).or_default();
            of.push((key.site, key.request, *pages));
        });
        if let Err(why) = taken {
            debug!("places of page faults are not read: {why}");
        }
        for (pid, watched) in &mut self.watched {
            let Some(totals) = self.kernel.faults(*pid) else {
                continue;
            };
            let mut sites: HashMap<(SiteId, Option<RequestId>), u64> = HashMap::new();
            for (raw, request, pages) in places.remove(pid).unwrap_or_default() {
                if raw == 0 {
                    continue;
                }
                let observer = &mut watched.target.runtime.observer;
                let (id, new) = observer.faulted(raw, pages, &mut || self.kernel.stack(raw));
                self.kernel.forget_stack(raw);
                if let Some(site) = new {
                    sink(*pid, Observation::Site(site));
                }
                if let Some(id) = id {
                    let request = (request != 0).then_some(RequestId(request));
                    *sites.entry((id, request)).or_default() += pages * PAGE;
                }
            }
            let mut sites: Vec<SiteFaults> = sites
                .into_iter()
                .map(|((site, request), bytes)| SiteFaults {
                    site,
                    request,
                    bytes,
                })
                .collect();
            sites.sort_by_key(|one| (std::cmp::Reverse(one.bytes), one.site.0, one.request));
            sites.truncate(MAX_SITES);
            let faults = Faults {
                at,
                fresh_bytes: totals.fresh * PAGE,
                copied_bytes: totals.copied * PAGE,
                sites,
            };
            sink(*pid, Observation::Faults(faults));
        }
    }
}
