//! Token classes: new or repeat by a two-generation Bloom filter; distinct tokens by `HyperLogLog`.
//!
//! A token counts as new twice: on its first request anywhere, and on its first request of each route. A
//! cache inside one handler adds an entry in both cases. A cache in front of all handlers adds one only in
//! the first case.
//!
//! The size is fixed: four filters of 720 KiB and 12 KiB of registers. A generation takes [`GENERATION`]
//! distinct tokens (or pairs of token and route). Then it becomes the previous generation, and an empty one
//! begins. So a token is remembered for at least that many distinct other tokens after its last use. A new
//! token counts as a repeat with a probability of at most 2 x 0.1 % (both generations full). A repeat
//! within that memory never counts as new. `HyperLogLog` with 2^14 registers has a standard error of 0.8 %.

use std::hash::BuildHasherDefault;

use fastbloom::BloomFilter;
use hyperloglogplus::{HyperLogLog, HyperLogLogPF};
use siphasher::sip::SipHasher13;

use crate::events::Fingerprint;

use super::keys::{Class, RouteId};

/// Distinct tokens per generation.
const GENERATION: usize = 400_000;
/// False-positive rate of one full generation.
const FALSE_POSITIVES: f64 = 0.001;
/// Exponent of the number of registers.
const PRECISION: u8 = 14;
/// A constant seed: fingerprints are keyed already, and a replay must give the same classes.
const SEED: u128 = 0x68_65_61_70_74_69_64_65;

type Hasher = BuildHasherDefault<SipHasher13>;

/// A set with bounded memory: two generations of a Bloom filter.
struct Seen {
    current: BloomFilter,
    previous: BloomFilter,
    in_current: usize,
}

impl Seen {
    fn new() -> Self {
        Self {
            current: empty(),
            previous: empty(),
            in_current: 0,
        }
    }

    /// Inserts `item`. Returns whether it was in the set.
    fn put(&mut self, item: u64) -> bool {
        let known = self.current.contains(&item);
        let known_before = known || self.previous.contains(&item);
        if !known {
            // Items of the previous generation move to the current one when they are used.
            self.current.insert(&item);
            self.in_current += 1;
            if self.in_current >= GENERATION {
                self.previous = std::mem::replace(&mut self.current, empty());
                self.in_current = 0;
            }
        }
        known_before
    }

    fn bytes(&self) -> usize {
        (self.current.num_bits() + self.previous.num_bits()) / 8
    }
}

/// State of the token classes: bits of the credentials' fingerprints.
pub struct Tokens {
    anywhere: Seen,
    on_route: Seen,
    registers: Option<HyperLogLogPF<u64, Hasher>>,
    /// Number of new tokens: the value of `distinct` while it is small.
    new_seen: u64,
}

impl Tokens {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            anywhere: Seen::new(),
            on_route: Seen::new(),
            // The precision is a constant within the crate's bounds, so this is always `Some`.
            registers: HyperLogLogPF::new(PRECISION, Hasher::default()).ok(),
            new_seen: 0,
        }
    }

    /// The class of a request of `route` with this credential. The credential is known from now on.
    pub fn classify(&mut self, token: Option<Fingerprint>, route: RouteId) -> Class {
        let Some(Fingerprint(bits)) = token else {
            return Class::None;
        };
        if let Some(registers) = &mut self.registers {
            registers.insert(&bits);
        }
        // An odd factor keeps pairs distinct; the filter hashes the result.
        let pair =
            bits.rotate_left(17) ^ (u64::from(route.0) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let known_here = self.on_route.put(pair);
        if self.anywhere.put(bits) {
            return if known_here {
                Class::Repeat
            } else {
                Class::NewHere
            };
        }
        self.new_seen += 1;
        Class::New
    }

    /// Every token is new again. The number of distinct tokens is kept.
    pub fn forget(&mut self) {
        self.anywhere = Seen::new();
        self.on_route = Seen::new();
    }

    /// Estimated number of distinct tokens. Below 1,000 it is exact except for the filter's error.
    pub fn distinct(&mut self) -> u64 {
        if self.new_seen < 1_000 {
            return self.new_seen;
        }
        self.registers
            .as_mut()
            .map_or(self.new_seen, |r| r.count().round() as u64)
    }

    /// Size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.anywhere.bytes() + self.on_route.bytes() + (1 << PRECISION) * 3 / 4
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

fn empty() -> BloomFilter {
    BloomFilter::with_false_pos(FALSE_POSITIVES)
        .seed(&SEED)
        .expected_items(GENERATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: RouteId = RouteId(3);

    #[test]
    fn first_use_is_new_and_every_later_one_a_repeat() {
        let mut tokens = Tokens::new();
        let fresh = (0..20_000u64)
            .filter(|n| tokens.classify(Some(Fingerprint(n * 7919)), HERE) == Class::New)
            .count();
        assert!(fresh > 19_980, "{fresh} of 20,000 new tokens taken for new");
        let again = (0..20_000u64)
            .filter(|n| tokens.classify(Some(Fingerprint(n * 7919)), HERE) == Class::Repeat)
            .count();
        assert_eq!(again, 20_000);
        assert_eq!(tokens.classify(None, HERE), Class::None);
        let distinct = tokens.distinct() as f64;
        assert!((distinct / 20_000.0 - 1.0).abs() < 0.03, "{distinct}");
    }

    #[test]
    fn a_token_in_use_survives_generations_and_state_stays_bounded() {
        let mut tokens = Tokens::new();
        let before = tokens.state_bytes();
        let kept = Fingerprint(u64::MAX);
        tokens.classify(Some(kept), HERE);
        for n in 0..3 * GENERATION as u64 {
            tokens.classify(
                Some(Fingerprint(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
                HERE,
            );
            if n % (GENERATION as u64 / 2) == 0 {
                assert_eq!(tokens.classify(Some(kept), HERE), Class::Repeat);
            }
        }
        // Forgotten after two generations without use.
        assert_eq!(tokens.classify(Some(Fingerprint(0)), HERE), Class::New);
        assert_eq!(tokens.state_bytes(), before);
        assert!(before < 4 << 20);
    }

    #[test]
    fn a_token_is_new_once_for_all_and_once_per_route() {
        let mut tokens = Tokens::new();
        let token = Some(Fingerprint(17));
        assert_eq!(tokens.classify(token, RouteId(3)), Class::New);
        assert_eq!(tokens.classify(token, RouteId(4)), Class::NewHere);
        assert_eq!(tokens.classify(token, RouteId(4)), Class::Repeat);
        assert_eq!(tokens.classify(token, RouteId(3)), Class::Repeat);
    }
}
