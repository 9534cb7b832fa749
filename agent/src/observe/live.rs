//! Periodic reading of the whole live map.

use std::collections::{HashMap, HashSet};

use heaptide_ebpf::{BlockKey, ReturnedKey, SITE_PROVISIONAL};
use heaptide_judge::events::{Observation, Returned, Snapshot};
use heaptide_process::clocks::now;
use rustc_hash::FxHashSet;

use super::events;
use super::host::{Host, Sink, SourceError};
use super::snapshot::Groups;
use super::tidy;

/// Reads the live map and reports a snapshot for each target.
pub(super) fn snapshot(host: &mut Host, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    let at = now();
    let mut groups: HashMap<u64, Groups> = HashMap::new();
    let mut copies: HashSet<u64> = HashSet::new();
    let mut stale: Vec<BlockKey> = Vec::new();
    let observed: HashSet<u64> = host
        .attached
        .values()
        .filter(|attached| !attached.ended)
        .map(|attached| attached.config.space)
        .collect();
    host.kernel.live_blocks(|key, block| {
        if !observed.contains(&key.space) {
            stale.push(*key);
            return;
        }
        if block.site & SITE_PROVISIONAL != 0 {
            copies.insert(block.site);
        }
        groups.entry(key.space).or_default().add(block);
    })?;
    let mut returned: HashMap<u64, Vec<Returned>> = HashMap::new();
    let mut gone: Vec<ReturnedKey> = Vec::new();
    host.kernel.returned(|key, blocks| {
        if !observed.contains(&key.space) {
            gone.push(*key);
            return;
        }
        returned.entry(key.space).or_default().push(Returned {
            size: key.size,
            blocks: *blocks,
        });
    })?;
    host.kernel.remove_returned(&gone);
    // The stack copies of these blocks are in the ring by now. If a process execs meanwhile, its
    // space changes and its groups are dropped.
    events::pump_all(host, sink);
    host.kernel.remove_blocks(&stale);
    host.kernel.share_blocks(observed.len());
    let mut used: FxHashSet<u64> = FxHashSet::default();
    for (pid, attached) in &mut host.attached {
        if attached.ended || !attached.allocating() {
            continue;
        }
        let mut all = Vec::new();
        let mut groups = groups.remove(&attached.config.space).unwrap_or_default();
        host.kernel
            .set_blocks_held(attached.config.slot, groups.blocks());
        attached.add_objects(&mut groups, at);
        used.extend(groups.sites().chain(attached.sites_of_mappings()));
        attached.resolve_groups(&host.kernel, groups, &mut all, &mut |one| sink(*pid, one));
        all.extend(attached.mappings(&host.kernel, &mut |one| sink(*pid, one)));
        attached.prune(&copies, at);
        attached.find_libraries(&mut host.kernel, &mut host.rules);
        let counters = host.kernel.counters(attached.config.slot)?;
        let returned = (!attached.has_sampled_out(&counters))
            .then(|| returned.remove(&attached.config.space).unwrap_or_default());
        let snapshot = Snapshot {
            at,
            groups: all,
            returned,
        };
        sink(*pid, Observation::Snapshot(snapshot));
    }
    if host.stacks.is_due() {
        tidy::sweep(host, &used);
    }
    Ok(())
}
