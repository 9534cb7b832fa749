//! SipHash-1-3 of a text that arrives in pieces. The state is five words, small enough for a map value.

/// The hash of the part read so far.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sip {
    v: [u64; 4],
    /// Bytes that do not fill a word yet.
    tail: u64,
}

impl Sip {
    /// Starts anew.
    #[inline(always)]
    pub fn start(&mut self, k0: u64, k1: u64) {
        self.v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        self.tail = 0;
    }

    /// Eight bytes; the length so far is a multiple of eight.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        compress(&mut self.v, word);
    }

    /// One byte, the one after `length` bytes; returns the word that it completes.
    #[inline(always)]
    pub fn byte(&mut self, length: u32, byte: u64) -> Option<u64> {
        let filled = length & 7;
        self.tail |= byte << (filled * 8);
        if filled != 7 {
            return None;
        }
        let whole = self.tail;
        compress(&mut self.v, whole);
        self.tail = 0;
        Some(whole)
    }

    /// The bytes that do not fill a word yet.
    #[inline(always)]
    #[must_use]
    pub fn rest(&self) -> u64 {
        self.tail
    }

    /// The hash of all `length` bytes.
    #[inline(always)]
    #[must_use]
    pub fn finish(&self, length: u32) -> u64 {
        let mut v = self.v;
        compress(&mut v, self.tail | (length as u64) << 56);
        v[2] ^= 0xff;
        round(&mut v);
        round(&mut v);
        round(&mut v);
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[inline(always)]
fn compress(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
}
