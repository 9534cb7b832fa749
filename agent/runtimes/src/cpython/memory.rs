//! Pages of the target's memory, read once per census within a budget. Text is blanked on arrival.
//!
//! Only pointers, sizes and flags are needed. Words that consist only of text are overwritten in the receive
//! buffer before any other use, because these pages also contain credentials, which must not stay in the
//! agent's memory. Names of the program are read one by one.

use std::collections::VecDeque;

use heaptide_process::memory::{Budget, Read};
use rustc_hash::FxHashMap;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Words of a page.
const WORDS: usize = PAGE / 8;
/// A page that cannot be read.
const ABSENT: u32 = u32::MAX;
/// Arrays up to this size are read through the page cache; longer ones bypass it.
const SMALL: usize = 256;
/// Maximum bytes of bytecode or line table read per code object.
const MAX_BYTES: u64 = 256 << 10;
/// Words of a long array read at once.
const PIECE: usize = 8192;

/// Overwrites each word that is eight characters of text. Numbers, flags and addresses all contain a
/// non-printable byte.
fn blank_text(words: &mut [u64]) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const LIFT: u64 = 0x6060_6060_6060_6060;
    for word in words {
        // bytes below 0x80, each at least 0x20: the sum sets every high bit without carries
        let text = *word & HIGH == 0 && word.wrapping_add(LIFT) & HIGH == HIGH;
        *word = if text { 0 } else { *word };
    }
}

/// The page cache, bounded.
pub(crate) struct Pages<R> {
    reader: R,
    /// Budget of reading. Every memory access counts as a step, so no loop over memory can exceed it.
    pub(crate) budget: Budget,
    index: FxHashMap<u64, u32>,
    slots: Vec<[u64; WORDS]>,
    free: Vec<u32>,
    order: VecDeque<u64>,
    /// Number of unreadable pages in the index.
    absent: usize,
    max: usize,
    last: (u64, u32),
}

impl<R: Read> Pages<R> {
    /// Holds at most `max` bytes.
    pub(crate) fn new(reader: R, max: usize, budget: Budget) -> Self {
        Self {
            reader,
            budget,
            index: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            absent: 0,
            max: (max / PAGE).max(16),
            last: (u64::MAX, ABSENT),
        }
    }

    /// The word at an address, which must be 8-byte aligned.
    pub(crate) fn word(&mut self, address: u64) -> Option<u64> {
        if address & 7 != 0 || address >> 47 != 0 || !self.budget.step() {
            return None;
        }
        let slot = self.page(address >> 12)?;
        Some(self.slots.get(slot as usize)?[(address as usize & (PAGE - 1)) / 8])
    }

    /// The word at an offset in an object. The address comes from the target and may be anything.
    pub(crate) fn field(&mut self, object: u64, offset: u64) -> Option<u64> {
        self.word(object.wrapping_add(offset))
    }

    /// A 32-bit number, 4-byte aligned.
    pub(crate) fn half(&mut self, address: u64) -> Option<u32> {
        let word = self.word(address & !7)?;
        Some((word >> ((address & 4) * 8)) as u32)
    }

    /// One byte.
    pub(crate) fn byte(&mut self, address: u64) -> Option<u8> {
        let word = self.word(address & !7)?;
        Some((word >> ((address & 7) * 8)) as u8)
    }

    fn page(&mut self, page: u64) -> Option<u32> {
        if self.last.0 == page {
            return (self.last.1 != ABSENT).then_some(self.last.1);
        }
        let slot = match self.index.get(&page) {
            Some(slot) => *slot,
            None => self.load(page),
        };
        self.last = (page, slot);
        (slot != ABSENT).then_some(slot)
    }

