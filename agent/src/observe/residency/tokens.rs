//! The credentials sent to one target: time of the last request, and whether they are still in memory.
//!
//! Bounded: at most [`MOST`] are kept. Beyond that a random half is dropped, and only the same fraction
//! of new ones is accepted (by the top bits of the fingerprint, which is random). So the sample is
//! representative of every age. After [`LONGEST`] a credential is dropped.

use std::collections::{HashMap, hash_map::Entry};

use super::search::Needle;
use crate::decode::TokenWindow;
use heaptide_judge::events::{Fingerprint, Nanos, ResidentAge, ResidentToken};

/// Maximum number of credentials.
const MOST: usize = 16_384;
/// Seconds after its last request for which one is kept.
const LONGEST: f64 = 3600.0;
/// Seconds after the last request from which a credential is searched for: a server that still has it
/// then keeps it.
const MATURE: u64 = 10;
/// Minimum age of the tokens in a sample, seconds. What is only garbage is more often overwritten by then.
const OLD: f64 = 20.0;
/// Maximum size of a sample.
const SAMPLE: usize = 2_048;
/// Lower bounds of the age groups in seconds.
const AGES: [u64; 7] = [MATURE, 30, 60, 120, 300, 900, 1800];

/// A credential.
#[derive(Clone, Copy, Debug)]
struct Token {
    whole: Fingerprint,
    filter: u32,
    ended: Nanos,
    /// Found in the current pass.
    found: bool,
    /// Another credential has the same window, so they cannot be distinguished.
    shared: bool,
}

/// The credentials of one target, by the fingerprint of their window.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: HashMap<u64, Token>,
    /// Only fingerprints with so many zero top bits are accepted.
    level: u32,
}

impl Tokens {
    /// A request with this credential has ended.
    pub(super) fn ended(&mut self, window: TokenWindow, whole: Fingerprint, at: Nanos) {
        if !self.takes(window.fingerprint) {
            return;
        }
        match self.known.entry(window.fingerprint) {
            Entry::Occupied(mut entry) => {
                let token = entry.get_mut();
                token.shared |= token.whole != whole;
                token.ended = token.ended.max(at);
            }
            Entry::Vacant(entry) => {
                entry.insert(Token {
                    whole,
                    filter: window.filter,
                    ended: at,
                    found: false,
                    shared: false,
                });
            }
        }
        while self.known.len() > MOST {
            self.level += 1;
            let level = self.level;
            self.known
                .retain(|fingerprint, _| sampled(*fingerprint, level));
        }
    }

    fn takes(&self, fingerprint: u64) -> bool {
        sampled(fingerprint, self.level)
    }

    /// Starts a pass: resets results and drops old credentials.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.known
            .retain(|_, token| now.since(token.ended) < LONGEST);
        for token in self.known.values_mut() {
            token.found = false;
        }
        if self.known.len() < MOST / 4 {
            self.level = self.level.saturating_sub(1);
        }
    }

    /// Those to search for in a pass that began at `since` and that are not found yet.
    pub(super) fn wanted(&self, since: Nanos) -> Vec<Needle> {
        let wanted = self.mature(since).filter(|(_, token)| !token.found);
        wanted
            .map(|(fingerprint, token)| Needle {
                fingerprint: *fingerprint,
                filter: token.filter,
            })
            .collect()
    }

    fn mature(&self, since: Nanos) -> impl Iterator<Item = (&u64, &Token)> {
        self.known
            .iter()
            .filter(move |(_, token)| !token.shared && since.since(token.ended) >= MATURE as f64)
    }

    /// This window was found.
    pub(super) fn found(&mut self, fingerprint: u64) {
        if let Some(token) = self.known.get_mut(&fingerprint) {
            token.found = true;
        }
    }

    /// A sample of the older ones in the pass that began at `since`: those with the smallest fingerprints, which are
    /// random, so that successive samples have many in common.
    pub(super) fn sample(&self, since: Nanos) -> Vec<ResidentToken> {
        let old = self
            .mature(since)
            .filter(|(_, token)| since.since(token.ended) >= OLD);
        let mut sample: Vec<ResidentToken> = old
            .map(|(_, token)| ResidentToken {
                token: token.whole,
                is_resident: token.found,
            })
            .collect();
        sample.sort_unstable_by_key(|one| one.token.0);
        sample.truncate(SAMPLE);
        sample
    }

    /// The result of (a part of) a pass that began at `since`, youngest first. Ages without credentials
    /// are omitted.
    pub(super) fn ages(&self, since: Nanos) -> Vec<ResidentAge> {
        let mut ages = AGES.map(|at_least_seconds| ResidentAge {
            at_least_seconds,
            ..ResidentAge::default()
        });
        for (_, token) in self.mature(since) {
            let seconds = since.since(token.ended) as u64;
            let place = AGES.iter().rposition(|from| *from <= seconds);
            if let Some(age) = place.and_then(|place| ages.get_mut(place)) {
                age.tokens += 1;
                age.resident += u64::from(token.found);
            }
        }
        ages.into_iter().filter(|age| age.tokens > 0).collect()
    }
}

