//! Allocator probes: one program per call shape; the attach cookie says which arguments mean what.
//!
//! Entry: size and site go on the thread's in-flight stack. Return: the block enters the live map.
//! Free: the block leaves it, before the allocator can hand the address out again.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_NOEXIST, pt_regs},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_probe_read_user, generated},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use heaptide_ebpf::{Block, BlockKey, Cookie, Counter, INFLIGHT_DEPTH, shape, target_flags};

use crate::{
    condition,
    maps::{LIVE, LIVE_BLOCKS, Thread, count, count_in, fetch_add},
    setting, stack, thread,
};

const EEXIST: i32 = -17;

/// Reads a register; volatile, so that the compiler cannot turn a choice between registers into a
/// computed offset into the context, which the verifier refuses.
macro_rules! register {
    ($regs:expr, $name:ident) => {
        // SAFETY: the context of a probe is a valid `pt_regs`.
        unsafe { core::ptr::read_volatile(&raw const (*$regs).$name) }
    };
}
pub(crate) use register;

/// What an argument's register holds; `index` as in [`Cookie`].
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

/// The attach cookie of the running probe.
#[inline(always)]
fn cookie(ctx: *mut core::ffi::c_void) -> Cookie {
    // SAFETY: the helper only reads the running program's context.
    Cookie(unsafe { generated::bpf_get_attach_cookie(ctx) })
}

/// Counts: the floor that every other program's cost is compared with.
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

/// Both in one (Linux 6.13): a return is trapped only where its entry has asked for it.
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

/// Puts a call on the in-flight stack; whether its return matters.
#[inline(always)]
fn entered(regs: *mut pt_regs) -> bool {
    let Some(thread) = thread::current() else {
        return false;
    };
    if thread.flags & target_flags::ALLOCATIONS == 0 {
        return false;
    }
    count_in(thread.slot, Counter::AllocHits);
    let cookie = cookie(regs.cast());
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
        site = stack::call_site(thread, sp, register!(regs, rbp));
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
        // Taken out now: once the call has freed it another thread may get the same address before
        // this call returns. It goes back if the call fails.
        let key = BlockKey {
            addr: pointer,
            space,
        };
        // SAFETY: a live block belongs to its owner, who is in this call; nobody removes it.
        if let Some(old) = unsafe { LIVE.get(key) } {
            frame.old = *old;
            if LIVE.remove(key).is_ok() {
                frame.has_old = 1;
                live_changed(-1);
            }
        }
    }
    thread.depth = depth as u32 + 1;
    true
}

/// Takes the call that returns off the in-flight stack and enters its block.
#[inline(always)]
fn returned(regs: *const pt_regs) {
    let Some(thread) = thread::current() else {
        return;
    };
    // The return instruction has taken the return address off the stack.
    let sp = register!(regs, rsp).wrapping_sub(8);
    with_result(thread, sp, register!(regs, rax));
}

/// A function that may throw is certain to return, and its result is known: such a function must
/// have no return probe, because no exception can be unwound through that.
#[uprobe]
pub fn alloc_result(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    let cookie = cookie(ctx.as_ptr());
    if !condition::holds(register!(regs, eflags), cookie.condition()) {
        return 0;
    }
    let sp = register!(regs, rsp).wrapping_add(u64::from(cookie.pushed()));
    with_result(thread, sp, condition::register_of(regs, cookie.result()));
    0
}

/// The innermost call under way, whose return address lies at `sp`, has returned `result`.
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
                Ok(()) => live_changed(1),
                Err(_) => count(Counter::MapFull),
            }
        }
        return;
    }
    if frame.keep == 0 {
        return;
    }
    let (request, binding) = thread::request_at(thread, sp);
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
        binding,
        reserved: 0,
    };
    enter(thread, index, nested, pointer, &block);
}

/// When a block is born. The clock is read once in a tick of the kernel, because each reading costs the target and
/// ages are told in seconds. Within a tick a number that grows tells blocks apart that get the same address.
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
    let addr = argument(regs, cookie(ctx.as_ptr()).pointer());
    if addr == 0 {
        return 0;
    }
    let key = BlockKey {
        addr,
        space: thread.space,
    };
    if forget(key, thread.slot) {
        return 0;
    }
    // `realloc(p, 0)` calls free on a block that its entry has already taken out.
    let depth = thread.depth as usize;
    if depth != 0 {
        let outer = &thread.inflight[(depth - 1) & (INFLIGHT_DEPTH - 1)];
        if outer.pointer == addr && outer.has_old != 0 {
            return 0;
        }
    }
    count_in(thread.slot, Counter::UnknownFrees);
    0
}

/// Takes a block that is freed out of the live map; whether it was there.
#[inline(always)]
pub(crate) fn forget(key: BlockKey, slot: u32) -> bool {
    let known = LIVE.remove(key).is_ok();
    if known {
        live_changed(-1);
        count_in(slot, Counter::Freed);
    }
    known
}

/// Enters `block` in the live map.
#[inline(always)]
pub(crate) fn enter(thread: &mut Thread, index: usize, nested: u64, pointer: u64, block: &Block) {
    let key = BlockKey {
        addr: pointer,
        space: thread.space,
    };
    match LIVE.insert(key, block, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            live_changed(1);
            count_in(thread.slot, Counter::Tracked);
        }
        Err(EEXIST) => {
            // A nested call of this one entered it (reallocarray over realloc), or its free was missed.
            if nested != pointer {
                count(Counter::LostFrees);
                count_in(thread.slot, Counter::Tracked);
            }
            if LIVE.insert(key, block, u64::from(BPF_ANY)).is_err() {
                count(Counter::MapFull);
            }
        }
        Err(_) => count(Counter::MapFull),
    }
    if index > 0 {
        thread.inflight[(index - 1) & (INFLIGHT_DEPTH - 1)].nested = pointer;
    }
}

/// Drops calls that can no longer return: the stack is above them (longjmp, a killed thread whose id
/// came back).
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

/// The call at `sp` is one that is under way already: its function has jumped to another one that
/// returns in its place. What the caller asked for counts.
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
        // Perhaps it has thrown, and this is the next call from the same depth.
        thread.depth = depth as u32 - 1;
        return false;
    }
    true
}

/// Whether a block of `size` is kept, and the interval that was asked.
///
/// A block is kept with probability `min(1, size / interval)` and stands for the inverse, which keeps
/// sums of bytes and of blocks unbiased whatever the interval does over time.
#[inline(always)]
fn sample(thread: &Thread, size: u64) -> (bool, u32) {
    let mut interval = thread.interval;
    let from = u64::from(setting!(sample_from));
    if let Some(live) = LIVE_BLOCKS.get_ptr(0) {
        // SAFETY: a slot of an array map; a value that is off by a few is good enough here.
        let live = unsafe { core::ptr::read_volatile(live) };
        if live >= from {
            // Doubles with every sixteenth of the room that is left, so that it is never used up.
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

/// `nmemb * size` as the allocator sees it. Products beyond 2^64 make it fail, so any huge value will
/// do for those; the check avoids a 128-bit multiplication, which BPF does not have.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    let fits = large >> 32 == 0 || (small >> 16 == 0 && large >> 48 == 0);
    if fits { small * large } else { u64::MAX }
}

/// Keeps count of the entries in the live map.
#[inline(always)]
fn live_changed(by: i64) {
    if let Some(live) = LIVE_BLOCKS.get_ptr_mut(0) {
        // SAFETY: a slot of an array map, aligned.
        unsafe { fetch_add(live, by as u64) };
    }
}
