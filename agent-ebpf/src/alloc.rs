//! Allocator probes: one program per call shape; the attach cookie says which arguments mean what.
//!
//! At the entry of an allocation its size and site go on the thread's in-flight stack, and at the return the block
//! enters the live map. At the entry of a free the block leaves the map, before the allocator can hand out the
//! address again.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, pt_regs},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_probe_read_user, generated},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use heaptide_ebpf::{
    Block, BlockKey, Cookie, Counter, INFLIGHT_DEPTH, binding, shape, size_class, target_flags,
    usable_class,
};

use crate::{
    condition, live,
    maps::{BLOCKS_HELD, BLOCKS_SHARE, LIVE, LIVE_BLOCKS, PYTHONS, Thread, count, count_in},
    probe::{self, register},
    python, python_tasks, request, setting, stack, thread,
};

/// The value of an argument; `index` as in [`Cookie`].
#[inline(always)]
fn argument(regs: *const pt_regs, index: u8) -> u64 {
    let (a, b, c, d, e) = (
        register!(regs, rdi),
        register!(regs, rsi),
        register!(regs, rdx),
        register!(regs, rcx),
        register!(regs, rax),
    );
    match index {
        0 => a,
        1 => b,
        2 => c,
        3 => d,
        _ => e,
    }
}

/// Only counts. The least that a probe can cost: the cost of other programs is compared with it.
#[uprobe]
pub fn count_hit(_ctx: ProbeContext) -> u32 {
    count_in(0, Counter::AllocHits);
    0
}

/// An allocating function was entered.
#[uprobe]
pub fn alloc_enter(ctx: ProbeContext) -> u32 {
    entered(ctx.regs);
    0
}

/// An allocating function returned.
#[uretprobe]
pub fn alloc_return(ctx: RetProbeContext) -> u32 {
    returned(ctx.regs);
    0
}

/// Entry and return in one program (Linux 6.13): a return is trapped only when its entry has asked for it.
#[uprobe]
pub fn alloc_session(ctx: ProbeContext) -> u32 {
    let regs: *const pt_regs = ctx.regs;
    // SAFETY: the helper only reads the running program's context.
    let probed = unsafe { generated::bpf_get_func_ip(ctx.as_ptr()) };
    // At a return the instruction pointer is where the function returns to.
    if register!(regs, rip) == probed {
        return u32::from(!entered(ctx.regs));
    }
    returned(ctx.regs);
    0
}

/// Puts a call on the in-flight stack; whether its return is needed.
#[inline(always)]
fn entered(regs: *mut pt_regs) -> bool {
    let Some(thread) = thread::current() else {
        return false;
    };
    if thread.flags & target_flags::ALLOCATIONS == 0 {
        return false;
    }
    count_in(thread.slot, Counter::AllocHits);
    let cookie = Cookie(probe::cookie(regs.cast()));
    let regs: *const pt_regs = regs;
    let sp = register!(regs, rsp).wrapping_add(u64::from(cookie.pushed()));
    let mut size = argument(regs, cookie.size());
    if cookie.factor() != Cookie::NONE {
        let factor = argument(regs, cookie.factor());
        size = product(size, factor);
    }
    let pointer = if cookie.shape() == shape::ALLOC {
        0
    } else {
        argument(regs, cookie.pointer())
    };
    drop_stale(thread, sp);
    if goes_on(thread, sp) {
        return false;
    }
    let (keep, interval) = sample(thread, size);
    let is_realloc = cookie.shape() == shape::REALLOC;
    // A sampled-out realloc still takes its old block out of the map.
    if !keep && (!is_realloc || pointer == 0) {
        count_in(thread.slot, Counter::SampledOut);
        return false;
    }
    let mut site = 0;
    if keep && thread.flags & target_flags::STACKS != 0 {
        if thread.flags & target_flags::OWN_FRAMES != 0 {
            site = own_site(thread);
        }
        if site == 0 {
            site = stack::call_site(thread, sp, register!(regs, rbp));
        }
    }
    let depth = thread.depth as usize;
    if depth >= INFLIGHT_DEPTH {
        count(Counter::InflightFull);
        return false;
    }
    let space = thread.space;
    let frame = &mut thread.inflight[depth];
    frame.sp = sp;
    frame.size = size;
    frame.site = site;
    frame.pointer = pointer;
    frame.cookie = cookie.0;
    frame.nested = 0;
    frame.has_old = 0;
    frame.keep = u32::from(keep);
    frame.interval = interval;
    if is_realloc && pointer != 0 {
        // Removed now, because another thread may get the same address after the call has freed it and before
        // the call returns. If the call fails, the block is entered again.
        let key = BlockKey {
            addr: pointer,
            space,
        };
        // SAFETY: a live block belongs to its owner, who is in this call; nobody removes it.
        if let Some(old) = unsafe { LIVE.get(key) } {
            frame.old = *old;
            if LIVE.remove(key).is_ok() {
                frame.has_old = 1;
                live::changed(-1, thread.slot);
            }
        }
    }
    thread.depth = depth as u32 + 1;
    true
}

