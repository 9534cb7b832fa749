//! Whether a conditional jump that is probed will be taken.

use heaptide_ebpf::Cookie;

const CARRY: u64 = 1;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/// Whether `condition` holds with these flags: the low four bits of a conditional jump's opcode, or
/// [`Cookie::NONE`] for always. Conditions on parity are not supported; user space never asks for one.
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
