//! Probes of logical tasks (tokio) and of handler functions that the user names.

use aya_ebpf::{
    EbpfContext as _, bindings::pt_regs, helpers::bpf_ktime_get_ns, macros::uprobe,
    programs::ProbeContext,
};
use heaptide_ebpf::{BlockKey, Cookie, Counter};

use crate::{
    maps::{LIVE, TASKS, count, count_in},
    probe::{self, register},
    request, streams, thread,
};

/// A tokio task is polled: its header is the first argument.
///
/// The header begins a heap block of its own, which was allocated where the task was spawned. So a task inherits
/// the request of its spawner (`spawn`, `JoinSet`, `spawn_blocking`) if that block is tracked.
#[uprobe]
pub fn task_poll(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    count_in(thread.slot, Counter::RequestHits);
    let regs: *const pt_regs = ctx.regs;
    let cookie = Cookie(probe::cookie(ctx.as_ptr()));
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
    let key = request::task_key(thread);
    // SAFETY: a plain integer.
    thread.request = match unsafe { TASKS.get(key) } {
        Some(request) => *request,
        None => inherited,
    };
    0
}

/// A handler named by the user was entered: it is a request of its own, unless one is current already.
#[uprobe]
pub fn handler_enter(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    count_in(thread.slot, Counter::RequestHits);
    let regs: *const pt_regs = ctx.regs;
    let cookie = Cookie(probe::cookie(ctx.as_ptr()));
    let sp = register!(regs, rsp).wrapping_add(u64::from(cookie.pushed()));
    // This also ends the scope of a handler that an exception has left.
    let (current, _) = request::at(thread, sp);
    if current != 0 {
        streams::name(thread, u32::from(cookie.allocator()));
        return 0;
    }
    let id = request::next_id();
    count(Counter::Requests);
    thread.scope.sp = sp;
    thread.scope.request = id;
    // SAFETY: no preconditions.
    thread.scope.start_ns = unsafe { bpf_ktime_get_ns() };
    thread.scope.handler = u32::from(cookie.allocator());
    thread.scope.active = 1;
    request::set_current(thread, id, u32::MAX);
    0
}

/// A handler is about to return, or to make a tail call. It is probed there and has no return probe, because
/// exceptions and panics cannot be unwound through a return probe: the target would abort.
#[uprobe]
pub fn handler_return(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    count_in(thread.slot, Counter::RequestHits);
    let regs: *const pt_regs = ctx.regs;
    if thread.scope.active != 0 && thread.scope.sp == register!(regs, rsp) {
        request::end_scope(thread);
    }
    0
}