    fn load(&mut self, page: u64) -> u32 {
        let Some(slot) = self.free_slot() else {
            return ABSENT;
        };
        let words = &mut self.slots[slot as usize];
        let into = bytemuck::cast_slice_mut(words.as_mut_slice());
        let read = self.reader.read(page << 12, into, &mut self.budget);
        // A failed read may have filled a part.
        blank_text(words);
        if !read {
            self.free.push(slot);
            if self.absent >= self.max {
                self.index.retain(|_, slot| *slot != ABSENT);
                self.absent = 0;
            }
            self.index.insert(page, ABSENT);
            self.absent += 1;
            return ABSENT;
        }
        if self.order.len() >= 2 * self.max {
            // A page that was dropped and read again is in it more than once: its last position counts.
            let index = &self.index;
            let mut kept = FxHashMap::default();
            for (place, page) in self.order.iter().enumerate() {
                if index.contains_key(page) {
                    kept.insert(*page, place);
                }
            }
            let mut place = 0;
            self.order.retain(|page| {
                place += 1;
                kept.get(page) == Some(&(place - 1))
            });
        }
        self.index.insert(page, slot);
        self.order.push_back(page);
        slot
    }

    fn free_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() < self.max {
            self.slots.push([0; WORDS]);
            return Some((self.slots.len() - 1) as u32);
        }
        // FIFO eviction; a dropped page has no slot
        loop {
            let old = self.order.pop_front()?;
            if let Some(slot) = self.index.remove(&old).filter(|slot| *slot != ABSENT) {
                return Some(slot);
            }
        }
    }

    /// Drops a range, because its contents were inconsistent.
    pub(crate) fn forget(&mut self, address: u64, len: u64) {
        for page in address >> 12..=address.saturating_add(len.max(1) - 1) >> 12 {
            match self.index.remove(&page) {
                Some(ABSENT) => self.absent = self.absent.saturating_sub(1),
                Some(slot) => self.free.push(slot),
                None => {}
            }
        }
        self.last = (u64::MAX, ABSENT);
    }

    /// Drops all pages: fast-changing structures must not be combined from pages of different times.
    pub(crate) fn forget_all(&mut self) {
        self.index.clear();
        self.order.clear();
        self.absent = 0;
        self.free = (0..self.slots.len() as u32).collect();
        self.last = (u64::MAX, ABSENT);
    }

    /// Reads `count` words from `address` into `to`. Short arrays use the page cache, long ones bypass it.
    pub(crate) fn words(&mut self, address: u64, count: usize, to: &mut Vec<u64>) -> bool {
        to.clear();
        if count == 0 {
            return true;
        }
        if address & 7 != 0 || address >> 47 != 0 {
            return false;
        }
        if count <= SMALL {
            for index in 0..count as u64 {
                match self.word(address + index * 8) {
                    Some(word) => to.push(word),
                    None => return false,
                }
            }
            return true;
        }
        to.resize(count, 0);
        for (index, piece) in to.chunks_mut(PIECE).enumerate() {
            let from = address + (index * PIECE * 8) as u64;
            let into = bytemuck::cast_slice_mut(piece);
            let read = self.reader.read(from, into, &mut self.budget);
            blank_text(piece);
            if !read {
                to.clear();
                return false;
            }
        }
        true
    }

    /// Everything read so far is from the intended process.
    pub(crate) fn is_the_same(&self) -> bool {
        self.reader.is_the_same()
    }

    /// Bytecode or a line table, if it is not too long.
    pub(crate) fn bytes(&mut self, address: u64, len: u64) -> Option<Vec<u8>> {
        if len > MAX_BYTES {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        self.raw(address, &mut bytes).then_some(bytes)
    }

    /// Bytes without blanking and caching: only for names of the program.
    pub(crate) fn raw(&mut self, address: u64, into: &mut [u8]) -> bool {
        address >> 47 == 0 && self.reader.read(address, into, &mut self.budget)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plenty() -> Budget {
        Budget::new(u64::MAX, u64::MAX, Duration::from_secs(60))
    }

    #[test]
    fn text_is_blanked_and_nothing_else() {
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let mut words = [
            word(b"eyJhbGci"),
            word(b"Bearer e"),
            word(b"abcdefg\0"),
            0x0000_7f12_3456_7890,
            0x2020_2020_2020_2020,
            u64::MAX,
            0xffff_ffff,
            word(b"abc\xffdefg"),
        ];
        let kept = words;
        blank_text(&mut words);
        assert_eq!((words[0], words[1], words[4]), (0, 0, 0));
        for index in [2, 3, 5, 6, 7] {
            assert_eq!(words[index], kept[index]);
        }
    }

    /// Memory in which every word is its own address.
    struct Mirror {
        reads: usize,
        hole: u64,
    }

    impl Read for Mirror {
        fn read(&mut self, address: u64, into: &mut [u8], _: &mut Budget) -> bool {
            self.reads += 1;
            if address <= self.hole && self.hole < address + into.len() as u64 {
                return false;
            }
            for (index, word) in into.chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&(address + index as u64 * 8).to_le_bytes());
            }
            true
        }

        fn is_the_same(&self) -> bool {
            true
        }
    }

    /// Text that becomes unreadable during the read.
    struct Going;

    impl Read for Going {
        fn read(&mut self, _: u64, into: &mut [u8], _: &mut Budget) -> bool {
            let half = into.len() / 2;
            into[..half].fill(b'e');
            false
        }

        fn is_the_same(&self) -> bool {
            true
        }
    }

    #[test]
    fn text_of_half_a_read_is_blanked() {
        let mut pages = Pages::new(Going, 16 * PAGE, plenty());
        assert_eq!(pages.word(0x5000), None);
        assert_eq!(pages.slots, [[0; WORDS]]);
    }

    #[test]
    fn pages_are_read_once_and_given_up_when_full() {
        let mut pages = Pages::new(
            Mirror {
                reads: 0,
                hole: 40 << 12,
            },
            16 * PAGE,
            plenty(),
        );
        for round in 0..3_u64 {
            for page in 1..100_u64 {
                let address = page << 12 | (round * 64 + 8);
                let expected = (page != 40).then_some(address);
                assert_eq!(pages.word(address), expected, "page {page}");
                assert_eq!(pages.word(address), expected, "page {page} again");
            }
        }
        assert!(pages.slots.len() <= 16);
        let before = pages.reader.reads;
        assert_eq!(pages.word(99 << 12), Some(99 << 12));
        assert_eq!(pages.reader.reads, before, "still held");
        pages.forget(99 << 12, 8);
        assert_eq!(pages.word(99 << 12 | 16), Some(99 << 12 | 16));
        assert_eq!(pages.reader.reads, before + 1, "read anew");
        for page in 90..100_u64 {
            assert_eq!(pages.word(page << 12), Some(page << 12));
        }
        assert_eq!(pages.word(4), None, "not aligned");
        assert_eq!(pages.half(0x50_0004), Some(0));
        assert_eq!(pages.byte(0x50_0002), Some(0x50));
    }

    #[test]
    fn long_arrays_go_past_the_pages() {
        let mut pages = Pages::new(
            Mirror {
                reads: 0,
                hole: u64::MAX,
            },
            16 * PAGE,
            plenty(),
        );
        let mut words = Vec::new();
        assert!(pages.words(0x10_0000, 20_000, &mut words));
        assert_eq!(words.len(), 20_000);
        assert_eq!(words[19_999], 0x10_0000 + 19_999 * 8);
        assert!(pages.slots.is_empty());
        assert!(!pages.words(0x10_0001, 4, &mut words));
    }

    #[test]
    fn what_is_forgotten_again_and_again_takes_no_more_room() {
        let mirror = Mirror {
            reads: 0,
            hole: 40 << 12,
        };
        let mut pages = Pages::new(mirror, 16 * PAGE, plenty());
        for round in 0..10_000_u64 {
            let page = round % 8 + 1;
            assert_eq!(pages.word(page << 12), Some(page << 12));
            pages.forget(page << 12, 8);
            assert_eq!(pages.word((page + 100) << 12), Some((page + 100) << 12));
        }
        assert!(pages.order.len() <= 33, "{}", pages.order.len());
        let mut pages = Pages::new(Going, 16 * PAGE, plenty());
        for page in 1..10_000_u64 {
            assert_eq!(pages.word(page << 12), None);
        }
        assert!(pages.index.len() <= 17, "{}", pages.index.len());
    }
}
