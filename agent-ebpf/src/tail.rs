//! A keyed fingerprint of the end of a credential, by which it can be found in memory.
//!
//! The window is the last 16 bytes. A credential of fewer than [`LEAST_TOKEN`] bytes, or with a byte beyond ASCII in
//! its window, has none. The kernel programs compute two numbers from it. The agent computes the same two for every
//! position in a target's memory that could be a window:
//!
//! - the *filter*, cheap enough for every position: 24 bits of a multilinear hash with odd keys;
//! - the *fingerprint*, for the positions that pass the filter: SipHash-1-3, from which the bytes cannot be derived.

use crate::sip::Sip;

/// Bytes of a window.
pub const WINDOW: usize = 16;
/// Shorter credentials have no window.
pub const LEAST_TOKEN: usize = WINDOW;
/// Bits of a filter.
pub const FILTER_BITS: u32 = 24;

const BEYOND_ASCII: u64 = 0x8080_8080_8080_8080;

/// Keys of windows, random per start: two for the fingerprint, two odd ones for the filter.
pub type TailKey = [u64; 4];

/// The last two whole words of the part of a credential that was seen; wiped when it ends.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Tail {
    words: [u64; 2],
}

impl Tail {
    /// Starts anew, and wipes the words kept so far.
    #[inline(always)]
    pub fn start(&mut self) {
        self.words = [0; 2];
    }

    /// The next whole word of the credential.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        self.words[0] = self.words[1];
        self.words[1] = word;
    }

    /// The window of a credential of `length` bytes, the last `length % 8` of which are `rest`.
    #[inline(always)]
    #[must_use]
    pub fn window(&self, length: u32, rest: u64) -> Option<[u64; 2]> {
        if length < LEAST_TOKEN as u32 {
            return None;
        }
        let [first, second] = self.words;
        let bits = (length & 7) * 8;
        let window = if bits == 0 {
            [first, second]
        } else {
            [
                first >> bits | second << (64 - bits),
                second >> bits | rest << (64 - bits),
            ]
        };
        if (window[0] | window[1]) & BEYOND_ASCII != 0 {
            return None;
        }
        Some(window)
    }
}

/// The filter of a window: [`FILTER_BITS`] bits.
#[inline(always)]
#[must_use]
pub const fn filter(key: &TailKey, window: [u64; 2]) -> u32 {
    let sum = window[0]
        .wrapping_mul(key[2])
        .wrapping_add(window[1].wrapping_mul(key[3]));
    (sum >> (64 - FILTER_BITS)) as u32
}

/// The fingerprint of a window, never 0.
#[inline(always)]
#[must_use]
pub fn fingerprint(key: &TailKey, window: [u64; 2]) -> u64 {
    let mut sip = Sip::default();
    sip.start(key[0], key[1]);
    sip.word(window[0]);
    sip.word(window[1]);
    match sip.finish(WINDOW as u32) {
        0 => 1,
        hash => hash,
    }
}
