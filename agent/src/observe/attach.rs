//! Starts the observation of a process, after an attach, a fork or an exec.

use std::time::Instant;

use heaptide_ebpf::TargetConfig;
use heaptide_judge::events::Observation;
use heaptide_process::clocks::{cpu_time_of, now};
use heaptide_process::plan::Probe;
use heaptide_runtimes::Target;
use tracing::warn;

use super::attached::{Attached, Before};
use super::heaps;
use super::host::{Host, Sink, SourceError, plan_of};
use super::memory::sample;
use super::options::TargetOptions;
use crate::overhead::allocation_windows::{AllocationWindows, Policy};
use crate::overhead::probe_set::Part;
use crate::privileges;

/// The observation to start.
pub(super) struct Beginning<'a> {
    pub(super) target: Target,
    /// Its options.
    pub(super) options: TargetOptions,
    /// The address layout that it shares with its parent (after a fork); `None`: its own.
    pub(super) layout: Option<u32>,
    /// Its address space, if it is not the first of its pid.
    pub(super) space: Option<u64>,
    /// Filters the probes of the plan.
    pub(super) wanted: &'a dyn Fn(&Probe) -> bool,
}

impl Beginning<'_> {
    /// For a process to which heaptide attaches completely.
    pub(super) fn of(target: Target, options: TargetOptions) -> Self {
        Self {
            target,
            options,
            layout: None,
            space: None,
            wanted: &|_| true,
        }
    }
}

/// Starts to observe a process; one observed before (in another program) keeps its slot.
pub(super) fn begin(
    host: &mut Host,
    beginning: Beginning<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), SourceError> {
    let Beginning {
        mut target,
        options: asked,
        layout,
        space,
        wanted,
    } = beginning;
    let pid = target.pid();
    host.probes.forget(pid);
    host.probes.wait_released(pid);
    let options = asked.of(&target);
    let cpu_seconds = cpu_time_of(pid).unwrap_or_default().as_secs_f64();
    let begun = Instant::now();
    let windows = options
        .budget
        .filter(|_| options.allocations)
        .map(|budget| {
            let readable = target.runtime.observer.settings().readable;
            let policy = match (options.automatic, options.at_once) {
                (false, _) => Policy::Always,
                (true, at_once) if readable => Policy::Unexplained { at_once },
                (true, false) => Policy::Growth,
                (true, true) => Policy::AtOnce,
            };
            AllocationWindows::new(budget, policy, cpu_seconds, begun)
        });
    let allocating = windows.is_none_or(|windows| !windows.paused());
    let mut plan = plan_of(&target, &options, allocating);
    plan.probes.retain(wanted);
    let flags = options.flags(&target, host.options.stacks, allocating);
    // Done first, because either can fail, and because what cannot be traced is one of its
    // limitations.
    host.kernel.load_programs(&plan.probes)?;
    host.calls.need(&mut host.kernel, flags)?;
    let before = host.attached.remove(&pid).map(Before::from);
    let is_new = before.is_none();
    let slot = match &before {
        Some(before) => before.slot,
        None => host.slots.take(),
    };
    let prefill = layout.is_none();
    let config = TargetConfig {
        space: space.unwrap_or(u64::from(pid) << 32),
        layout: layout.unwrap_or_else(|| host.new_layout()),
        flags,
        interval: 0,
        slot,
        credential: options.credential,
    };
    let info = &mut target.info;
    info.limitations.extend(host.limitations().cloned());
    info.limitations.extend(plan.limitations.iter().cloned());
    privileges::name_once(&mut info.limitations);
    options.mode().clone_into(&mut info.mode);
    let attached = Attached::new(target, config, options, asked, plan.handlers, windows);
    let mut attached = attached.inspect_err(|_| {
        host.kernel.remove_target(pid);
        host.slots.give_back(slot);
    })?;
    let was_paused = before.as_ref().is_some_and(|before| before.requests_paused);
    if let Some(before) = before {
        before.hand_on(&mut attached);
    } else {
        attached.counted = host.kernel.counters(slot)?;
        host.kernel.set_stacks_held(slot, 0);
    }
    host.kernel.set_blocks_held(slot, 0);
    if prefill && allocating && attached.options.allocations && host.options.stacks {
        attached.prefill(&mut host.kernel, &mut host.rules);
    }
    host.kernel.forget_threads(&attached.target.process.threads);
    host.attached.insert(pid, attached);
    let on = put_on(host, pid, config, &plan.probes);
    if on.is_err() && is_new {
        host.detach(pid);
    }
    on?;
    watch_faults(host, pid);
    if let Some(attached) = host.attached.get_mut(&pid) {
        heaps::watch(&mut host.readers, &attached.target);
        if host.options.enable_go_profile {
            attached.enable_profile();
        }
        sink(
            pid,
            Observation::Target(now(), attached.target.info.clone()),
        );
    }
    if !allocating {
        sink(pid, Observation::Window(now(), false));
    }
    if was_paused {
        sink(pid, Observation::Requests(now(), true));
    }
    sample(host, pid, sink);
    Ok(())
}

fn put_on(
    host: &mut Host,
    pid: u32,
    config: TargetConfig,
    probes: &[Probe],
) -> Result<(), SourceError> {
    host.set_target(pid, config)?;
    for part in Part::ALL {
        host.probes.enable(&mut host.kernel, pid, part, probes)?;
    }
    Ok(())
}

/// Starts to count the page faults of a target at 0.
fn watch_faults(host: &mut Host, pid: u32) {
    let Some(attached) = host.attached.get(&pid) else {
        return;
    };
    let frames = attached.target.runtime.observer.settings().frames;
    let counted = host.kernel.count_faults(pid);
    let set = host.kernel.set_frames(pid, frames);
    if let Err(why) = counted.and(set) {
        warn!(pid, "page faults are not counted: {why}");
    }
}
