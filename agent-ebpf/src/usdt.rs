//! Allocators that say themselves what they sample: the static probes `otel_memory:alloc` and `:free`.
//!
//! `alloc(pointer, size, weight)`: a block of `size` bytes was chosen and stands for `weight` bytes.
//! `free(pointer)`: such a block is given back. The cookie says where each argument is found.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_ktime_get_ns, bpf_probe_read_user, generated},
    macros::uprobe,
    programs::ProbeContext,
};
use heaptide_ebpf::{Block, BlockKey, Counter, Operand, UsdtCookie, operand, target_flags};

use crate::{
    alloc::{enter, forget, register},
    condition,
    maps::{count, count_in},
    stack::{self, Start},
    thread,
};

/// A block was chosen.
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
    let (request, binding) = thread::request_at(thread, sp);
    // A block of `size` that was kept with this interval stands for `max(size, interval)` bytes.
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

/// It is given back.
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
        // Chosen before heaptide came.
        count_in(thread.slot, Counter::UnknownFrees);
    }
    0
}

#[inline(always)]
fn cookie(ctx: &ProbeContext) -> UsdtCookie {
    // SAFETY: the helper only reads the running program's context.
    UsdtCookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// What an argument is. 0 where it cannot be read.
#[inline(always)]
fn value(regs: *const pt_regs, at: Operand) -> u64 {
    let number = at.register();
    let base = if number == 4 {
        register!(regs, rsp)
    } else {
        condition::register_of(regs, number)
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
