//! Compares the search with a naive search at every position.

use heaptide_ebpf::tail::{Tail, TailKey};

use super::*;

const KEY: TailKey = [7, 11, 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn token(&mut self, length: usize) -> Vec<u8> {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length)
            .map(|_| letters[self.next() as usize % letters.len()])
            .collect()
    }
}

/// Computed as in the kernel programs: word by word.
fn needle(token: &[u8]) -> Needle {
    let mut tail = Tail::default();
    let (words, rest) = token.as_chunks::<8>();
    for word in words {
        tail.word(u64::from_le_bytes(*word));
    }
    let rest = rest
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let window = tail.window(token.len() as u32, rest).expect("a window");
    Needle {
        fingerprint: fingerprint(&KEY, window),
        filter: filter(&KEY, window),
    }
}

fn look(search: &Search, bytes: &[u8]) -> Vec<u64> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let mut found = Vec::new();
    search.look(&padded, &mut |one, _| found.push(one));
    found
}

#[test]
fn tokens_are_found_at_every_place() {
    let mut random = Random(99);
    for length in (16..=48).chain([300]) {
        let token = random.token(length);
        let needle = needle(&token);
        let search = Search::new(KEY, 0x21, &[needle]);
        for at in 0..3 * BLOCK {
            let mut bytes = vec![0; at];
            bytes.extend(&token);
            assert_eq!(look(&search, &bytes), [needle.fingerprint], "{length} {at}");
            // between other text, as in a head
            let mut text = vec![b'x'; at];
            text.extend(&token);
            text.extend(vec![b'y'; 40]);
            assert_eq!(look(&search, &text), [needle.fingerprint], "{length} {at}");
        }
    }
}

#[test]
fn tokens_in_utf_16_are_found_after_narrowing() {
    let mut random = Random(31);
    let token = random.token(90);
    let needle = needle(&token);
    let search = Search::new(KEY, 0x21, &[needle]);
    let mut into = vec![b'x'; 1024];
    for at in 0..2 * BLOCK {
        let mut bytes = vec![0; 2 * at];
        bytes.extend(token.iter().flat_map(|letter| [*letter, 0]));
        bytes.extend([b'x', 1, 0xe9, 0]);
        assert!(look(&search, &bytes).is_empty(), "not as it is");
        let narrowed = narrow(&bytes, &mut into);
        assert_eq!(narrowed.len() % BLOCK, 0);
        assert_eq!(look(&search, narrowed), [needle.fingerprint], "at {at}");
    }
}

#[test]
fn nothing_else_is_found() {
    let mut random = Random(5);
    let tokens: Vec<Vec<u8>> = (0..16_384).map(|n| random.token(16 + n % 60)).collect();
    let needles: Vec<Needle> = tokens.iter().map(|token| needle(token)).collect();
    let search = Search::new(KEY, 0x21, &needles);
    // eight megabytes of the tokens' own letters
    let text = random.token(8 << 20);
    assert!(look(&search, &text).is_empty());
    // change each character of the window in turn
    for token in tokens.iter().take(50) {
        let end = token.len();
        for at in end - WINDOW..end {
            let mut other = token.clone();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            assert!(look(&search, &other).is_empty(), "changed at {at}");
        }
        let mut cut = token[..end - 1].to_vec();
        cut.push(0);
        assert!(look(&search, &cut).is_empty());
    }
}

#[test]
fn what_may_be_in_a_credential() {
    let search = Search::new(KEY, 0x21, &[]);
    for byte in 0..=255 {
        for at in 0..BLOCK {
            let mut block = [0; BLOCK];
            block[at] = byte;
            let wanted = u64::from((0x21..0x80).contains(&byte)) << at;
            assert_eq!(search.visible(&block), wanted, "{byte:#x} at {at}");
            let mut block = [b'a'; BLOCK];
            block[at] = byte;
            let wanted = !(u64::from(!(0x21..0x80).contains(&byte)) << at);
            assert_eq!(search.visible(&block), wanted, "{byte:#x} at {at} in text");
        }
    }
    // a whole header may contain spaces
    let spaced = b"Basic dXNlcjpwYXNz d29yZA";
    let needle = needle(spaced);
    assert!(look(&Search::new(KEY, 0x21, &[needle]), spaced).is_empty());
    assert_eq!(
        look(&Search::new(KEY, 0x20, &[needle]), spaced),
        [needle.fingerprint]
    );
}

#[test]
fn runs_are_found_across_blocks() {
    let mut random = Random(3);
    for _ in 0..10_000 {
        // long runs of ones with few gaps
        let mut mask = || random.next() | random.next() << 30 | random.next() | random.next() << 11;
        let (here, next) = (mask(), mask());
        let bit = |at: usize| {
            if at < 64 {
                here >> at & 1
            } else {
                next >> (at - 64) & 1
            }
        };
        let wanted = (0..64)
            .filter(|at| (0..WINDOW).all(|more| bit(at + more) == 1))
            .fold(0, |sum: u64, at| sum | 1 << at);
        assert_eq!(starts(here, next), wanted);
    }
    assert_eq!(starts(u64::MAX, 0), u64::MAX >> 15);
}

#[test]
fn the_beginning_of_a_text_is_found_from_its_end() {
    let mut random = Random(17);
    let first = b"eyJhbGciOiJIUzI1";
    let search = Search::new(KEY, 0x21, &[]);
    for length in (1..40).chain([1_000]) {
        for gap in [1, 7, 64, 65] {
            let mut bytes = vec![b'x'; 20];
            bytes.resize(20 + gap, b' ');
            bytes.extend(first);
            bytes.extend(random.token(length));
            let at = bytes.len() - WINDOW;
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            let found = search.beginning(&bytes, 0, at);
            assert_eq!(found, Some(needle(first)), "{length} {gap}");
            let from = 20 + gap;
            assert_eq!(
                search.beginning(&bytes, from, at),
                None,
                "it may begin before"
            );
        }
    }
    let mut long = vec![0];
    long.extend(random.token(LONGEST_TEXT + 100));
    assert_eq!(search.beginning(&long, 0, long.len() - WINDOW), None);
    let mut short = vec![0];
    short.extend(first);
    assert_eq!(
        search.beginning(&short, 0, 1),
        None,
        "nothing but the window"
    );
}
