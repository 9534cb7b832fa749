//! Searches bytes for the windows of credentials (`heaptide_ebpf::tail`). Pure.
//!
//! Three filters in sequence: runs of visible characters that are long enough for a window (eight
//! bytes at once), a bitmap of filters (two multiplications per position), the fingerprint. A false
//! match needs the 24 bits of a filter and the 64 of a fingerprint of one window: 2^-88 per position
//! and window, 10^-13 for 10 GB and 16,384 windows.

use std::collections::HashMap;

use heaptide_ebpf::tail::{FILTER_BITS, TailKey, WINDOW, filter, fingerprint};

/// Bytes processed together.
pub(super) const BLOCK: usize = 64;
/// Bits of the bitmap per window: the reciprocal is the rate of false positives.
const SPARSE: usize = 128;
/// The bitmap has at least 2^15 bits.
const LEAST_BITS: u32 = 15;

/// Maximum bytes from the beginning of a text to the window at its end.
const LONGEST_TEXT: usize = 16 << 10;

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// The searchable form of a credential's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Needle {
    /// Its fingerprint.
    pub(super) fingerprint: u64,
    /// Its filter.
    pub(super) filter: u32,
}

/// All windows searched for.
pub(super) struct Search {
    key: TailKey,
    /// Added to seven bits of a byte, it sets the eighth if the byte may be in a credential.
    visible: u64,
    /// Shift that turns a filter into an index of the bitmap.
    shift: u32,
    bitmap: Vec<u64>,
    needles: HashMap<u64, u32>,
}

impl Search {
    /// `least`: the smallest byte value in credentials, the space or the one after it.
    pub(super) fn new(key: TailKey, least: u8, needles: &[Needle]) -> Self {
        let bits = (needles.len().max(1) * SPARSE)
            .next_power_of_two()
            .trailing_zeros()
            .clamp(LEAST_BITS, FILTER_BITS);
        let shift = FILTER_BITS - bits;
        let mut bitmap = vec![0; 1 << (bits - 6)];
        for needle in needles {
            let index = needle.filter >> shift;
            if let Some(word) = bitmap.get_mut(index as usize / 64) {
                *word |= 1 << (index % 64);
            }
        }
        Self {
            key,
            visible: EACH * u64::from(0x80 - least),
            shift,
            bitmap,
            needles: needles
                .iter()
                .map(|needle| (needle.fingerprint, needle.filter))
                .collect(),
        }
    }

    /// Calls `found` with the fingerprint and the place of each window in `bytes`, whose length is a multiple of
    /// [`BLOCK`]; a remainder is ignored.
    pub(super) fn look(&self, bytes: &[u8], found: &mut impl FnMut(u64, usize)) {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        let mut next = blocks.first().map_or(0, |block| self.visible(block));
        for (number, block) in blocks.iter().enumerate() {
            let here = next;
            let after = blocks.get(number + 1);
            next = after.map_or(0, |block| self.visible(block));
            let starts = starts(here, next);
            if starts == 0 {
                continue;
            }
            let mut found = |fingerprint, at| found(fingerprint, number * BLOCK + at);
            // A window may reach into the next block.
            if let Some(both) = bytes[number * BLOCK..].first_chunk() {
                self.places(both, starts, &mut found);
            } else {
                let mut both = [0; 2 * BLOCK];
                both[..BLOCK].copy_from_slice(block);
                self.places(&both, starts, &mut found);
            }
        }
    }

    #[inline]
    fn places(&self, bytes: &[u8; 2 * BLOCK], mut starts: u64, found: &mut impl FnMut(u64, usize)) {
        if starts == u64::MAX {
            for at in 0..BLOCK {
                self.test(bytes, at, found);
            }
            return;
        }
        while starts != 0 {
            let at = starts.trailing_zeros() as usize;
            starts &= starts - 1;
            self.test(bytes, at, found);
        }
    }

    #[inline]
    fn test(&self, bytes: &[u8; 2 * BLOCK], at: usize, found: &mut impl FnMut(u64, usize)) {
        let window = [word(bytes, at), word(bytes, at + 8)];
        let filter = filter(&self.key, window);
        let index = filter >> self.shift;
        let bits = self.bitmap.get(index as usize / 64).copied().unwrap_or(0);
        if bits >> (index % 64) & 1 != 0 {
            self.confirm(window, filter, &mut |fingerprint| found(fingerprint, at));
        }
    }

    #[cold]
    fn confirm(&self, window: [u64; 2], filter: u32, found: &mut impl FnMut(u64)) {
        let fingerprint = fingerprint(&self.key, window);
        if self.needles.get(&fingerprint) == Some(&filter) {
            found(fingerprint);
        }
    }

    /// The first bytes of the text that the window at `at` is the end of, as a needle. `None` if the text is no longer
    /// than the window, if it begins before `from`, or if it is longer than [`LONGEST_TEXT`].
    pub(super) fn beginning(&self, bytes: &[u8], from: usize, at: usize) -> Option<Needle> {
        let least = at.saturating_sub(LONGEST_TEXT).max(from);
        let before = bytes.get(least..at)?;
        let gap = before.iter().rposition(|byte| !self.may_be(*byte))?;
        let start = least + gap + 1;
        if start == at {
            return None;
        }
        let [first, second] = *bytes.get(start..)?.as_chunks::<8>().0.first_chunk()?;
        let window = [first, second].map(u64::from_le_bytes);
        Some(Needle {
            fingerprint: fingerprint(&self.key, window),
            filter: filter(&self.key, window),
        })
    }

    /// Whether a byte may be in a credential.
    fn may_be(&self, byte: u8) -> bool {
        let least = 0x80 - (self.visible & 0xff) as u8;
        (least..0x80).contains(&byte)
    }

    /// Marks the bytes of a block that may be in a credential.
    #[inline]
    fn visible(&self, block: &[u8; BLOCK]) -> u64 {
        let (words, _) = block.as_chunks::<8>();
        let mut mask = 0;
        for (place, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            // No carry crosses a byte: seven bits and at most 0x60 stay below 0x100.
            let marks = (word & LOW_SEVEN).wrapping_add(self.visible) & !word & HIGH;
            // The multiplication gathers the eight marks, one per byte, in one byte.
            let bits = (marks >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            mask |= bits << (8 * place);
        }
        mask
    }
}

/// The ASCII characters of UTF-16 in `bytes` as one byte each, and a zero for each other one. Strings begin at even
/// addresses, so `bytes` must too.
pub(super) fn narrow<'a>(bytes: &[u8], into: &'a mut [u8]) -> &'a [u8] {
    let (pairs, _) = bytes.as_chunks::<2>();
    for (narrow, [low, high]) in into.iter_mut().zip(pairs) {
        let is_ascii = *high == 0 && low.is_ascii();
        *narrow = if is_ascii { *low } else { 0 };
    }
    let whole = pairs.len().next_multiple_of(BLOCK).min(into.len());
    if let Some(rest) = into.get_mut(pairs.len()..whole) {
        rest.fill(0);
    }
    into.get(..whole).unwrap_or_default()
}

/// The positions in `here` at which [`WINDOW`] marked bytes begin.
#[inline]
fn starts(here: u64, next: u64) -> u64 {
    const { assert!(WINDOW == 16, "four doublings") };
    if here == 0 {
        return 0;
    }
    let mut run = u128::from(here) | u128::from(next) << 64;
    run &= run >> 1;
    run &= run >> 2;
    run &= run >> 4;
    run &= run >> 8;
    run as u64
}

#[inline]
fn word(bytes: &[u8; 2 * BLOCK], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests;
