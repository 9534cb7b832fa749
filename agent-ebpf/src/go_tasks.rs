//! Goroutines that are begun for a request: what they do belongs to it, too.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{GoRuntimeCookie, TaskKey, binding};

use crate::{
    alloc::register,
    go::{GO_REQUESTS, NO_FD, watched, words},
    http,
    maps::TASKS,
    scope,
};

/// What a goroutine that was begun for a request does belongs to it, too.
#[map]
static GO_CHILDREN: LruHashMap<TaskKey, Child> = LruHashMap::with_max_entries(16_384, 0);

/// A goroutine that was begun by one that served a request, or by such a one.
#[repr(C)]
#[derive(Clone, Copy)]
struct Child {
    request: u64,
    /// The goroutine that serves the request.
    root: u64,
    born_ns: u64,
    /// Goroutines between the two, this one included.
    depth: u64,
}

/// Goroutines begun by one another that are followed.
const DEPTH: u64 = 4;
/// How long a goroutine that outlives its request still works for it: what lives on and serves others (a
/// pool's worker, a client's connection) does not.
const OUTLIVES_NS: u64 = 1_000_000_000;
/// `g.m`.
const G_M: u64 = 48;
/// `_Gdead`: a goroutine that is not begun yet, or has ended.
const DEAD: u32 = 6;

/// The request that a goroutine works on, and how surely.
#[inline(always)]
pub fn request_of(goroutine: u64, tgid: u32, now: u64) -> (u64, u8) {
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

/// In place of a depth: the goroutine is reading the head of that request, or is done with it.
const READING: u64 = u64::MAX;
const DONE: u64 = u64::MAX - 1;

/// `(*conn).readRequest(ctx)`: R14 is the goroutine. What it allocates from here on is the next request's: its head.
#[uprobe]
pub fn go_read(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *const pt_regs = ctx.regs;
    let tgid = bpf_get_current_pid_tgid() >> 32;
    let task = register!(regs, r14);
    let child = Child {
        request: scope::next_request(),
        root: task,
        // SAFETY: no preconditions.
        born_ns: unsafe { bpf_ktime_get_ns() },
        depth: READING,
    };
    // A full LRU map drops the goroutine that was idle longest; nothing to count.
    let _ = GO_CHILDREN.insert(TaskKey { task, tgid }, &child, 0);
    0
}

/// The request has ended; until its goroutine reads the next head, what it does is still for it.
#[inline(always)]
pub fn done(key: TaskKey, request: u64) {
    let child = Child {
        request,
        root: key.task,
        born_ns: 0,
        depth: DONE,
    };
    // As above.
    let _ = GO_CHILDREN.insert(key, &child, 0);
}

/// The goroutine that a thread runs, given what it runs on: perhaps the stack of its scheduler, where
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

/// The request whose head the goroutine has read, if that was seen; else a new one.
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
    scope::next_request()
}

/// `isSystemGoroutine(gp, fixed)`: RAX. The runtime asks that of each goroutine that it begins and of each
/// that ends, on the stack of the thread's scheduler: a goroutine that is not running yet and one that is.
#[uprobe]
pub fn go_goroutine(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *const pt_regs = ctx.regs;
    // SAFETY: the helper only reads the running program's context.
    let cookie = GoRuntimeCookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) });
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
    if current == task {
        let _ = GO_CHILDREN.remove(key);
        if let Some(pending) = GO_REQUESTS.get_ptr(key) {
            // Its handler panicked, or took the connection over.
            // SAFETY: a map value; only this goroutine's probes touch it.
            http::send(unsafe { &*pending }, tgid, NO_FD, 0, now);
            let _ = GO_REQUESTS.remove(key);
            let _ = TASKS.remove(key);
        }
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
        }
    // SAFETY: as above.
    } else if let Some(above) = unsafe { GO_CHILDREN.get(parent) }
        && above.depth < DEPTH
    {
        Child {
            request: above.request,
            root: above.root,
            born_ns: now,
            depth: above.depth + 1,
        }
    } else {
        // Goroutines are used again: what the last one did is over.
        let _ = GO_CHILDREN.remove(key);
        return 0;
    };
    // A full LRU map drops the goroutine that was idle longest; nothing to count.
    let _ = GO_CHILDREN.insert(key, &child, 0);
    0
}
