//! Reads the targets' page faults from the maps, with stacks of the runtime's own frames if available.

use std::collections::HashMap;

use heaptide_judge::events::{Faults, Observation, RequestId, SiteFaults, SiteId};
use heaptide_process::clocks::now;
use tracing::debug;

use super::host::{Host, Sink};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Maximum sites in one observation, those with the most pages.
const MAX_SITES: usize = 512;

/// Reads and reports the page faults since the last call.
pub(super) fn read(host: &mut Host, sink: &mut Sink<'_>) {
    let at = now();
    let mut places: HashMap<u32, Vec<(u64, u64, u64)>> = HashMap::new();
    let taken = host.kernel.take_fault_sites(|key, pages| {
        let of = places.entry(key.tgid as u32).or_default();
        of.push((key.site, key.request, *pages));
    });
    if let Err(why) = taken {
        debug!("sites of page faults cannot be read: {why}");
    }
    for (pid, attached) in &mut host.attached {
        let Some(totals) = host.kernel.faults(*pid) else {
            continue;
        };
        let mut sites: HashMap<(SiteId, Option<RequestId>), u64> = HashMap::new();
        for (raw, request, pages) in places.remove(pid).unwrap_or_default() {
            if raw == 0 {
                continue;
            }
            let observer = &mut attached.target.runtime.observer;
            let (id, new) = observer.own_site(raw, pages, &mut || host.kernel.stack(raw));
            host.kernel.forget_stack(raw);
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
