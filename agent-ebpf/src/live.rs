//! Blocks in the live map: entered, removed, counted.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use heaptide_ebpf::{Block, BlockKey, Counter, INFLIGHT_DEPTH, ReturnedKey};

use crate::maps::{BLOCKS_HELD, LIVE, LIVE_BLOCKS, RETURNED, Thread, count, count_in, fetch_add};

const EEXIST: i32 = -17;

/// Removes a freed block from the live map; whether it was there.
#[inline(always)]
pub fn forget(key: BlockKey, slot: u32) -> bool {
    let known = LIVE.remove(key).is_ok();
    if known {
        changed(-1, slot);
        count_in(slot, Counter::Freed);
    }
    known
}

/// Enters `block` in the live map. `index` is the call's place on the in-flight stack; `nested` is the last block
/// that a nested call of it has entered.
#[inline(always)]
pub fn enter(thread: &mut Thread, index: usize, nested: u64, pointer: u64, block: &Block) {
    let key = BlockKey {
        addr: pointer,
        space: thread.space,
    };
    match LIVE.insert(key, block, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            changed(1, thread.slot);
            count_in(thread.slot, Counter::Tracked);
        }
        Err(EEXIST) => {
            // Either a nested call of this one has entered it (reallocarray calls realloc), or its free was missed.
            if nested != pointer {
                count(Counter::LostFrees);
                count_in(thread.slot, Counter::Tracked);
            }
            if LIVE.insert(key, block, u64::from(BPF_ANY)).is_err() {
                count(Counter::MapFull);
            }
        }
        Err(_) => count(Counter::MapFull),
    }
    if index > 0 {
        thread.inflight[(index - 1) & (INFLIGHT_DEPTH - 1)].nested = pointer;
    }
}

/// Counts the free of a block that is older than the probes.
#[inline(always)]
pub fn returned(space: u64, size: u32) {
    let key = ReturnedKey {
        space,
        size,
        reserved: 0,
    };
    if let Some(count) = RETURNED.get_ptr_mut(key) {
        // SAFETY: a map value, aligned. User space removes values only of address spaces that are gone.
        unsafe { fetch_add(count, 1) };
        return;
    }
    // Another thread may have been first: then this one is lost, which is nothing.
    match RETURNED.insert(key, &1, u64::from(BPF_NOEXIST)) {
        Ok(()) | Err(EEXIST) => {}
        Err(_) => count(Counter::ReturnedFull),
    }
}

/// Adds to the counts of entries in the live map.
#[inline(always)]
pub fn changed(by: i64, slot: u32) {
    if let Some(live) = LIVE_BLOCKS.get_ptr_mut(0) {
        // SAFETY: a slot of an array map, aligned.
        unsafe { fetch_add(live, by as u64) };
    }
    if let Some(held) = BLOCKS_HELD.get_ptr_mut(slot) {
        // SAFETY: as above.
        unsafe { fetch_add(held, by as u64) };
    }
}
