//! Logical tasks of Python. A request's code runs in contexts (PEP 567) that are copies of the one in which its head
//! was read, both in tasks and callbacks of asyncio and uvloop and in worker threads.
//!
//! The thread state holds the current context, so only the copying of contexts is probed.

use aya_ebpf::{
    bindings::pt_regs, helpers::bpf_get_current_pid_tgid, macros::uretprobe,
    programs::RetProbeContext,
};
use heaptide_ebpf::{Counter, PythonConfig, TaskKey};

use crate::{
    maps::{PYTHONS, TASKS, Thread, count_in},
    probe::register,
    python, thread,
};

/// Key of a context in `TASKS`.
#[inline(always)]
fn key(context: u64) -> TaskKey {
    TaskKey {
        task: context,
        tgid: bpf_get_current_pid_tgid() >> 32,
    }
}

/// `PyContext_CopyCurrent()` has returned a copy: what runs in it works for the same request.
#[uretprobe]
pub fn python_context(ctx: RetProbeContext) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are plain integers written by user space.
    let Some(config) = (unsafe { PYTHONS.get(tgid) }) else {
        return 0;
    };
    let Some(thread) = thread::current() else {
        return 0;
    };
    count_in(thread.slot, Counter::RequestHits);
    let regs: *const pt_regs = ctx.regs;
    let copy = register!(regs, rax);
    if copy == 0 {
        return 0;
    }
    let current = python::context(config);
    let request = if thread.fresh != 0 {
        // The first copy after a head was read is made by the code that accepts the request. uvloop reads outside
        // of the connection's context, which is known only now.
        if current != 0 && current != thread.fresh_in {
            let _ = TASKS.insert(key(current), thread.fresh, 0);
        }
        let fresh = thread.fresh;
        thread.fresh = 0;
        fresh
    } else {
        known(current).unwrap_or(0)
    };
    // Request 0 is stored too, because the memory of contexts is used again. A full LRU map drops the task that was
    // idle longest; nothing to count.
    let _ = TASKS.insert(key(copy), request, 0);
    0
}

/// The request that a context works for, if that is known.
#[inline(always)]
fn known(context: u64) -> Option<u64> {
    if context == 0 {
        return None;
    }
    // SAFETY: a plain integer.
    unsafe { TASKS.get(key(context)) }.copied()
}

/// The current thread has read the head of `request`.
#[inline(never)]
pub fn began(thread: &mut Thread, request: u64) -> u32 {
    // SAFETY: entries are plain integers written by user space.
    let Some(config) = (unsafe { PYTHONS.get(thread.tgid) }) else {
        return 0;
    };
    let current = python::context(config);
    thread.fresh = request;
    thread.fresh_in = current;
    if current != 0 {
        let _ = TASKS.insert(key(current), request, 0);
    }
    0
}

/// The request that the current context works for; `None`: nothing is known of the context.
#[inline(always)]
pub fn request(config: &PythonConfig) -> Option<u64> {
    known(python::context(config))
}
