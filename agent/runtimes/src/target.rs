//! A process to observe: its inspection and its runtime.

use std::time::Instant;

use heaptide_judge::events::TargetInfo;
use heaptide_process::files::caps::INSPECTION;
use heaptide_process::plan::wishes::ProbeWish;
use heaptide_process::plan::{Plan, PlanOptions, plan};
use heaptide_process::{Inspected, ProcessError};

use crate::door::Recognised;
use crate::requests;
use crate::table::TABLE;

/// One process to observe.
#[derive(Debug)]
pub struct Target {
    /// Its description in reports.
    pub info: TargetInfo,
    /// Its inspection.
    pub process: Inspected,
    /// Its runtime.
    pub runtime: Recognised,
    /// Probes of libraries in which requests are observed.
    requests: Vec<ProbeWish>,
}

impl Target {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Plans its probes.
    pub fn plan(&self, options: &PlanOptions) -> Plan {
        let mut wishes = self.runtime.observer.probes(options.allocations);
        wishes.probes.extend(self.requests.iter().cloned());
        self.process.allow(Some(INSPECTION));
        let plan = plan(&self.process, &wishes, options);
        self.process.allow(None);
        plan
    }

    /// The same process is still alive.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }
}

/// Reads what observing `pid` needs.
pub fn inspect(pid: u32) -> Result<Target, ProcessError> {
    recognise(heaptide_process::inspect(pid)?)
}

/// The same with a deadline. Files not read until then are left out, and a limitation says so.
pub fn inspect_until(pid: u32, deadline: Instant) -> Result<Target, ProcessError> {
    recognise(heaptide_process::inspect_until(pid, deadline)?)
}

fn recognise(process: Inspected) -> Result<Target, ProcessError> {
    let pid = process.pid;
    let runtime = TABLE
        .iter()
        .find_map(|runtime| runtime.recognise(&process))
        .ok_or(ProcessError::Ended { pid })?;
    let mut limitations = process.limitations.clone();
    // recognising the runtime has read more of its files
    for said in process.modules.iter().flat_map(|m| m.elf.limitations()) {
        if !limitations.contains(&said) {
            limitations.push(said);
        }
    }
    if process.allocators.is_empty() {
        limitations.push(if runtime.own_heap {
            format!(
                "{} does not use malloc but its own heap: single allocations are not seen",
                runtime.name
            )
        } else {
            process.without_allocator()
        });
    }
    limitations.extend(runtime.limitations.iter().cloned());
    let found = requests::find(&process);
    limitations.extend(found.limitations);
    if !runtime.own_heap {
        limitations.extend(process.without_lines());
    }
    // An exec or pid reuse in between would mix two programs.
    if !process.is_alive() {
        return Err(ProcessError::Ended { pid });
    }
    process.allow(None);
    Ok(Target {
        info: TargetInfo {
            requests_unread: false,
            heap_read: runtime.own_heap && runtime.observer.sees_heap(),
            blocks_partial: runtime.observer.settings().readable,
            pid,
            start_ticks: process.start_ticks,
            exe: process.exe.clone(),
            runtime: runtime.name.clone(),
            allocators: process
                .allocators
                .iter()
                .map(|allocator| allocator.name.to_string())
                .collect(),
            limitations,
            mode: String::new(),
            heap_unseen: runtime.own_heap && !runtime.observer.sees_heap(),
            collected: runtime.collected,
            workload: heaptide_process::workload::of(pid),
        },
        process,
        runtime,
        requests: found.probes,
    })
}
