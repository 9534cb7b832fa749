//! Samples of Go's heap: the first object of each span that a processor begins to allocate from.
//!
//! A span holds objects of one size. The first object that is allocated from it represents all that the span has room
//! for. This is a sample by bytes that costs one probe per 8 KiB or so, not one per allocation. Nothing is written
//! into the target and no profile is switched on. User space reads from the collector's bitmaps whether the object is
//! still alive.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_NO_WAKEUP, pt_regs},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_probe_read_user,
    },
    macros::uprobe,
    programs::ProbeContext,
};
use heaptide_ebpf::{
    Counter, GoBlockRecord, GoRuntimeCookie, TargetConfig, binding as bindings, kind, target_flags,
};

use super::tasks::{on_behalf_of, request_of};
use crate::{
    maps::{EVENTS, count},
    probe::{self, register},
    request as requests, stack, thread,
    user::words,
};

/// Words of `runtime.mspan` that are looked at; the same from Go 1.22 on. In 1.21 two counters have a word each: what is
/// behind them lies one word further.
const SPAN_WORDS: usize = 14;
/// `mSpanInUse`.
const IN_USE: u64 = 1;

/// The fields of a span that are used here.
struct Span {
    address: u64,
    start: u64,
    /// Index of the next object.
    free: u64,
    objects: u64,
    /// Bit 0 is for the object at `free`; 1: it is not in use.
    cache: u64,
    sweep: u32,
    allocated: u64,
    /// `allocated` when a processor took the span.
    before: u64,
    class: u64,
    size: u64,
}

#[inline(always)]
fn span(address: u64, cookie: GoRuntimeCookie) -> Option<Span> {
    let wide = cookie.wide();
    let from = if wide {
        address.wrapping_add(8)
    } else {
        address
    };
    let words: [u64; SPAN_WORDS] = words(from)?;
    if words[12] >> 24 & 0xff != IN_USE {
        return None;
    }
    Some(Span {
        address,
        start: if wide { words[2] } else { words[3] },
        free: if wide { words[5] } else { words[6] & 0xffff },
        objects: if wide {
            words[6]
        } else {
            words[6] >> 16 & 0xffff
        },
        cache: words[7],
        sweep: words[11] as u32,
        allocated: words[12] & 0xffff,
        before: words[12] >> 48 & 0xffff,
        class: words[12] >> 16 & 0xff,
        size: words[13],
    })
}

/// The configuration of the current process, when its allocations are followed.
#[inline(always)]
fn watched() -> Option<&'static TargetConfig> {
    let config = thread::target()?;
    (config.flags & target_flags::ALLOCATIONS != 0).then_some(config)
}

#[inline(always)]
fn cookie(ctx: &ProbeContext) -> GoRuntimeCookie {
    GoRuntimeCookie(probe::cookie(ctx.as_ptr()))
}

/// `(*mspan).nextFreeIndex()`: RAX. Called when the 64 objects in a processor's cache are used up, and when it has
/// just taken another span.
#[uprobe]
pub fn go_next_free(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else {
        return 0;
    };
    count(Counter::AllocHits);
    let regs: *const pt_regs = ctx.regs;
    let Some(span) = span(register!(regs, rax), cookie(&ctx)) else {
        return 0;
    };
    if span.allocated != span.before || span.cache == 0 {
        return 0;
    }
    let index = span.free + u64::from(span.cache.trailing_zeros());
    if index >= span.objects {
        return 0;
    }
    let room = (span.objects - span.allocated) * span.size;
    let addr = span.start + index * span.size;
    take(config, &ctx, &span, addr, room);
    0
}

/// `(*mspan).initHeapBits()`: RAX. Called for each new span. A span of class 0 holds a single large object, which is
/// sampled here.
#[uprobe]
pub fn go_large(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else {
        return 0;
    };
    count(Counter::AllocHits);
    let regs: *const pt_regs = ctx.regs;
    if let Some(span) = span(register!(regs, rax), cookie(&ctx))
        && span.class >> 1 == 0
    {
        take(config, &ctx, &span, span.start, span.size);
    }
    0
}

/// Sends an object that represents `room` bytes.
#[inline(always)]
fn take(config: &TargetConfig, ctx: &ProbeContext, span: &Span, addr: u64, room: u64) {
    let regs: *const pt_regs = ctx.regs;
    let wanted = u64::from(config.interval);
    let mut interval = if room > u64::from(u32::MAX) {
        u64::from(u32::MAX)
    } else {
        room
    };
    if wanted > interval {
        // SAFETY: no preconditions.
        let random = u64::from(unsafe { bpf_get_prandom_u32() });
        if (random * wanted) >> 32 >= interval {
            count(Counter::SampledOut);
            return;
        }
        interval = wanted;
    }
    let Some(thread) = thread::current() else {
        return;
    };
    let mut site = 0;
    if config.flags & target_flags::STACKS != 0 {
        let sp = register!(regs, rsp);
        // SAFETY: the helper checks the address.
        match unsafe { bpf_probe_read_user(sp as *const u64) } {
            Ok(pc) => site = stack::by_frame_pointers(thread, pc, register!(regs, rbp)),
            Err(_) => count(Counter::ReadFaults),
        }
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let running = register!(regs, r14);
    let (mut request, mut binding) = request_of(running, tgid, now, config.space);
    if config.flags & target_flags::GO_REQUESTS == 0 {
        // Requests are observed by system calls: the current request of the thread is the best guess.
        (request, _) = requests::at(thread, register!(regs, rsp));
        binding = if request == 0 {
            bindings::NONE
        } else {
            bindings::INFERRED
        };
    } else if request == 0 {
        (request, binding) =
            request_of(on_behalf_of(running, cookie(ctx)), tgid, now, config.space);
    }
    let Some(mut entry) = EVENTS.reserve::<GoBlockRecord>(0) else {
        count(Counter::RingFull);
        return;
    };
    entry.write(GoBlockRecord {
        kind: kind::GO_BLOCK,
        tgid,
        addr,
        span: span.address,
        size: span.size,
        site,
        request,
        born_ns: now,
        interval: interval as u32,
        sweep: span.sweep,
        space: config.space,
        binding: u32::from(binding),
        slots: (span.allocated << 16 | (span.objects - span.allocated) & 0xffff) as u32,
    });
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    count(Counter::Tracked);
}
