//! Libraries that a target maps later (`dlopen`, a plugin): their allocators are probed from then on.

use std::collections::HashSet;

use heaptide_judge::events::Observation;
use heaptide_process::{clocks::now, plan::Probe};
use heaptide_runtimes::{Target, inspect};
use tracing::{info, warn};

use super::host::{Host, Sink, SourceError, plan_of};
use crate::overhead::probe_set::Part;

/// Looks for new libraries of every target. Called every second.
pub(super) fn meet(host: &mut Host, sink: &mut Sink<'_>) {
    let grown: Vec<u32> = host
        .attached
        .iter_mut()
        .filter(|(_, attached)| !attached.ended && attached.exec.is_none())
        .filter_map(|(pid, attached)| attached.code.has_grown(*pid).then_some(*pid))
        .collect();
    for pid in grown {
        if let Err(why) = probe(host, pid, sink) {
            warn!(
                pid,
                "allocators of libraries mapped later are not seen: {why}"
            );
        }
    }
}

fn probe(host: &mut Host, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
    let Some(attached) = host.attached.get(&pid) else {
        return Ok(());
    };
    let modules = attached.target.process.modules.iter();
    let known: HashSet<_> = modules.map(|module| module.inode).collect();
    let paused = attached.windows.is_some_and(|windows| windows.paused());
    let target = inspect(pid)?;
    let is_new = |probe: &Probe| {
        let mut modules = target.process.modules.iter();
        Part::Allocations.has(probe)
            && modules.any(|module| module.file == probe.path && !known.contains(&module.inode))
    };
    let mut probes = plan_of(&target, &attached.options, true).probes;
    probes.retain(is_new);
    // Earlier blocks are not seen; frees of them count as unknown.
    if !paused {
        host.probes
            .enable(&mut host.kernel, pid, Part::Allocations, &probes)?;
    }
    let Some(attached) = host.attached.get_mut(&pid).filter(|_| !probes.is_empty()) else {
        return Ok(());
    };
    let mut files: Vec<_> = probes.iter().map(|probe| &probe.path).collect();
    files.dedup();
    for file in files {
        info!(
            pid,
            "{} was mapped later; its allocator is probed from now on",
            file.display()
        );
    }
    // Earlier limitations still apply.
    let Target { info, process, .. } = target;
    attached.target.info.allocators = info.allocators;
    attached.target.process = process;
    sink(
        pid,
        Observation::Target(now(), attached.target.info.clone()),
    );
    Ok(())
}
