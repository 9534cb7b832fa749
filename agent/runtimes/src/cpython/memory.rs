//! The target's memory from outside: pages read once per census, with text blanked out as they arrive.
//!
//! Only pointers, sizes and flags are wanted. Whatever word consists of text alone is overwritten in
//! the buffer it was read into, before anything looks at it: credentials lie in these pages too, and
//! must not stay in the agent's memory. Names of the program are read one by one, each by itself.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Words of a page.
const WORDS: usize = PAGE / 8;
/// A page that cannot be read.
const ABSENT: u32 = u32::MAX;
/// Words that are read through the page cache; longer arrays bypass it.
const SMALL: usize = 256;
/// Words read at once of a long array.
const PIECE: usize = 8192;

/// Reads memory of a process.
pub(crate) trait Read {
    /// Fills all of `into` from `address`, or says that it could not.
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool;
}

/// A process's memory by `process_vm_readv`: no stop, no write.
#[derive(Debug)]
pub(crate) struct ProcessMemory {
    pid: u32,
}

impl ProcessMemory {
    /// Of this process.
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }
}

impl Read for ProcessMemory {
    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        let local = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        let remote = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: into.len(),
        };
        // SAFETY: the local vector describes `into`, which outlives the call; the remote address is
        // only looked at by the kernel, in the other process.
        let read = unsafe {
            libc::process_vm_readv(
                self.pid as libc::pid_t,
                &raw const local,
                1,
                &raw const remote,
                1,
                0,
            )
        };
        read == into.len() as isize
    }
}

/// Overwrites each word that is eight characters of text. Numbers, flags and addresses all have a
/// byte that is no printable character.
fn blank_text(words: &mut [u64]) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const LIFT: u64 = 0x6060_6060_6060_6060;
    for word in words {
        // bytes below 0x80, of which each is at least 0x20: the sum sets every high bit, no carries
        let text = *word & HIGH == 0 && word.wrapping_add(LIFT) & HIGH == HIGH;
        *word = if text { 0 } else { *word };
    }
}

/// Pages read so far, bounded.
pub(crate) struct Pages<R> {
    reader: R,
    index: FxHashMap<u64, u32>,
    slots: Vec<[u64; WORDS]>,
    free: Vec<u32>,
    order: VecDeque<u64>,
    max: usize,
    last: (u64, u32),
    /// Bytes read from the process.
    pub(crate) bytes: u64,
}

impl<R: Read> Pages<R> {
    /// Holds at most `max` bytes.
    pub(crate) fn new(reader: R, max: usize) -> Self {
        Self {
            reader,
            index: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            max: (max / PAGE).max(16),
            last: (u64::MAX, ABSENT),
            bytes: 0,
        }
    }

    /// The word at an address, which must be aligned to 8.
    pub(crate) fn word(&mut self, address: u64) -> Option<u64> {
        if address & 7 != 0 || address >> 47 != 0 {
            return None;
        }
        let slot = self.page(address >> 12)?;
        Some(self.slots.get(slot as usize)?[(address as usize & (PAGE - 1)) / 8])
    }

    /// The word at an offset in an object, whose address may be anything: it was read from the target.
    pub(crate) fn field(&mut self, object: u64, offset: u64) -> Option<u64> {
        self.word(object.wrapping_add(offset))
    }

    /// A 32-bit number, aligned to 4.
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
        let read = self.reader.read(page << 12, into);
        self.bytes += PAGE as u64;
        // A read that fails may have come half the way.
        blank_text(words);
        if !read {
            self.free.push(slot);
            self.index.insert(page, ABSENT);
            return ABSENT;
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
        // the page that came first goes first; one that was forgotten has no slot any more
        loop {
            let old = self.order.pop_front()?;
            if let Some(slot) = self.index.remove(&old).filter(|slot| *slot != ABSENT) {
                return Some(slot);
            }
        }
    }

    /// Reads a range anew at the next look: what was read did not make sense.
    pub(crate) fn forget(&mut self, address: u64, len: u64) {
        for page in address >> 12..=address.saturating_add(len.max(1) - 1) >> 12 {
            if let Some(slot) = self.index.remove(&page).filter(|slot| *slot != ABSENT) {
                self.free.push(slot);
            }
        }
        self.last = (u64::MAX, ABSENT);
    }

    /// Reads everything anew: what changes fast must not be put together from pages of different times.
    pub(crate) fn forget_all(&mut self) {
        self.index.clear();
        self.order.clear();
        self.free = (0..self.slots.len() as u32).collect();
        self.last = (u64::MAX, ABSENT);
    }

    /// `count` words from `address` on, into `to`. Short arrays come from the pages, long ones past them.
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
            let read = self.reader.read(from, bytemuck::cast_slice_mut(piece));
            self.bytes += (piece.len() * 8) as u64;
            blank_text(piece);
            if !read {
                to.clear();
                return false;
            }
        }
        true
    }

    /// Bytes as they are, past the pages: only for names of the program.
    pub(crate) fn raw(&mut self, address: u64, into: &mut [u8]) -> bool {
        address >> 47 == 0 && self.reader.read(address, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
            self.reads += 1;
            if address <= self.hole && self.hole < address + into.len() as u64 {
                return false;
            }
            for (index, word) in into.chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&(address + index as u64 * 8).to_le_bytes());
            }
            true
        }
    }

    /// Memory of text that is gone before it is read to the end.
    struct Going;

    impl Read for Going {
        fn read(&mut self, _: u64, into: &mut [u8]) -> bool {
            let half = into.len() / 2;
            into[..half].fill(b'e');
            false
        }
    }

    #[test]
    fn text_of_half_a_read_is_blanked() {
        let mut pages = Pages::new(Going, 16 * PAGE);
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
        );
        let mut words = Vec::new();
        assert!(pages.words(0x10_0000, 20_000, &mut words));
        assert_eq!(words.len(), 20_000);
        assert_eq!(words[19_999], 0x10_0000 + 19_999 * 8);
        assert!(pages.slots.is_empty());
        assert!(!pages.words(0x10_0001, 4, &mut words));
    }
}
