//! Allocators that sample themselves and report it by the static probes `otel_memory:alloc` and `:free`.
//!
//! `alloc(pointer, size, weight)`: a block of `size` bytes was sampled and represents `weight` bytes.
//! `free(pointer)`: such a block is freed. The cookie tells the location of each argument.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_ktime_get_ns, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};
use heaptide_ebpf::{Block, BlockKey, Counter, Operand, UsdtCookie, operand, target_flags};

use crate::{
    live::{enter, forget},
    maps::{count, count_in},
    probe::{self, register},
    request,
    stack::{self, Start},
    thread,
};

/// A block was sampled.
#[uprobe]
pub fn usdt_alloc(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    if thread.flags & target_flags::ALLOCATIONS == 0 {
        return 0;
    }
    count_in(thread.slot, Counter::AllocHits);
    let regs: *const pt_regs = ctx.regs;
    let cookie = cookie(&ctx);
    let (pointer, size, weight) = (
        value(regs, cookie.operand(0)),
        value(regs, cookie.operand(1)),
        value(regs, cookie.operand(2)),
    );
    if pointer == 0 {
        return 0;
    }
    let sp = register!(regs, rsp);
    let mut site = 0;
    if thread.flags & target_flags::STACKS != 0 {
        let start = Start {
            pc: register!(regs, rip),
            sp,
            bp: register!(regs, rbp),
            exact_pc: 1,
        };
        site = stack::site(thread, &start);
    }
    let (request, binding) = request::at(thread, sp);
    // A block of `size` that was kept with this interval represents `max(size, interval)` bytes.
    let interval = if weight <= size {
        0
    } else if weight >> 32 != 0 {
        u32::MAX
    } else {
        weight as u32
    };
    let block = Block {
        size,
        site,
        request,
        // SAFETY: no preconditions.
        born_ns: unsafe { bpf_ktime_get_ns() },
        interval,
        allocator: cookie.allocator(),
        binding,
        reserved: 0,
    };
    enter(thread, 0, 0, pointer, &block);
    0
}

/// A sampled block is freed.
#[uprobe]
pub fn usdt_free(ctx: ProbeContext) -> u32 {
    let Some(thread) = thread::current() else {
        return 0;
    };
    if thread.flags & target_flags::ALLOCATIONS == 0 {
        return 0;
    }
    count_in(thread.slot, Counter::FreeHits);
    let regs: *const pt_regs = ctx.regs;
    let addr = value(regs, cookie(&ctx).operand(0));
    let key = BlockKey {
        addr,
        space: thread.space,
    };
    if addr != 0 && !forget(key, thread.slot) {
        // Sampled before the attach.
        count_in(thread.slot, Counter::UnknownFrees);
    }
    0
}

#[inline(always)]
fn cookie(ctx: &ProbeContext) -> UsdtCookie {
    UsdtCookie(probe::cookie(ctx.as_ptr()))
}

/// The value of an argument; 0 if it cannot be read.
#[inline(always)]
fn value(regs: *const pt_regs, at: Operand) -> u64 {
    let number = at.register();
    let base = if number == 4 {
        register!(regs, rsp)
    } else {
        probe::register_of(regs, number)
    };
    let shift = i64::from(at.offset()) as u64;
    let whole = match at.kind() {
        operand::REGISTER => base,
        operand::MEMORY => {
            // SAFETY: the helper checks the address.
            match unsafe { bpf_probe_read_user(base.wrapping_add(shift) as *const u64) } {
                Ok(word) => word,
                Err(_) => {
                    count(Counter::ReadFaults);
                    0
                }
            }
        }
        _ => shift,
    };
    if at.is_wide() {
        whole
    } else {
        whole & 0xffff_ffff
    }
}
