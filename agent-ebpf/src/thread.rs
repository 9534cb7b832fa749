//! The current process's configuration and the current thread's state, which is created when first needed.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use heaptide_ebpf::{Counter, TargetConfig};

use crate::maps::{BLANK_THREAD, TARGETS, THREADS, Thread, count};

/// The current process's configuration, if it is a target.
#[inline(always)]
pub fn target() -> Option<&'static TargetConfig> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are plain integers. User space may replace one while it is read; a mixture of two
    // configurations affects at most the records of this one event, because nothing in them is used as an address
    // or an unchecked index.
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
    // At least the return address of a call.
    thread.span = 1;
    Some(thread)
}
