//! Process events: children are followed, a new program is observed anew, an end is said.

use std::{fs, mem};

use heaptide_ebpf::TargetConfig;
use tracing::{debug, info, warn};

use super::{Sink, Source, SourceError, now, probes::by_kind};
use crate::decode::Life;
use heaptide_judge::events::{Nanos, Observation};
use heaptide_process::{identity, maps};
use heaptide_runtimes::{Target, inspect};

/// Seconds that a new program may take to map an allocator; one without any is observed after that.
const PATIENCE: f64 = 2.0;

impl Source {
    /// Follows the children that a process has already and that run its program: the workers of a
    /// server that forks before it serves.
    pub fn follow_children(&mut self, pid: u32, sink: &mut Sink<'_>) {
        if !self.options_of(pid).follow {
            return;
        }
        let program = identity::exe_inode(pid);
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            for child in identity::children(parent) {
                if program.is_none() || identity::exe_inode(child) != program {
                    continue;
                }
                // One that has run the program anew has its parts at other addresses.
                let layout = if vdso(child).is_some() && vdso(child) == vdso(parent) {
                    self.layout_of(parent)
                } else {
                    self.new_layout()
                };
                if self.follow(child, parent, layout, sink) {
                    parents.push(child);
                }
            }
        }
    }

    fn layout_of(&self, pid: u32) -> u32 {
        let watched = self.watched.get(&pid);
        watched.map_or(0, |watched| watched.config.layout)
    }

    /// Attaches to a child as to its parent, unless that was done before; whether it is observed now.
    fn follow(&mut self, child: u32, parent: u32, layout: u32, sink: &mut Sink<'_>) -> bool {
        if self.watched.contains_key(&child) {
            return false;
        }
        if let Some(options) = self.own_options.get(&parent).cloned() {
            self.own_options.insert(child, options);
        }
        match self.attach_as(child, layout, false, &|_| true, sink) {
            Ok(()) => {
                let service = self.watched.get(&parent).map(|parent| parent.service);
                if let (Some(service), Some(watched)) = (service, self.watched.get_mut(&child)) {
                    watched.service = service;
                }
                self.followed.push((child, parent));
                info!(pid = child, parent, "following PID {child}");
                true
            }
            // Short-lived children are common: a shell command, a helper.
            Err(why) => {
                self.own_options.remove(&child);
                debug!(pid = child, "not followed: {why}");
                false
            }
        }
    }

    /// Acts on a process event of a target.
    pub(super) fn life(&mut self, pid: u32, life: Life, sink: &mut Sink<'_>) {
        match life {
            Life::Fork { child } => {
                if self.options_of(pid).follow && is_process(child) {
                    let layout = self.layout_of(pid);
                    self.follow(child, pid, layout, sink);
                }
            }
            Life::Exec { at, space } => {
                sink(pid, Observation::Forgotten(at));
                self.forget_tokens(pid);
                if let Some(watched) = self.watched.get_mut(&pid) {
                    watched.exec = Some((space, at));
                }
                self.meet_new_programs(sink);
            }
            Life::Exit { at } => {
                if let Some(watched) = self.watched.get_mut(&pid)
                    && !watched.target.is_alive()
                {
                    watched.ended = true;
                    self.kernel.remove_target(pid);
                    self.forget_tokens(pid);
                    sink(pid, Observation::Ended(at));
                }
            }
        }
    }

    /// Observes the new programs of processes that have exec'd, once the dynamic linker has mapped an
    /// allocator: right after the exec there is nothing to probe yet.
    pub(super) fn meet_new_programs(&mut self, sink: &mut Sink<'_>) {
        let waiting: Vec<(u32, u64, Nanos)> = self
            .watched
            .iter()
            .filter_map(|(pid, watched)| watched.exec.map(|(space, at)| (*pid, space, at)))
            .collect();
        for (pid, space, at) in waiting {
            let met = inspect(pid).map_err(SourceError::from).and_then(|target| {
                let early = target.process.allocators.is_empty() && now().since(at) < PATIENCE;
                if early && self.options_of(pid).allocations {
                    return Ok(false);
                }
                self.replace(pid, space, target, sink).map(|()| true)
            });
            if let Err(why) = &met {
                warn!(pid, "the new program is not observed: {why}");
            }
            if !matches!(met, Ok(false))
                && let Some(watched) = self.watched.get_mut(&pid)
            {
                watched.exec = None;
            }
        }
    }

    /// After an exec the process is another program.
    fn replace(
        &mut self,
        pid: u32,
        space: u64,
        mut target: Target,
        sink: &mut Sink<'_>,
    ) -> Result<(), SourceError> {
        let layout = self.new_layout();
        self.note_readable(&target);
        let windows = self.new_windows(pid);
        let allocating = windows.is_none_or(|windows| !windows.paused);
        let plan = self.plan(&target, allocating);
        target
            .info
            .limitations
            .extend(plan.limitations.iter().cloned());
        self.mode(pid).clone_into(&mut target.info.mode);
        let slot = self
            .watched
            .get(&pid)
            .map_or(0, |watched| watched.config.slot);
        let config = TargetConfig {
            space,
            layout,
            flags: self.flags(pid, &target, allocating),
            interval: 0,
            slot,
        };
        let seeing = Self::new_seeing(pid);
        let info = target.info.clone();
        let threads = target.process.threads.clone();
        let Some(watched) = self.watched.get_mut(&pid) else {
            return Ok(());
        };
        watched.allocator_links.clear();
        watched.links.clear();
        watched.windows = windows;
        let rested = mem::replace(&mut watched.seeing, seeing).resting;
        watched.replaced(target, config)?;
        watched.handlers.clone_from(&plan.handlers);
        self.set_target(pid, config)?;
        // What the new program did since its exec was noted under no layout.
        self.kernel.forget_threads(&threads);
        let (allocator, other) = by_kind(&plan);
        let links = self.attach_probes(pid, &allocator)?;
        let others = self.attach_probes(pid, &other)?;
        if let Some(watched) = self.watched.get_mut(&pid) {
            (watched.allocator_links, watched.links) = (links, others);
        }
        self.watch_faults(pid);
        self.read_heap(pid);
        sink(pid, Observation::Target(now(), info));
        if !allocating {
            sink(pid, Observation::Window(now(), false));
        }
        if rested {
            sink(pid, Observation::Requests(now(), true));
        }
        info!(pid, "following PID {pid} in its new program");
        Ok(())
    }
}

/// Whether a task is a process of its own, not a thread.
fn is_process(task: u32) -> bool {
    fs::read_to_string(format!("/proc/{task}/status")).is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:"))
            .is_some_and(|tgid| tgid.trim() == task.to_string())
    })
}

/// Where the kernel has mapped its own code, which differs from one start of a program to the next.
fn vdso(pid: u32) -> Option<u64> {
    let mappings = maps::read(pid).ok()?;
    let mapping = mappings.iter().find(|mapping| mapping.path == "[vdso]");
    mapping.map(|mapping| mapping.start)
}
