//! Site ids: hashes of call stacks, computed in kernel and user space, and Python frames packed into one word.

/// Set in a provisional site id, whose stack was copied for unwinding in user space. The id belongs to that one
/// allocation, and becomes an alias of the final site once user space has unwound the copy.
pub const SITE_PROVISIONAL: u64 = 1 << 63;

/// The site id of a stack of return addresses, innermost first, in a layout. Kernel and user space compute it.
#[must_use]
pub fn site_hash(layout: u32, frames: &[u64]) -> u64 {
    let mut hash = SITE_SEED ^ u64::from(layout);
    for frame in frames {
        hash = site_step(hash, *frame);
    }
    hash & !SITE_PROVISIONAL
}

/// Start of [`site_hash`].
pub const SITE_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of [`site_hash`].
#[inline(always)]
#[must_use]
pub const fn site_step(hash: u64, frame: u64) -> u64 {
    (hash ^ frame)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

/// Set in [`crate::Stack::layout`] of a stack of Python frames: its entries are those of [`python_frame`].
pub const PYTHON_LAYOUT: u32 = 1 << 31;

/// A frame of Python code in one word: the address of its code object, which is a multiple of 16, and the index
/// of its current instruction. An index that does not fit is replaced by the largest that does.
#[inline(always)]
#[must_use]
pub const fn python_frame(code: u64, instruction: u64) -> u64 {
    let most = (1 << 20) - 1;
    let instruction = if instruction > most {
        most
    } else {
        instruction
    };
    (code >> 4 << 20 | instruction) & !SITE_PROVISIONAL
}

/// Code object and instruction of a [`python_frame`].
#[must_use]
pub const fn python_place(frame: u64) -> (u64, u64) {
    (frame >> 20 << 4, frame & ((1 << 20) - 1))
}
