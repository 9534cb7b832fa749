//! Page faults of targets: memory that they touch for the first time. They show growth without a probe in the target,
//! for any allocator.
//!
//! Faults are summed here by process and by place; there is no event per fault. Faults in the kernel count as well,
//! because a read system call lets the kernel write first to a buffer.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use heaptide_ebpf::{Counter, FaultKey, FaultTotals};

use crate::{
    maps::{FAULT_SITES, FAULTS, PYTHONS, count, fetch_add},
    python, python_tasks, request, thread,
};

/// Bits of the error code: the page was there, it was written, from user space.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
/// Part of the budget for stacks that one stack uses: the budget refills at 2,000 stacks a second.
const STACK_NS: u64 = 500_000;
/// Largest burst: as many stacks as the budget gains in this time.
const BURST_NS: u64 = 500_000_000;

/// `exceptions:page_fault_user` and `exceptions:page_fault_kernel`.
///
/// Faults at the kernel's own addresses do not count for a target. They concern memory that all processes share, and are
/// never faults for a missing page.
#[raw_tracepoint]
pub fn page_fault(ctx: RawTracePointContext) -> u32 {
    let code: u64 = ctx.arg(2);
    // Other bits are for instruction fetches, protection keys and the like.
    if code & WRITE == 0 || code & !(PRESENT | WRITE | USER) != 0 {
        return 0;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(totals) = FAULTS.get_ptr_mut(tgid) else {
        return 0;
    };
    if code & PRESENT != 0 {
        // SAFETY: a map value, aligned.
        unsafe { fetch_add(&raw mut (*totals).copied, 1) };
        return 0;
    }
    // SAFETY: as above.
    unsafe { fetch_add(&raw mut (*totals).fresh, 1) };
    place(tgid, totals)
}

/// Counts a fresh page for the place that touched it and for the current request.
#[inline(always)]
fn place(tgid: u32, totals: *mut FaultTotals) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    // SAFETY: the helpers return the current task and its saved user registers, which the verifier knows by
    // type and allows to be read.
    let sp = unsafe {
        let task = generated::bpf_get_current_task_btf();
        let regs = generated::bpf_task_pt_regs(task) as *const pt_regs;
        core::ptr::read_volatile(&raw const (*regs).rsp)
    };
    let (mut current, _) = request::at(thread, sp);
    let mut site = 0;
    // SAFETY: entries are plain integers written by user space.
    if let Some(config) = unsafe { PYTHONS.get(tgid) } {
        if let Some(known) = python_tasks::request(config) {
            current = known;
        }
        if is_paid(totals) {
            site = python::site(thread, config);
        } else {
            count(Counter::FaultsUnsampled);
        }
    }
    if site == 0 && current == 0 {
        return 0;
    }
    let key = FaultKey {
        site,
        request: current,
        tgid: u64::from(tgid),
    };
    if let Some(pages) = FAULT_SITES.get_ptr_mut(key) {
        // SAFETY: a map value, aligned.
        unsafe { fetch_add(pages, 1) };
    } else if FAULT_SITES.insert(key, 1, 0).is_err() {
        count(Counter::FaultsFull);
    }
    0
}

/// Whether the budget allows the stack of one more fault. Threads that ask at the same time may get one too many.
#[inline(always)]
fn is_paid(totals: *mut FaultTotals) -> bool {
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a map value; a torn or lost update changes the budget a little.
    unsafe {
        let paid = core::ptr::read_volatile(&raw const (*totals).paid_ns);
        let from = if paid > now { paid } else { now };
        if from - now > BURST_NS {
            return false;
        }
        core::ptr::write_volatile(&raw mut (*totals).paid_ns, from + STACK_NS);
    }
    true
}
