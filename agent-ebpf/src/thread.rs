//! The state of the current thread: found, or made when its process is a target.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use heaptide_ebpf::{Counter, TargetConfig, binding};

use crate::{
    maps::{BLANK_THREAD, TARGETS, THREADS, Thread, count},
    scope,
};

/// The current process's configuration, if it is a target.
#[inline(always)]
pub fn target() -> Option<&'static TargetConfig> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are plain integers written by user space; a torn read is harmless.
    unsafe { TARGETS.get(tgid) }
}

/// The current thread's state; `None` when its process is no target.
#[inline(always)]
pub fn current() -> Option<&'static mut Thread> {
    let id = bpf_get_current_pid_tgid();
    let tid = id as u32;
    if let Some(thread) = THREADS.get_ptr_mut(tid) {
        // SAFETY: only the thread itself touches its entry, and it is in this program.
        return Some(unsafe { &mut *thread });
    }
    create(id)
}

#[inline(never)]
fn create(id: u64) -> Option<&'static mut Thread> {
    let tid = id as u32;
    let tgid = (id >> 32) as u32;
    // SAFETY: as in `target`.
    let config = unsafe { TARGETS.get(tgid) }?;
    let blank = BLANK_THREAD.get_ptr(0)?;
    // SAFETY: a pointer to an array slot that nothing ever writes.
    if THREADS.insert(tid, unsafe { &*blank }, 0).is_err() {
        count(Counter::ThreadsFull);
        return None;
    }
    let thread = THREADS.get_ptr_mut(tid)?;
    // SAFETY: only the thread itself touches its entry, and it is in this program.
    let thread = unsafe { &mut *thread };
    thread.tgid = tgid;
    thread.space = config.space;
    thread.layout = config.layout;
    thread.flags = config.flags;
    thread.interval = config.interval;
    thread.slot = config.slot;
    // The return address of a call at least.
    thread.span = 1;
    Some(thread)
}

/// The request that an action at stack pointer `sp` belongs to, and how surely.
#[inline(always)]
pub fn request_at(thread: &mut Thread, sp: u64) -> (u64, u8) {
    if thread.scope.active != 0 && sp >= thread.scope.sp {
        // The stack is above the handler's entry: it was left by an exception.
        scope::end(thread);
    }
    if thread.task != 0 {
        if sp < thread.task_sp {
            let bound = if thread.request == 0 {
                binding::NONE
            } else {
                binding::EXACT
            };
            return (thread.request, bound);
        }
        // The stack is above the poll's entry: the poll has returned.
        thread.task = 0;
        thread.request = 0;
        return (0, binding::NONE);
    }
    if thread.request == 0 {
        return (0, binding::NONE);
    }
    let bound = if thread.interleaved != 0 {
        binding::INFERRED
    } else {
        binding::EXACT
    };
    (thread.request, bound)
}
