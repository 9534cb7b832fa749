//! Live blocks, their call stacks, and the rules by which the kernel programs unwind stacks.

use super::{layout::records, limits::MAX_FRAMES};

records! {
    /// Key of the live map: an address within one address space.
    BlockKey = 16 {
        /// Address the allocator returned.
        addr: u64,
        /// Address space, `tgid << 32 | generation`; the generation grows with every exec.
        space: u64,
    }
    /// A live block.
    Block = 40 {
        /// Requested bytes.
        size: u64,
        /// Site id: a hash of the call stack, see [`crate::SITE_PROVISIONAL`].
        site: u64,
        /// Request that was current at birth, 0 for none.
        request: u64,
        /// Birth, `CLOCK_MONOTONIC` nanoseconds.
        born_ns: u64,
        /// Sampling interval T in bytes at birth: the block was kept with probability
        /// `min(1, size / T)`, so it represents `max(1, T / size)` blocks. 0: everything is kept.
        interval: u32,
        /// Row of the allocator table.
        allocator: u8,
        /// One of [`crate::binding`].
        binding: u8,
        /// Zero.
        reserved: u16,
    }
    /// Key of the frees of blocks that are not in the live map: they are older than the probes.
    ReturnedKey = 16 {
        /// Address space.
        space: u64,
        /// Size of the block, see [`usable_class`]; 0: the allocator does not say it.
        size: u32,
        /// Zero.
        reserved: u32,
    }
    /// A call stack, by site id.
    Stack = 272 {
        /// Return addresses, innermost first; unused entries are 0.
        frames: [u64; MAX_FRAMES],
        /// Process it was seen in.
        tgid: u32,
        /// Used entries of `frames`.
        depth: u32,
        /// 1: unwinding stopped before the outermost frame because a rule was missing.
        truncated: u32,
        /// Address-space layout the addresses belong to, see [`crate::TargetConfig`].
        layout: u32,
    }
    /// Key of the unwind-rule map: a return address in a layout.
    RuleKey = 16 {
        /// Return address.
        pc: u64,
        /// Layout id.
        layout: u64,
    }
    /// How to leave the frame that a return address lies in (one row of `.eh_frame`, x86-64).
    UnwindRule = 8 {
        /// Offset from the CFA register to the canonical frame address.
        cfa_offset: i32,
        /// Offset from the CFA to the saved `rbp`; 0: `rbp` is unchanged.
        rbp_offset: i16,
        /// One of [`rule`].
        kind: u8,
        /// Zero.
        reserved: u8,
    }
}

/// `kind` of [`UnwindRule`].
pub mod rule {
    /// CFA = rsp + offset.
    pub const SP: u8 = 1;
    /// CFA = rbp + offset.
    pub const BP: u8 = 2;
    /// The outermost frame: stop here.
    pub const END: u8 = 3;
    /// The frame has no rule that the kernel can apply: stop here, the stack is truncated.
    pub const UNKNOWN: u8 = 4;
}

/// The size class of a block for which `requested` bytes were asked: the class of the bytes that glibc makes of them
/// (a header of 8 bytes, steps of 16, at least 24 bytes).
#[must_use]
pub const fn size_class(requested: u64) -> u32 {
    let chunk = requested.saturating_add(8 + 15) & !15;
    usable_class(if chunk < 32 { 24 } else { chunk - 8 })
}

/// The size class of a block with so many usable bytes: the bytes themselves, from 1 KiB on rounded down to three
/// significant bits, so that there are few classes.
#[must_use]
pub const fn usable_class(usable: u64) -> u32 {
    if usable < 1024 {
        return usable as u32;
    }
    if usable >> 32 != 0 {
        return u32::MAX;
    }
    let low = 61 - usable.leading_zeros();
    ((usable >> low) << low) as u32
}
