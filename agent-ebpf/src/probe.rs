//! What the context of a probe holds: the registers of the probed program and the attach cookie.

use core::ffi::c_void;

use aya_ebpf::{bindings::pt_regs, helpers::generated};

/// Reads a register; volatile, so that the compiler cannot turn a choice between registers into a computed offset
/// into the context, which the verifier refuses.
macro_rules! register {
    ($regs:expr, $name:ident) => {
        // SAFETY: the context of a probe is a valid `pt_regs`, and so are the saved registers of the current task.
        unsafe { core::ptr::read_volatile(&raw const (*$regs).$name) }
    };
}
pub(crate) use register;

/// The attach cookie of the running program, given its context.
#[inline(always)]
pub fn cookie(ctx: *mut c_void) -> u64 {
    // SAFETY: the helper only reads the running program's context.
    unsafe { generated::bpf_get_attach_cookie(ctx) }
}

/// The register of this number, in the processor's order (0 is rax, 1 rcx, .. 15 r15).
#[inline(always)]
pub fn register_of(regs: *const pt_regs, number: u8) -> u64 {
    // All are read first: see `register!`.
    let (rax, rcx, rdx, rbx) = (
        register!(regs, rax),
        register!(regs, rcx),
        register!(regs, rdx),
        register!(regs, rbx),
    );
    let (rbp, rsi, rdi, r8) = (
        register!(regs, rbp),
        register!(regs, rsi),
        register!(regs, rdi),
        register!(regs, r8),
    );
    let (r9, r10, r11, r12) = (
        register!(regs, r9),
        register!(regs, r10),
        register!(regs, r11),
        register!(regs, r12),
    );
    let (r13, r14, r15) = (
        register!(regs, r13),
        register!(regs, r14),
        register!(regs, r15),
    );
    match number {
        0 => rax,
        1 => rcx,
        2 => rdx,
        3 => rbx,
        5 => rbp,
        6 => rsi,
        7 => rdi,
        8 => r8,
        9 => r9,
        10 => r10,
        11 => r11,
        12 => r12,
        13 => r13,
        14 => r14,
        _ => r15,
    }
}
