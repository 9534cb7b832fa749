//! Goroutines that are started for a request: their actions are attributed to it.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{GoRuntimeCookie, TaskKey, binding};

use super::requests::{GO_REQUESTS, NO_FD, watched};
use crate::{
    http,
    maps::TASKS,
    probe::{self, register},
    request,
    user::words,
};

/// Goroutines that work for a request and do not serve it themselves.
#[map]
static GO_CHILDREN: LruHashMap<TaskKey, Child> = LruHashMap::with_max_entries(16_384, 0);

/// A goroutine that was started by one that serves a request, or by another such child.
#[repr(C)]
#[derive(Clone, Copy)]
struct Child {
    request: u64,
    /// The goroutine that serves the request.
    root: u64,
    born_ns: u64,
    /// Number of generations below the root: 1 for its direct child.
    depth: u64,
    /// The window of allocations in which this was seen, as `TargetConfig::space`. Between windows goroutines end unseen, and
    /// their memory is used again.
    space: u64,
}

/// Most generations that are followed.
const DEPTH: u64 = 4;
/// How long a goroutine that outlives its request is still attributed to it. Goroutines that live on and serve
/// others (a pool's worker, a client's connection) are not.
const OUTLIVES_NS: u64 = 1_000_000_000;
/// `g.m`.
const G_M: u64 = 48;
/// `_Gdead`: a goroutine that has not started yet, or has ended.
const DEAD: u32 = 6;

/// The request that a goroutine works for in the window `space`, and its binding, one of [`binding`].
#[inline(always)]
pub fn request_of(goroutine: u64, tgid: u32, now: u64, space: u64) -> (u64, u8) {
    let tgid = u64::from(tgid);
    let task = goroutine;
    // SAFETY: a map value; a torn read gives another request of the same goroutine.
    if let Some(pending) = unsafe { GO_REQUESTS.get(TaskKey { task, tgid }) } {
        return (pending.request, binding::EXACT);
    }
    // SAFETY: as above.
    let Some(child) = (unsafe { GO_CHILDREN.get(TaskKey { task, tgid }) }) else {
        return (0, binding::NONE);
    };
    if child.space != space {
        return (0, binding::NONE);
    }
    if child.depth >= DONE {
        return (child.request, binding::EXACT);
    }
    let task = child.root;
    // SAFETY: as above.
    if let Some(pending) = unsafe { GO_REQUESTS.get(TaskKey { task, tgid }) }
        && pending.request == child.request
    {
        return (child.request, binding::EXACT);
    }
    if now.wrapping_sub(child.born_ns) < OUTLIVES_NS {
        return (child.request, binding::INFERRED);
    }
    (0, binding::NONE)
}

/// In place of a depth: the goroutine is reading the head of that request, or has finished it.
const READING: u64 = u64::MAX;
const DONE: u64 = u64::MAX - 1;

/// `(*conn).readRequest(ctx)`: R14 is the goroutine. What it allocates from here on is attributed to the next
/// request, whose head it reads.
#[uprobe]
pub fn go_read(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    let tgid = bpf_get_current_pid_tgid() >> 32;
    let task = register!(regs, r14);
    let child = Child {
        request: request::next_id(),
        root: task,
        // SAFETY: no preconditions.
        born_ns: unsafe { bpf_ktime_get_ns() },
        depth: READING,
        space: config.space,
    };
    // A full LRU map drops the goroutine that was idle longest; nothing to count.
    let _ = GO_CHILDREN.insert(TaskKey { task, tgid }, &child, 0);
    0
}

/// The request has ended. Its goroutine is attributed to it until it reads the next head, in the window `space`.
#[inline(always)]
pub fn done(key: TaskKey, request: u64, space: u64) {
    let child = Child {
        request,
        root: key.task,
        born_ns: 0,
        depth: DONE,
        space,
    };
    // As above.
    let _ = GO_CHILDREN.insert(key, &child, 0);
}

/// The goroutine that a thread runs, given the `g` in its register. That may be the scheduler's own `g`, on which
/// the runtime does some of its work for the goroutine.
#[inline(always)]
pub fn on_behalf_of(running: u64, cookie: GoRuntimeCookie) -> u64 {
    if let Some([thread]) = words(running.wrapping_add(G_M))
        && let Some([current]) = words(thread.wrapping_add(cookie.current()))
    {
        return current;
    }
    0
}

/// The request whose head the goroutine has read, if [`go_read`] has seen that; else a new one.
#[inline(always)]
pub fn begun(key: TaskKey) -> u64 {
    // SAFETY: a map value; only this goroutine's probes touch it.
    if let Some(child) = unsafe { GO_CHILDREN.get(key) }
        && child.depth == READING
    {
        let request = child.request;
        let _ = GO_CHILDREN.remove(key);
        return request;
    }
    request::next_id()
}

/// `isSystemGoroutine(gp, fixed)`: RAX. The runtime calls it for each goroutine that starts and for each that ends, on
/// the stack of the thread's scheduler. A goroutine that ends is the thread's current one; one that starts is not.
#[uprobe]
pub fn go_goroutine(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    let cookie = GoRuntimeCookie(probe::cookie(ctx.as_ptr()));
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let task = register!(regs, rax);
    let key = TaskKey {
        task,
        tgid: u64::from(tgid),
    };
    let current = on_behalf_of(register!(regs, r14), cookie);
    let Some([status]) = words(task.wrapping_add(cookie.status())) else {
        return 0;
    };
    if status as u32 != DEAD {
        return 0;
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(pending) = GO_REQUESTS.get_ptr(key) {
        // Its handler panicked, or took over the connection. If that was between two windows, another goroutine begins now.
        // SAFETY: a map value; only this goroutine's probes touch it.
        http::send(unsafe { &*pending }, tgid, NO_FD, 0, now);
        let _ = GO_REQUESTS.remove(key);
        let _ = TASKS.remove(key);
    }
    if current == task {
        let _ = GO_CHILDREN.remove(key);
        return 0;
    }
    let parent = TaskKey {
        task: current,
        tgid: u64::from(tgid),
    };
    // SAFETY: map values of plain integers; the parent is in the runtime and does nothing else.
    let child = if let Some(pending) = unsafe { GO_REQUESTS.get(parent) } {
        Child {
            request: pending.request,
            root: current,
            born_ns: now,
            depth: 1,
            space: config.space,
        }
    // SAFETY: as above.
    } else if let Some(above) = unsafe { GO_CHILDREN.get(parent) }
        && above.depth < DEPTH
        && above.space == config.space
    {
        Child {
            request: above.request,
            root: above.root,
            born_ns: now,
            depth: above.depth + 1,
            space: config.space,
        }
    } else {
        // The memory of goroutines is used again: forget what was known of the last one here.
        let _ = GO_CHILDREN.remove(key);
        return 0;
    };
    // A full LRU map drops the goroutine that was idle longest; nothing to count.
    let _ = GO_CHILDREN.insert(key, &child, 0);
    0
}
