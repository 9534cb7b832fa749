//! Libraries that a target maps later (`dlopen`, a plugin): an allocator in one is probed from then on.

use std::collections::HashSet;

use tracing::{info, warn};

use super::{Sink, Source, SourceError, now};
use heaptide_judge::events::Observation;
use heaptide_process::maps;
use heaptide_process::plan::Probe;
use heaptide_runtimes::{Target, inspect};

/// Files with code that a target has mapped, by device and inode.
#[derive(Debug, Default)]
pub(super) struct Code(HashSet<(u64, u64)>);

impl Code {
    /// Those that are mapped now; whether some were never seen before.
    fn has_grown(&mut self, pid: u32) -> bool {
        // A process that ends is noticed elsewhere.
        let mappings = maps::read(pid).unwrap_or_default();
        let mut grown = false;
        for mapping in mappings.iter().filter(|m| m.executable && m.inode != 0) {
            grown |= self.0.insert((mapping.dev, mapping.inode));
        }
        grown
    }

    /// What is mapped when the observation begins is planned for as a whole.
    pub(super) fn of(target: &Target) -> Self {
        let code = target.process.mappings.iter().filter(|m| m.executable);
        Self(code.map(|m| (m.dev, m.inode)).collect())
    }
}

impl Source {
    /// Looks for new libraries of every target. To be called every second.
    pub(super) fn meet_libraries(&mut self, sink: &mut Sink<'_>) {
        for pid in self.pids() {
            let Some(watched) = self.watched.get_mut(&pid) else {
                continue;
            };
            if watched.ended || watched.exec.is_some() || !watched.code.has_grown(pid) {
                continue;
            }
            if let Err(why) = self.probe_libraries(pid, sink) {
                warn!(
                    pid,
                    "allocators of a library mapped later are not seen: {why}"
                );
            }
        }
    }

    fn probe_libraries(&mut self, pid: u32, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let Some(watched) = self.watched.get(&pid) else {
            return Ok(());
        };
        let known: HashSet<_> = watched
            .target
            .process
            .modules
            .iter()
            .map(|m| m.inode)
            .collect();
        let paused = watched.windows.is_some_and(|windows| windows.paused);
        let target = inspect(pid)?;
        let is_new = |probe: &Probe| {
            let mut modules = target.process.modules.iter();
            probe.program.is_allocator()
                && modules.any(|m| m.file == probe.path && !known.contains(&m.inode))
        };
        let plan = self.plan(&target, true);
        let probes: Vec<&Probe> = plan.probes.iter().filter(|probe| is_new(probe)).collect();
        // Its blocks so far are not seen; frees of them are counted as unknown.
        let links = if paused {
            Vec::new()
        } else {
            self.attach_probes(pid, &probes)?
        };
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.allocator_links.extend(links);
        if probes.is_empty() {
            return Ok(());
        }
        let mut files: Vec<_> = probes.iter().map(|probe| &probe.path).collect();
        files.dedup();
        for file in files {
            info!(
                pid,
                "{} was mapped later: its allocator is probed now",
                file.display()
            );
        }
        // What was said of it before holds still.
        let Target { info, process, .. } = target;
        watched.target.info.allocators = info.allocators;
        watched.target.process = process;
        sink(pid, Observation::Target(now(), watched.target.info.clone()));
        Ok(())
    }
}
