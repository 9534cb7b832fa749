//! HTTP/2 in Rust: hyper polls each stream as a future in a tokio task of its own, so such a task is a request.
//!
//! By then the head is spread over structures of several crates whose layouts are not stable, so neither path nor
//! token is known.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::bpf_ktime_get_ns,
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{Cookie, Counter, TaskKey, request_flags};

use crate::{
    maps::{Thread, count, count_in},
    probe::{self, register},
    request, thread,
};

/// Open streams, by their task.
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
    count_in(thread.slot, Counter::RequestHits);
    if thread.task == 0 {
        return 0;
    }
    let cookie = Cookie(probe::cookie(ctx.as_ptr()));
    let key = request::task_key(thread);
    // SAFETY: a map value of plain integers; only this task's probes touch it.
    if let Some(stream) = unsafe { STREAMS.get(key) } {
        thread.request = stream.request;
        return 0;
    }
    let stream = Stream {
        request: request::next_id(),
        // SAFETY: no preconditions.
        start_ns: unsafe { bpf_ktime_get_ns() },
        handler: u32::from(cookie.allocator()),
        reserved: 0,
    };
    count(Counter::Requests);
    // A full LRU map drops the stream that was idle longest: its request gets no record.
    let _ = STREAMS.insert(key, &stream, 0);
    request::set_current(thread, stream.request, u32::MAX);
    0
}

/// `<H2Stream as Future>::poll` is about to return: `Poll` is in AL, and 0 is `Ready`.
#[uprobe]
pub fn stream_done(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    count_in(thread.slot, Counter::RequestHits);
    let regs: *const pt_regs = ctx.regs;
    if thread.task == 0 || register!(regs, rax) & 0xff != 0 {
        return 0;
    }
    let key = request::task_key(thread);
    // SAFETY: as above.
    let Some(stream) = (unsafe { STREAMS.get(key) }) else {
        return 0;
    };
    let stream = *stream;
    let _ = STREAMS.remove(key);
    request::clear_current(thread);
    let unknown = request_flags::HEAD_CUT;
    request::record(
        thread,
        stream.request,
        stream.start_ns,
        stream.handler,
        unknown,
    )
}

/// A handler named by the user was entered for the stream that the thread works on: it becomes the stream's route.
#[inline(always)]
pub fn name(thread: &Thread, handler: u32) {
    if thread.task == 0 {
        return;
    }
    if let Some(stream) = STREAMS.get_ptr_mut(request::task_key(thread)) {
        // SAFETY: a map value; only this task's probes touch it.
        unsafe { (*stream).handler = handler };
    }
}
