//! Conditional jumps and registers as the processor sees them: whether a jump that is probed will be
//! taken, and what any register holds.

use aya_ebpf::bindings::pt_regs;
use heaptide_ebpf::Cookie;

use crate::alloc::register;

const CARRY: u64 = 1;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/// Whether `condition` (the low four bits of a conditional jump's opcode, or [`Cookie::NONE`] for
/// always) holds with these flags. Parity is never asked for.
#[inline(always)]
pub fn holds(flags: u64, condition: u8) -> bool {
    if condition == Cookie::NONE {
        return true;
    }
    let less = (flags & SIGN != 0) != (flags & OVERFLOW != 0);
    let plain = match (condition >> 1) & 7 {
        0 => flags & OVERFLOW != 0,
        1 => flags & CARRY != 0,
        2 => flags & ZERO != 0,
        3 => flags & (CARRY | ZERO) != 0,
        4 => flags & SIGN != 0,
        6 => less,
        7 => less || flags & ZERO != 0,
        _ => return false,
    };
    plain != (condition & 1 != 0)
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
