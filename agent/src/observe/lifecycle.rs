//! Process events: follows children, observes new programs after an exec, reports ends.

use std::fs;
use std::time::{Duration, Instant};

use heaptide_judge::events::{Nanos, Observation};
use heaptide_process::{clocks::now, ending, identity, maps};
use heaptide_runtimes::inspect;
use tracing::{debug, info, warn};

use super::attach::{Beginning, begin};
use super::host::{Host, Sink, SourceError};
use crate::decode::Life;

/// Seconds that a new program may take to map an allocator; then it is observed without one.
const PATIENCE: f64 = 2.0;
/// Time for new programs at once; the rest follows at the next call.
const AT_A_TIME: Duration = Duration::from_millis(300);
/// Maximum number of processes of one service that are observed by following forks.
const MOST_FOLLOWED: usize = 64;

/// Follows existing children that run the same program: the workers of a pre-forking server.
pub(super) fn follow_children(host: &mut Host, pid: u32, sink: &mut Sink<'_>) {
    if !follows(host, pid) {
        return;
    }
    let program = identity::exe_inode(pid);
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for child in identity::children(parent) {
            if program.is_none() || identity::exe_inode(child) != program {
                continue;
            }
            // A child that has executed the program again has other addresses.
            let same = vdso(child).is_some() && vdso(child) == vdso(parent);
            if follow(host, child, parent, same, sink) {
                parents.push(child);
            }
        }
    }
}

fn follows(host: &Host, pid: u32) -> bool {
    host.attached
        .get(&pid)
        .is_some_and(|attached| attached.asked.follow)
}

/// Attaches to a child as to its parent, unless it is attached already; returns whether it is observed now.
/// `same`: it has its parent's mappings at the same addresses.
fn follow(host: &mut Host, child: u32, parent: u32, same: bool, sink: &mut Sink<'_>) -> bool {
    if host.attached.contains_key(&child) {
        return false;
    }
    let Some(of_parent) = host.attached.get(&parent) else {
        return false;
    };
    let options = of_parent.asked.clone();
    let (layout, service) = (of_parent.config.layout, of_parent.service);
    let begun = inspect(child)
        .map_err(SourceError::from)
        .and_then(|target| {
            let beginning = Beginning {
                layout: same.then_some(layout),
                ..Beginning::of(target, options)
            };
            begin(host, beginning, sink)
        });
    match begun {
        Ok(()) => {
            if let Some(attached) = host.attached.get_mut(&child) {
                attached.service = service;
            }
            host.followed.push((child, parent));
            info!(pid = child, parent, "following PID {child}");
            true
        }
        // Short-lived children are common: shell commands, helpers.
        Err(why) => {
            debug!(pid = child, "not followed: {why}");
            false
        }
    }
}

/// Handles a process event of a target.
pub(super) fn take(host: &mut Host, pid: u32, life: Life, sink: &mut Sink<'_>) {
    match life {
        Life::Fork { child } => {
            if follows(host, pid) && is_process(child) && is_allowed(host, pid, sink) {
                follow(host, child, pid, true, sink);
            }
        }
        Life::Exec { at, space } => {
            sink(pid, Observation::Forgotten(at));
            host.forget_tokens(pid);
            if let Some(attached) = host.attached.get_mut(&pid) {
                attached.exec = Some((space, at));
            }
        }
        Life::Exit { at } => {
            let attached = host.attached.get(&pid);
            if attached.is_some_and(|attached| !attached.target.is_alive()) {
                host.end(pid);
                sink(pid, Observation::Ended(at));
            }
        }
    }
}

/// Observes the new programs of processes after an exec, once the dynamic linker has mapped an allocator: right
/// after the exec there is nothing to probe.
pub(super) fn meet_new_programs(host: &mut Host, sink: &mut Sink<'_>) {
    let begun = Instant::now();
    let waiting: Vec<(u32, u64, Nanos)> = host
        .attached
        .iter()
        .filter(|(_, attached)| attached.pace.allows(begun))
        .filter_map(|(pid, attached)| attached.exec.map(|(space, at)| (*pid, space, at)))
        .collect();
    for (pid, space, at) in waiting {
        if ending::is_asked() || begun.elapsed() >= AT_A_TIME {
            return;
        }
        let Some(attached) = host.attached.get(&pid) else {
            continue;
        };
        let options = attached.asked.clone();
        let met = inspect(pid).map_err(SourceError::from).and_then(|target| {
            let early = target.process.allocators.is_empty() && now().since(at) < PATIENCE;
            if early && options.of(&target).allocations {
                return Ok(false);
            }
            let beginning = Beginning {
                space: Some(space),
                ..Beginning::of(target, options)
            };
            begin(host, beginning, sink).map(|()| true)
        });
        match &met {
            Ok(true) => info!(pid, "following PID {pid} in its new program"),
            Ok(false) => {
                if let Some(attached) = host.attached.get_mut(&pid) {
                    attached.pace.too_early(Instant::now());
                }
                continue;
            }
            Err(why) => warn!(pid, "the new program is not observed: {why}"),
        }
        if let Some(attached) = host.attached.get_mut(&pid) {
            attached.exec = None;
            attached.pace.inspected(Instant::now());
        }
    }
}

/// Whether one more child of this process's service may be followed. If not, its report says so.
fn is_allowed(host: &mut Host, pid: u32, sink: &mut Sink<'_>) -> bool {
    if ending::is_asked() {
        return false;
    }
    let service = host.attached.get(&pid).map_or(pid, |one| one.service);
    let first = if host.attached.contains_key(&service) {
        service
    } else {
        pid
    };
    let followed = host.attached.values();
    let followed = followed.filter(|one| one.service == service && !one.ended);
    let room = followed.count() < MOST_FOLLOWED;
    let Some(attached) = host.attached.get_mut(&first) else {
        return false;
    };
    let allowed = room && attached.children.take(Instant::now());
    if !allowed && !attached.left_children {
        attached.left_children = true;
        let said = format!(
            "it forks more children than heaptide follows ({MOST_FOLLOWED} at a time): the memory of the others is not seen"
        );
        attached.target.info.limitations.push(said);
        let info = attached.target.info.clone();
        sink(first, Observation::Target(now(), info));
    }
    allowed
}

/// Whether a task is a process, not a thread.
fn is_process(task: u32) -> bool {
    fs::read_to_string(format!("/proc/{task}/status")).is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:"))
            .is_some_and(|tgid| tgid.trim() == task.to_string())
    })
}

/// Address of the vDSO, which differs between starts of a program.
fn vdso(pid: u32) -> Option<u64> {
    let mappings = maps::read(pid).ok()?;
    let mapping = mappings.iter().find(|mapping| mapping.path == "[vdso]");
    mapping.map(|mapping| mapping.start)
}
