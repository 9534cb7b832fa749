//! Logical tasks and handler scopes: which request is current.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated},
    macros::uprobe,
    programs::ProbeContext,
};
use heaptide_ebpf::{BlockKey, Cookie, Counter, PATH_LEN, RequestRecord, TaskKey, binding, kind};

use crate::{
    alloc::register,
    maps::{EVENTS, LAST_REQUEST, LIVE, TASKS, Thread, count, fetch_add},
    streams, thread,
};

/// A new request id, never 0; 0 only if the map is gone.
#[inline(always)]
pub fn next_request() -> u64 {
    match LAST_REQUEST.get_ptr_mut(0) {
        // SAFETY: a slot of an array map, aligned.
        Some(last) => unsafe { fetch_add(last, 1) + 1 },
        None => 0,
    }
}

/// The running logical task in `TASKS`. Another task in the same memory, later, is another one.
#[inline(always)]
pub fn task_key(thread: &Thread) -> TaskKey {
    TaskKey {
        task: thread.task,
        tgid: u64::from(thread.tgid) | thread.task_born << 32,
    }
}

/// Makes `request` current for the running logical task.
#[inline(always)]
pub fn set_current(thread: &mut Thread, request: u64, fd: u32) {
    if thread.task != 0 {
        // A full LRU map drops the task that was idle longest; nothing to count.
        let _ = TASKS.insert(task_key(thread), request, 0);
    } else if thread.request != 0 && thread.answered == 0 && thread.fd != fd {
        thread.interleaved = 1;
    }
    thread.request = request;
    thread.fd = fd;
    thread.answered = 0;
}

/// No request is current any more for the running logical task.
#[inline(always)]
pub fn clear_current(thread: &mut Thread) {
    if thread.task != 0 {
        let key = task_key(thread);
        if thread.task_born == 0 {
            let _ = TASKS.remove(key);
        } else {
            // Removed, it would inherit again.
            let _ = TASKS.insert(key, 0, 0);
        }
    }
    thread.request = 0;
}

/// How surely a request read now is tied to its logical task.
#[inline(always)]
pub fn binding_of(thread: &Thread) -> u8 {
    if thread.task == 0 && thread.interleaved != 0 {
        binding::INFERRED
    } else {
        binding::EXACT
    }
}

/// A tokio task is polled: its header is the first argument.
///
/// The header is the first thing in a block of its own, which was allocated where the task was spawned:
/// so a task inherits the request of its spawner (`spawn`, `JoinSet`, `spawn_blocking`) wherever that
/// block is tracked.
#[uprobe]
pub fn task_poll(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    // SAFETY: the helper only reads the running program's context.
    let cookie = Cookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) });
    let task = register!(regs, rdi);
    thread.task = task;
    thread.task_sp = register!(regs, rsp).wrapping_add(u64::from(cookie.pushed()));
    let block = BlockKey {
        addr: task,
        space: thread.space,
    };
    // SAFETY: the block of a task that runs is not freed.
    let (born, inherited) = match unsafe { LIVE.get(block) } {
        Some(block) => (block.born_ns, block.request),
        None => (0, 0),
    };
    thread.task_born = born & 0xffff_ffff;
    let key = task_key(thread);
    // SAFETY: a plain integer.
    thread.request = match unsafe { TASKS.get(key) } {
        Some(request) => *request,
        None => inherited,
    };
    0
}

/// A handler named by the user was entered: a request of its own, unless one is current already.
#[uprobe]
pub fn handler_enter(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    // SAFETY: the helper only reads the running program's context.
    let cookie = Cookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) });
    let sp = register!(regs, rsp).wrapping_add(u64::from(cookie.pushed()));
    // Ends the scope of a handler that was left by an exception, too.
    let (request, _) = thread::request_at(thread, sp);
    if request != 0 {
        streams::name(thread, u32::from(cookie.allocator()));
        return 0;
    }
    let request = next_request();
    count(Counter::Requests);
    thread.scope.sp = sp;
    thread.scope.request = request;
    // SAFETY: no preconditions.
    thread.scope.start_ns = unsafe { bpf_ktime_get_ns() };
    thread.scope.handler = u32::from(cookie.allocator());
    thread.scope.active = 1;
    set_current(thread, request, u32::MAX);
    0
}

/// A handler is about to return, or to jump to the function that returns for it. Probes there in place
/// of a return probe, because exceptions and panics cannot be unwound through a return probe: the
/// target would abort.
#[uprobe]
pub fn handler_return(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    if thread.scope.active != 0 && thread.scope.sp == register!(regs, rsp) {
        end(thread);
    }
    0
}

/// The handler under way has ended, and its request with it.
#[inline(never)]
pub fn end(thread: &mut Thread) -> u32 {
    thread.scope.active = 0;
    let scope = thread.scope;
    if thread.request == scope.request {
        clear_current(thread);
    }
    record(thread, scope.request, scope.start_ns, scope.handler, 0)
}

/// Sends the record of a request that was seen by a function's entry and return.
#[inline(never)]
pub fn record(thread: &Thread, request: u64, start_ns: u64, handler: u32, flags: u8) -> u32 {
    let Some(mut entry) = EVENTS.reserve::<RequestRecord>(0) else {
        count(Counter::RequestsLost);
        return 0;
    };
    entry.write(RequestRecord {
        kind: kind::REQUEST,
        tgid: thread.tgid,
        request,
        start_ns,
        // SAFETY: no preconditions.
        end_ns: unsafe { bpf_ktime_get_ns() },
        token: 0,
        head_bytes: 0,
        body_bytes: 0,
        response_bytes: 0,
        tid: bpf_get_current_pid_tgid() as u32,
        fd: -1,
        generation: 0,
        status: 0,
        binding: binding::EXACT,
        flags,
        handler,
        path_len: 0,
        task: thread.task,
        tail: 0,
        tail_filter: 0,
        reserved: 0,
        path: [0; PATH_LEN],
    });
    entry.submit(u64::from(aya_ebpf::bindings::BPF_RB_NO_WAKEUP));
    0
}