/// The site id of the runtime's own frames; 0 when there are none.
#[inline(never)]
fn own_site(thread: &mut Thread) -> u64 {
    // SAFETY: entries are plain integers written by user space.
    match unsafe { PYTHONS.get(thread.tgid) } {
        Some(config) => python::site(thread, config),
        None => 0,
    }
}

/// The request that an allocation at stack pointer `sp` belongs to, and its binding.
#[inline(always)]
fn request_at(thread: &mut Thread, sp: u64) -> (u64, u8) {
    if thread.flags & target_flags::OWN_FRAMES != 0 {
        // SAFETY: as above.
        let config = unsafe { PYTHONS.get(thread.tgid) };
        if let Some(known) = config.and_then(python_tasks::request) {
            let bound = if known == 0 {
                binding::NONE
            } else {
                binding::EXACT
            };
            return (known, bound);
        }
    }
    request::at(thread, sp)
}

/// Removes the call that returns from the in-flight stack and enters its block.
#[inline(always)]
fn returned(regs: *const pt_regs) {
    let Some(thread) = thread::current() else {
        return;
    };
    // The return instruction has popped the return address.
    let sp = register!(regs, rsp).wrapping_sub(8);
    with_result(thread, sp, register!(regs, rax));
}

/// A function that may throw is certain to return now, and its result is known. Such a function must not have a
/// return probe, because an exception cannot be unwound through one.
#[uprobe]
pub fn alloc_result(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    let cookie = Cookie(probe::cookie(ctx.as_ptr()));
    if !condition::holds(register!(regs, eflags), cookie.condition()) {
        return 0;
    }
    let sp = register!(regs, rsp).wrapping_add(u64::from(cookie.pushed()));
    with_result(thread, sp, probe::register_of(regs, cookie.result()));
    0
}

/// The innermost call in flight, whose return address lies at `sp`, has returned `result`.
#[inline(always)]
fn with_result(thread: &mut Thread, sp: u64, result: u64) {
    drop_stale(thread, sp);
    let depth = thread.depth as usize;
    if depth == 0 || depth > INFLIGHT_DEPTH {
        return;
    }
    let index = (depth - 1) & (INFLIGHT_DEPTH - 1);
    if thread.inflight[index].sp != sp {
        return;
    }
    thread.depth = index as u32;
    let frame = &thread.inflight[index];
    let cookie = Cookie(frame.cookie);
    let pointer = if cookie.shape() == shape::ALLOC_OUT {
        if result != 0 {
            return;
        }
        // SAFETY: the helper checks the address.
        match unsafe { bpf_probe_read_user(frame.pointer as *const u64) } {
            Ok(pointer) => pointer,
            Err(_) => {
                count(Counter::ReadFaults);
                return;
            }
        }
    } else {
        result
    };
    if pointer == 0 {
        // `realloc(p, 0)` frees and returns null; every other null of a realloc is a failure.
        if frame.has_old != 0 && frame.size != 0 {
            let key = BlockKey {
                addr: frame.pointer,
                space: thread.space,
            };
            match LIVE.insert(key, &frame.old, u64::from(BPF_ANY)) {
                Ok(()) => live::changed(1, thread.slot),
                Err(_) => count(Counter::MapFull),
            }
        }
        return;
    }
    if frame.keep == 0 {
        return;
    }
    let (request, bound) = request_at(thread, sp);
    let born_ns = birth(thread);
    let frame = &thread.inflight[index];
    let nested = frame.nested;
    let block = Block {
        size: frame.size,
        site: frame.site,
        request,
        born_ns,
        interval: frame.interval,
        allocator: cookie.allocator(),
        binding: bound,
        reserved: 0,
    };
    live::enter(thread, index, nested, pointer, &block);
}

/// Birth time of a block. The clock is read once per kernel tick, because each reading costs the target time and
/// ages are given in seconds. Within a tick the time grows by one per block, so that blocks at the same address
/// differ.
#[inline(always)]
fn birth(thread: &mut Thread) -> u64 {
    // SAFETY: no preconditions.
    let tick = unsafe { generated::bpf_jiffies64() };
    if thread.tick != tick {
        thread.tick = tick;
        // SAFETY: no preconditions.
        thread.born_ns = unsafe { bpf_ktime_get_ns() };
    }
    thread.born_ns += 1;
    thread.born_ns
}

