//! Process events of targets: fork, exec, exit.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::debug;
use heaptide_ebpf::{Counter, LifeRecord, kind, life, target_flags};

use crate::{
    go,
    maps::{EVENTS, TARGETS, THREADS, count},
    probe, request, thread,
};

/// `sched:sched_process_fork`; the cookie is the offset of `child_pid` in the event, which differs
/// between kernels.
#[tracepoint]
pub fn process_fork(ctx: TracePointContext) -> u32 {
    let Some(config) = thread::target() else {
        return 0;
    };
    let offset = probe::cookie(ctx.as_ptr()) as usize;
    // SAFETY: the offset comes from the event's own format description.
    let Ok(child) = (unsafe { ctx.read_at::<u32>(offset & 0xff) }) else {
        count(Counter::ReadFaults);
        return 0;
    };
    send(life::FORK, child, config.space);
    0
}

/// `sched:sched_process_exec`: the address space was replaced.
#[raw_tracepoint]
pub fn process_exec(ctx: RawTracePointContext) -> u32 {
    let id = bpf_get_current_pid_tgid();
    let Some(config) = TARGETS.get_ptr_mut((id >> 32) as u32) else {
        return 0;
    };
    // SAFETY: a map value; exec has ended all other threads of the process.
    let space = unsafe {
        (*config).space = ((*config).space & !0xffff_ffff) | (((*config).space + 1) & 0xffff_ffff);
        // The new program is not known yet: its allocations are not tracked until user space has inspected it.
        (*config).flags &= !(target_flags::ALLOCATIONS | target_flags::MAPPINGS);
        (*config).space
    };
    let _ = THREADS.remove(id as u32);
    debug!(&ctx, "process {} starts another program", (id >> 32) as u32);
    send(life::EXEC, 0, space);
    0
}

/// `sched:sched_process_exit`: a thread ends, and with the leader the process.
#[raw_tracepoint]
pub fn process_exit(_ctx: RawTracePointContext) -> u32 {
    let id = bpf_get_current_pid_tgid();
    let Some(config) = thread::target() else {
        return 0;
    };
    if let Some(thread) = THREADS.get_ptr_mut(id as u32) {
        // SAFETY: only the thread itself touches its entry, and it is in this program.
        let thread = unsafe { &mut *thread };
        if thread.scope.active != 0 {
            request::end_scope(thread);
        }
    }
    let _ = THREADS.remove(id as u32);
    go::scan::forget_thread(id as u32);
    if id as u32 == (id >> 32) as u32 {
        send(life::EXIT, 0, config.space);
    }
    0
}

#[inline(always)]
fn send(op: u32, child: u32, space: u64) {
    let Some(mut entry) = EVENTS.reserve::<LifeRecord>(0) else {
        count(Counter::RingFull);
        return;
    };
    entry.write(LifeRecord {
        kind: kind::LIFE,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        op,
        child,
        // SAFETY: no preconditions.
        at_ns: unsafe { bpf_ktime_get_ns() },
        space,
        reserved: 0,
    });
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}
