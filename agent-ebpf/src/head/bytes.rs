//! Operations on the eight bytes of a word at once.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of `word` that equal `byte`; exact up to the lowest one.
#[inline(always)]
#[must_use]
pub const fn equal(word: u64, byte: u8) -> u64 {
    let x = word ^ (LOW * byte as u64);
    x.wrapping_sub(LOW) & !x & HIGH
}

/// Marks the bytes of `word` that are less than `byte`; exact up to the lowest one.
#[inline(always)]
pub(super) const fn below(word: u64, byte: u64) -> u64 {
    word.wrapping_sub(LOW * byte) & !word & HIGH
}

/// Index of the lowest marked byte.
#[inline(always)]
#[must_use]
pub const fn first(mask: u64) -> u32 {
    let lowest = (mask & mask.wrapping_neg()) >> 7;
    (lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as u32
}

/// The word with its ASCII capitals in lower case.
#[inline(always)]
#[must_use]
pub const fn lower(word: u64) -> u64 {
    let low = word & !HIGH;
    let from_a = low + LOW * (0x80 - b'A' as u64);
    let beyond_z = low + LOW * (0x80 - b'Z' as u64 - 1);
    // 0x80 in each byte that is a capital.
    let capitals = from_a & !beyond_z & !word & HIGH;
    word | capitals >> 2
}
