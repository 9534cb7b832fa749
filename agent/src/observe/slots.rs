//! Allocates counter slots of the kernel programs, one per target.

use std::collections::VecDeque;

use heaptide_ebpf::SLOTS;

/// The slot of events without a target, and of targets without a free slot.
const SHARED: u32 = 0;

/// Slots in use.
pub(super) struct Slots {
    /// Slots from here on were never used.
    next: u32,
    /// Released slots, least recently used first: a probe in progress may still count for a released
    /// target.
    free: VecDeque<u32>,
}

impl Slots {
    /// All are free.
    pub(super) fn new() -> Self {
        Self {
            next: SHARED + 1,
            free: VecDeque::new(),
        }
    }

    /// A slot for a target.
    pub(super) fn take(&mut self) -> u32 {
        if (self.next as usize) < SLOTS {
            self.next += 1;
            return self.next - 1;
        }
        self.free.pop_front().unwrap_or(SHARED)
    }

    /// Releases the slot of a target.
    pub(super) fn give_back(&mut self, slot: u32) {
        if slot != SHARED {
            self.free.push_back(slot);
        }
    }

    /// Every slot that was ever used.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> {
        SHARED..self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_own_slot_and_the_last_ones_share_one() {
        let mut slots = Slots::new();
        let taken: Vec<u32> = (0..SLOTS + 5).map(|_| slots.take()).collect();
        let mut own: Vec<u32> = taken
            .iter()
            .copied()
            .filter(|slot| *slot != SHARED)
            .collect();
        assert_eq!(own.len(), SLOTS - 1);
        own.dedup();
        assert_eq!(own.len(), SLOTS - 1);
        assert_eq!(taken.last(), Some(&SHARED));
        slots.give_back(SHARED);
        slots.give_back(7);
        slots.give_back(3);
        assert_eq!([slots.take(), slots.take(), slots.take()], [7, 3, SHARED]);
        assert_eq!(slots.used().count(), SLOTS);
    }
}