/// Whether a fingerprint is in the sample of a level.
fn sampled(fingerprint: u64, level: u32) -> bool {
    fingerprint.leading_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(number: u64) -> TokenWindow {
        TokenWindow {
            // random enough for this test
            fingerprint: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            filter: number as u32 & 0xff_ffff,
        }
    }

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn ages_count_from_the_last_request() {
        let mut tokens = Tokens::default();
        for number in 1..=100 {
            tokens.ended(window(number), Fingerprint(number), at(number));
        }
        // used again, so it is young
        tokens.ended(window(1), Fingerprint(1), at(100));
        tokens.begin(at(105));
        let wanted = tokens.wanted(at(105));
        assert_eq!(wanted.len(), 94, "2 to 95 ended 10 s ago or more");
        for needle in wanted.iter().filter(|needle| needle.filter % 2 == 0) {
            tokens.found(needle.fingerprint);
        }
        let ages: Vec<_> = tokens
            .ages(at(105))
            .iter()
            .map(|age| (age.at_least_seconds, age.tokens, age.resident))
            .collect();
        assert_eq!(ages, [(10, 20, 10), (30, 30, 15), (60, 44, 22)]);
        assert_eq!(tokens.wanted(at(105)).len(), 47, "the rest of a long pass");
        tokens.begin(at(106));
        assert_eq!(
            tokens
                .ages(at(106))
                .iter()
                .map(|age| age.resident)
                .sum::<u64>(),
            0
        );
        tokens.begin(at(100 + 3601));
        assert!(tokens.known.is_empty(), "forgotten after an hour");
    }

    #[test]
    fn two_with_one_window_are_left_out() {
        let mut tokens = Tokens::default();
        tokens.ended(window(1), Fingerprint(1), at(0));
        tokens.ended(window(1), Fingerprint(2), at(1));
        tokens.ended(window(3), Fingerprint(3), at(1));
        assert_eq!(tokens.wanted(at(60)).len(), 1);
    }

    #[test]
    fn many_are_sampled_evenly_over_their_ages() {
        let mut tokens = Tokens::default();
        for number in 0..1_000_000 {
            tokens.ended(window(number), Fingerprint(number), at(number / 1000));
        }
        assert!(tokens.known.len() <= MOST && tokens.known.len() >= MOST / 2 - 200);
        let ages = tokens.ages(at(1010));
        let [.., before, last] = ages.as_slice() else {
            panic!("ages: {ages:?}")
        };
        // 300 to 900 s, and 900 s or more: of 600,000 and of 110,000 tokens
        let ratio = before.tokens as f64 / last.tokens as f64;
        assert!((ratio / (600.0 / 111.0) - 1.0).abs() < 0.1, "{ratio}");
        let level = tokens.level;
        tokens.begin(at(5000));
        assert_eq!(tokens.level, level - 1, "room again");
    }
}