/// A freeing function was entered.
#[uprobe]
pub fn free(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    if thread.flags & target_flags::ALLOCATIONS == 0 {
        return 0;
    }
    count_in(thread.slot, Counter::FreeHits);
    let regs: *const pt_regs = ctx.regs;
    let cookie = Cookie(probe::cookie(ctx.as_ptr()));
    let addr = argument(regs, cookie.pointer());
    if addr == 0 {
        return 0;
    }
    let key = BlockKey {
        addr,
        space: thread.space,
    };
    if live::forget(key, thread.slot) {
        return 0;
    }
    // `realloc(p, 0)` calls free on a block that the entry of realloc has already removed.
    let depth = thread.depth as usize;
    if depth != 0 {
        let outer = &thread.inflight[(depth - 1) & (INFLIGHT_DEPTH - 1)];
        if outer.pointer == addr && outer.has_old != 0 {
            return 0;
        }
    }
    count_in(thread.slot, Counter::UnknownFrees);
    live::returned(thread.space, size_of_block(regs, cookie, addr));
    0
}

/// The size class of a block that is freed, 0 if the allocator does not say it.
#[inline(always)]
fn size_of_block(regs: *const pt_regs, cookie: Cookie, addr: u64) -> u32 {
    if cookie.size() != Cookie::NONE {
        return size_class(argument(regs, cookie.size()));
    }
    if !cookie.has_header() {
        return 0;
    }
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(addr.wrapping_sub(8) as *const u64) } {
        // The low three bits are flags, and the word itself is part of the chunk.
        Ok(word) if word >= 32 => usable_class((word & !7) - 8),
        _ => 0,
    }
}

/// Drops calls that can no longer return, because the stack pointer is above them (longjmp, or the id of a killed
/// thread was used again).
#[inline(always)]
fn drop_stale(thread: &mut Thread, sp: u64) {
    for _ in 0..INFLIGHT_DEPTH {
        let depth = thread.depth as usize;
        if depth == 0 || depth > INFLIGHT_DEPTH {
            return;
        }
        if thread.inflight[(depth - 1) & (INFLIGHT_DEPTH - 1)].sp >= sp {
            return;
        }
        thread.depth = depth as u32 - 1;
        if !Cookie(thread.inflight[(depth - 1) & (INFLIGHT_DEPTH - 1)].cookie).throws() {
            count(Counter::MissedReturns);
        }
    }
}

/// Whether the call at `sp` is in flight already: its function has made a tail call to another allocator function.
/// Then the arguments of the first function count.
#[inline(always)]
fn goes_on(thread: &mut Thread, sp: u64) -> bool {
    let depth = thread.depth as usize;
    if depth == 0 || depth > INFLIGHT_DEPTH {
        return false;
    }
    let top = &thread.inflight[(depth - 1) & (INFLIGHT_DEPTH - 1)];
    if top.sp != sp {
        return false;
    }
    if Cookie(top.cookie).throws() {
        // It may have thrown, and this is the next call from the same stack depth.
        thread.depth = depth as u32 - 1;
        return false;
    }
    true
}

/// Whether a block of `size` is kept, and the sampling interval of that decision.
///
/// A block is kept with probability `min(1, size / interval)` and weighted by the inverse. So sums of bytes and of
/// blocks stay unbiased when the interval changes.
#[inline(always)]
fn sample(thread: &Thread, size: u64) -> (bool, u32) {
    let mut interval = thread.interval;
    let from = u64::from(setting!(sample_from));
    if let Some(live) = LIVE_BLOCKS.get_ptr(0) {
        // SAFETY: a slot of an array map; a value that is slightly out of date is good enough here.
        let live = unsafe { core::ptr::read_volatile(live) };
        if live >= from && exceeds_share(thread.slot) {
            // The interval doubles with every sixteenth of the remaining room, so that the map never fills up.
            let room = u64::from(setting!(capacity)).wrapping_sub(from);
            let step = ((live.wrapping_sub(from) << 4) / (room | 1)) & 0x1f;
            let filling = 256u32 << if step > 20 { 20 } else { step as u32 };
            if filling > interval {
                interval = filling;
            }
        }
    }
    if u64::from(interval) <= size || interval == 0 {
        return (true, 0);
    }
    // SAFETY: no preconditions.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    ((random * u64::from(interval)) >> 32 < size, interval)
}

/// Whether a target holds more than its share of the live map. A target within its share is not sampled because of
/// others.
#[inline(always)]
fn exceeds_share(slot: u32) -> bool {
    match (BLOCKS_HELD.get_ptr(slot), BLOCKS_SHARE.get_ptr(0)) {
        // SAFETY: slots of array maps; slightly outdated values are acceptable.
        (Some(held), Some(share)) => unsafe {
            // Between a correction and earlier frees the count may be negative.
            core::ptr::read_volatile(held) as i64 >= core::ptr::read_volatile(share) as i64
        },
        _ => true,
    }
}

/// `nmemb * size`. The allocator refuses products beyond 2^64, so any huge value will do for those. The check
/// avoids a 128-bit multiplication, which BPF does not have.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    let fits = large >> 32 == 0 || (small >> 16 == 0 && large >> 48 == 0);
    if fits { small * large } else { u64::MAX }
}
