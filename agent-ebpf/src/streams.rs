//! HTTP/2 in Rust: hyper polls each stream as a future in a tokio task of its own, so such a task is a request.
//!
//! Its head is in the layouts of several crates by then, which no version promises: neither path nor token is
//! known.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_ktime_get_ns, generated},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{Cookie, Counter, TaskKey, request_flags};

use crate::{
    alloc::register,
    maps::{Thread, count},
    scope, thread,
};

/// Streams under way, by their task.
#[map]
static STREAMS: LruHashMap<TaskKey, Stream> = LruHashMap::with_max_entries(4_096, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Stream {
    request: u64,
    start_ns: u64,
    handler: u32,
    reserved: u32,
}

/// `<H2Stream as Future>::poll` is entered: the first time, a request begins.
#[uprobe]
pub fn stream_poll(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    if thread.task == 0 {
        return 0;
    }
    // SAFETY: the helper only reads the running program's context.
    let cookie = Cookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) });
    let key = scope::task_key(thread);
    // SAFETY: a map value of plain integers; only this task's probes touch it.
    if let Some(stream) = unsafe { STREAMS.get(key) } {
        thread.request = stream.request;
        return 0;
    }
    let stream = Stream {
        request: scope::next_request(),
        // SAFETY: no preconditions.
        start_ns: unsafe { bpf_ktime_get_ns() },
        handler: u32::from(cookie.allocator()),
        reserved: 0,
    };
    count(Counter::Requests);
    // A full LRU map drops the stream that was idle longest: its request gets no record.
    let _ = STREAMS.insert(key, &stream, 0);
    scope::set_current(thread, stream.request, u32::MAX);
    0
}

/// It is about to return: `Poll` is in AL, and 0 is `Ready`.
#[uprobe]
pub fn stream_done(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    if thread.task == 0 || register!(regs, rax) & 0xff != 0 {
        return 0;
    }
    let key = scope::task_key(thread);
    // SAFETY: as above.
    let Some(stream) = (unsafe { STREAMS.get(key) }) else {
        return 0;
    };
    let stream = *stream;
    let _ = STREAMS.remove(key);
    scope::clear_current(thread);
    let unknown = request_flags::HEAD_CUT;
    scope::record(
        thread,
        stream.request,
        stream.start_ns,
        stream.handler,
        unknown,
    )
}

/// A handler named by the user was entered for the stream that the thread works on: that is its route.
#[inline(always)]
pub fn name(thread: &Thread, handler: u32) {
    if thread.task == 0 {
        return;
    }
    if let Some(stream) = STREAMS.get_ptr_mut(scope::task_key(thread)) {
        // SAFETY: a map value; only this task's probes touch it.
        unsafe { (*stream).handler = handler };
    }
}
