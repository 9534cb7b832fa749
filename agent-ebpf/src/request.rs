//! The current request of a thread or logical task, and the record of a request that a function call delimits.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use heaptide_ebpf::{Counter, PATH_LEN, RequestRecord, TaskKey, binding, kind};

use crate::maps::{EVENTS, LAST_REQUEST, TASKS, Thread, count, fetch_add};

/// A new request id, never 0; 0 only if the map is gone.
#[inline(always)]
pub fn next_id() -> u64 {
    match LAST_REQUEST.get_ptr_mut(0) {
        // SAFETY: a slot of an array map, aligned.
        Some(last) => unsafe { fetch_add(last, 1) + 1 },
        None => 0,
    }
}

/// Key of the running logical task in `TASKS`. It holds the birth of the task's memory, so that a later task at the
/// same address has another key.
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

/// The running logical task has no current request any more.
#[inline(always)]
pub fn clear_current(thread: &mut Thread) {
    if thread.task != 0 {
        let key = task_key(thread);
        if thread.task_born == 0 {
            let _ = TASKS.remove(key);
        } else {
            // Without an entry the task would inherit the request of its spawner again.
            let _ = TASKS.insert(key, 0, 0);
        }
    }
    thread.request = 0;
}

/// How a request that is read now is bound to its logical task, one of [`binding`].
#[inline(always)]
pub fn binding_of(thread: &Thread) -> u8 {
    if thread.task == 0 && thread.interleaved != 0 {
        binding::INFERRED
    } else {
        binding::EXACT
    }
}

/// The request that an action at stack pointer `sp` belongs to, and its binding, one of [`binding`].
#[inline(always)]
pub fn at(thread: &mut Thread, sp: u64) -> (u64, u8) {
    if thread.scope.active != 0 && sp >= thread.scope.sp {
        // The stack pointer is above the handler's entry: an exception has left the handler.
        end_scope(thread);
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
        // The stack pointer is above the poll's entry: the poll has returned.
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

/// The handler scope of the thread has ended, and its request with it.
#[inline(never)]
pub fn end_scope(thread: &mut Thread) -> u32 {
    thread.scope.active = 0;
    let scope = thread.scope;
    if thread.request == scope.request {
        clear_current(thread);
    }
    record(thread, scope.request, scope.start_ns, scope.handler, 0)
}

/// Sends the record of a request that was observed by the entry and return of a function.
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
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    0
}
