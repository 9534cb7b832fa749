//! The site of an action: its call stack, unwound with rules that user space has derived from `.eh_frame`.
//!
//! If a rule is missing, the addresses on the stack are copied to user space, which unwinds them, publishes the missing
//! rules, and resolves the provisional site id that is assigned here.

use core::hint::black_box;

use aya_ebpf::{
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_probe_read_user, generated},
};
use core::ffi::c_void;
use heaptide_ebpf::{
    Counter, MAX_FRAMES, MAX_STACKS_OF_ONE, RuleKey, SITE_PROVISIONAL, SITE_SEED, STACK_COPY_LEN,
    StackCopy, kind, rule, site_step,
};

use crate::maps::{
    EVENTS, RULES, RULES_VERSION, STACKS, STACKS_HELD, Thread, WALK_SLOTS, WALK_WORDS, WALKS, Walk,
    count, count_in, fetch_add,
};

/// Registers a walk starts from.
#[derive(Clone, Copy)]
pub struct Start {
    /// First program counter: a return address, or the interrupted instruction if `exact_pc`.
    pub pc: u64,
    /// Stack pointer in the frame that `pc` lies in.
    pub sp: u64,
    pub bp: u64,
    pub exact_pc: u32,
}

/// Why a walk ended.
const COMPLETE: u32 = 0;
const MISSING: u32 = 1;
const BROKEN: u32 = 2;

/// The site id of a call whose return address lies at `sp`; 0 when that cannot be read.
///
/// One read fetches the return address and, in most cases, all words that the walk depends on.
#[inline(never)]
pub fn call_site(thread: &mut Thread, sp: u64, bp: u64) -> u64 {
    let mut have = thread.span;
    if !fetch(thread, sp, have) {
        thread.span = 1;
        have = 1;
        if !fetch(thread, sp, have) {
            count(Counter::ReadFaults);
            return 0;
        }
    }
    let start = Start {
        pc: thread.words[0],
        sp: sp.wrapping_add(8),
        bp,
        exact_pc: 0,
    };
    known_or_walked(thread, &start, have)
}

/// The site id of the stack that begins at `start`.
#[inline(never)]
pub fn site(thread: &mut Thread, start: &Start) -> u64 {
    known_or_walked(thread, start, 0)
}

/// Reads `words` of the user stack at `from` into the thread's scratch; whether that was possible.
#[inline(always)]
fn fetch(thread: &mut Thread, from: u64, words: u64) -> bool {
    // SAFETY: the length is below that of the scratch; the helper checks the address.
    let result = unsafe {
        generated::bpf_probe_read_user(
            (&raw mut thread.words).cast(),
            ((words as usize) & (WALK_WORDS - 1)) as u32 * 8,
            from as *const c_void,
        )
    };
    result == 0
}

/// The site id of the stack that begins at `start`: that of a remembered walk if one applies, else of a new walk.
/// `have` words of the stack are in the scratch, from the word below `start.sp` upwards.
#[inline(always)]
fn known_or_walked(thread: &mut Thread, start: &Start, have: u64) -> u64 {
    let rules = version();
    let mixed = (start.pc ^ start.sp.rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let index = (mixed >> 61) as usize & (WALKS - 1);
    if holds(thread, index, start, rules, have) {
        return thread.walks[index].site;
    }
    thread.walks[index].pc = 0;
    let hash = walk(thread, start, index);
    let outcome = thread.stack.truncated;
    thread.stack.truncated = 0;
    let last = (thread.stack.depth.wrapping_sub(1) as usize) & (MAX_FRAMES - 1);
    let missing = thread.stack.frames[last];
    if outcome == MISSING
        && let Some(id) = copy(thread, start, missing)
    {
        return id;
    }
    if outcome == COMPLETE {
        let walk = &mut thread.walks[index];
        // Otherwise the walk depends on words that cannot be stored, and is not remembered.
        if walk.slots as usize <= WALK_SLOTS && (walk.span as usize) < WALK_WORDS {
            walk.pc = start.pc;
            walk.sp = start.sp;
            walk.bp = start.bp;
            walk.site = hash;
            walk.rules = rules;
        }
    } else {
        count(Counter::StacksTruncated);
        thread.stack.truncated = 1;
    }
    publish(thread, hash);
    hash
}

/// Enters the walked stack in the map of stacks, unless the thread did so last.
#[inline(always)]
fn publish(thread: &mut Thread, hash: u64) {
    let version = version();
    if thread.last_site == hash && thread.last_version == version {
        return;
    }
    thread.last_version = version;
    thread.last_site = if enter(thread, hash) { hash } else { 0 };
}

/// Enters the walked stack in the map of stacks, unless it is there. Returns whether it is there now.
#[inline(always)]
pub fn enter(thread: &mut Thread, hash: u64) -> bool {
    // SAFETY: only tests for presence.
    if unsafe { STACKS.get(hash) }.is_some() {
        return true;
    }
    // Frames of an earlier, deeper walk are not part of this stack.
    let depth = thread.stack.depth;
    for index in 0..MAX_FRAMES {
        if index as u32 >= depth {
            thread.stack.frames[index] = 0;
        }
    }
    let held = STACKS_HELD.get_ptr_mut(thread.slot);
    // SAFETY: a slot of an array map; a slightly outdated value is acceptable.
    let room = held.is_none_or(|held| unsafe {
        core::ptr::read_volatile(held) < u64::from(MAX_STACKS_OF_ONE)
    });
    if !room || STACKS.insert(hash, &thread.stack, 0).is_err() {
        count(Counter::StacksFull);
        return false;
    }
    if let Some(held) = held {
        // SAFETY: a slot of an array map, aligned.
        unsafe { fetch_add(held, 1) };
    }
    true
}

/// Version of rules and stacks: what was cached under another version may be invalid.
#[inline(always)]
fn version() -> u64 {
    match RULES_VERSION.get_ptr(0) {
        // SAFETY: a plain number.
        Some(version) => unsafe { core::ptr::read_volatile(version) },
        None => 0,
    }
}

/// The site id of a call that returns to `pc`, by the chain of frame pointers from `bp`, which Go programs keep.
#[inline(never)]
pub fn by_frame_pointers(thread: &mut Thread, pc: u64, bp: u64) -> u64 {
    let mut pc = pc;
    let mut bp = bp;
    let mut hash = SITE_SEED ^ u64::from(thread.layout);
    let mut depth = 0u32;
    for index in 0..MAX_FRAMES {
        thread.stack.frames[index] = pc;
        hash = site_step(hash, pc);
        depth = index as u32 + 1;
        if bp == 0 {
            break;
        }
        // SAFETY: the helper checks the address; a bad one is an error.
        let Ok([saved, next]) = (unsafe { bpf_probe_read_user(bp as *const [u64; 2]) }) else {
            break;
        };
        // The frame of a caller may be at a lower address, because the runtime has a stack of its own.
        if next == 0 || saved == bp {
            break;
        }
        pc = next;
        bp = saved;
    }
    thread.stack.depth = depth;
    thread.stack.tgid = thread.tgid;
    thread.stack.layout = thread.layout;
    thread.stack.truncated = 0;
    let hash = hash & !SITE_PROVISIONAL;
    publish(thread, hash);
    hash
}

/// Whether the remembered walk `index` applies: it started as this one does, and all it depends on is unchanged.
#[inline(always)]
fn holds(thread: &mut Thread, index: usize, start: &Start, rules: u64, have: u64) -> bool {
    let walk = &thread.walks[index];
    if walk.pc != start.pc || walk.sp != start.sp || walk.rules != rules {
        return false;
    }
    if walk.uses_bp != 0 && walk.bp != start.bp {
        return false;
    }
    let span = u64::from(walk.span);
    if span > have && !fetch(thread, start.sp.wrapping_sub(8), span) {
        return false;
    }
    let walk = &thread.walks[index];
    for slot in 0..WALK_SLOTS {
        if slot as u32 >= walk.slots {
            break;
        }
        if thread.words[walk.at[slot] as usize & (WALK_WORDS - 1)] != walk.words[slot] {
            return false;
        }
    }
    if span > thread.span {
        thread.span = span;
    }
    true
}

/// Notes that the walk depends on `word`, which lies at `from`.
#[inline(always)]
fn rest_on(walk: &mut Walk, sp: u64, from: u64, word: u64) {
    let distance = from.wrapping_sub(sp).wrapping_add(8);
    let at = distance >> 3;
    let slot = walk.slots as usize;
    if distance & 7 != 0 || at as usize >= WALK_WORDS - 1 || slot >= WALK_SLOTS {
        walk.span = u32::MAX;
        return;
    }
    walk.at[slot] = at as u16;
    walk.words[slot] = word;
    walk.slots = slot as u32 + 1;
    if walk.span <= at as u32 {
        walk.span = at as u32 + 1;
    }
}

/// Walks the stack into `thread.stack`, and notes in walk `index` what it depends on. Returns the hash of the stack, and
/// stores in `truncated` how the walk ended.
///
/// A separate function that stores its outcome in a map value: so the verifier of Linux 6.1 checks the code that follows
/// once, and not again for each number of frames.
#[inline(never)]
fn walk(thread: &mut Thread, start: &Start, index: usize) -> u64 {
    let layout = u64::from(thread.layout);
    let mut pc = start.pc;
    let mut sp = start.sp;
    let mut bp = start.bp;
    // Address from which `bp` was read; 0: it is the register at the start.
    let mut bp_from = 0;
    let mut hash = SITE_SEED ^ layout;
    let mut depth = 0u32;
    let mut outcome = COMPLETE;
    let notes = &mut thread.walks[index];
    notes.slots = 0;
    notes.span = 0;
    notes.uses_bp = 0;
    for index in 0..MAX_FRAMES {
        thread.stack.frames[index] = pc;
        hash = site_step(hash, pc);
        depth = index as u32 + 1;
        // SAFETY: entries are plain integers written by user space.
        let Some(unwind) = (unsafe { RULES.get(RuleKey { pc, layout }) }) else {
            outcome = MISSING;
            break;
        };
        let base = match unwind.kind {
            rule::SP => sp,
            rule::BP => {
                // A saved `bp` matters only if a frame is found by it.
                if bp_from == 0 {
                    notes.uses_bp = 1;
                } else {
                    rest_on(notes, start.sp, bp_from, bp);
                }
                bp
            }
            rule::END => break,
            _ => {
                outcome = BROKEN;
                break;
            }
        };
        let cfa = base.wrapping_add(i64::from(unwind.cfa_offset) as u64);
        let slot = cfa.wrapping_sub(8);
        // SAFETY: the helper checks the address; a bad one is an error.
        let Ok(next) = (unsafe { bpf_probe_read_user(slot as *const u64) }) else {
            outcome = BROKEN;
            break;
        };
        rest_on(notes, start.sp, slot, next);
        if unwind.rbp_offset != 0 {
            let slot = cfa.wrapping_add(i64::from(unwind.rbp_offset) as u64);
            // SAFETY: as above.
            let Ok(saved) = (unsafe { bpf_probe_read_user(slot as *const u64) }) else {
                outcome = BROKEN;
                break;
            };
            bp = saved;
            bp_from = slot;
        }
        if next == 0 {
            break;
        }
        sp = cfa;
        pc = next;
    }
    thread.stack.depth = depth;
    thread.stack.tgid = thread.tgid;
    thread.stack.layout = thread.layout;
    thread.stack.truncated = outcome;
    hash & !SITE_PROVISIONAL
}

/// Words copied at once.
const PIECE: usize = 8;
/// Bytes copied at once.
const PIECE_LEN: usize = PIECE * 8;

/// A mask with all bits set if `word` could be a user address, else with none.
///
/// Computed without a branch: the verifier of Linux 6.1 would follow both sides of one for each of 512 words, and reject
/// the program. The black boxes keep the compiler from making it a branch again.
#[inline(always)]
fn user_mask(word: u64) -> u64 {
    let high = word >> 47;
    // 2^64 - high has its top bit set for all of 1..=2^17, and for 0 not
    black_box(black_box(high.wrapping_neg()) >> 63).wrapping_sub(1)
}

/// Copies the stack from `sp` upwards, as far as it can be read, and returns the number of bytes.
///
/// Only words that could be user addresses are kept; the others become 0. Unwinding needs only addresses, and other data
/// on the stack (for example a credential in a buffer) must not leave the kernel.
///
/// # Safety
///
/// `to` points to the bytes of a reserved record, aligned to 8.
#[inline(always)]
unsafe fn copy_pointers(to: *mut [u8; STACK_COPY_LEN], sp: u64) -> u32 {
    let mut len = 0;
    for piece in 0..STACK_COPY_LEN / PIECE_LEN {
        let from = sp.wrapping_add((piece * PIECE_LEN) as u64) as *const [u64; PIECE];
        // SAFETY: the helper checks the address.
        let Ok(words) = (unsafe { bpf_probe_read_user(from) }) else {
            break;
        };
        for (index, word) in words.iter().enumerate() {
            let kept = *word & user_mask(*word);
            // SAFETY: within the bytes, by the bounds of both loops.
            unsafe { to.cast::<u64>().add(piece * PIECE + index).write(kept) };
        }
        len = ((piece + 1) * PIECE_LEN) as u32;
    }
    len
}

/// Sends the addresses on the stack to user space. Returns the provisional site id, or `None` when the ring is full.
#[inline(always)]
fn copy(thread: &Thread, start: &Start, missing: u64) -> Option<u64> {
    let Some(mut entry) = EVENTS.reserve::<StackCopy>(0) else {
        count(Counter::RingFull);
        return None;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: as above.
    let random = unsafe { bpf_get_prandom_u32() };
    let id = SITE_PROVISIONAL | (now << 16) ^ u64::from(random);
    // SAFETY: `record` is the reserved record, of that type; every field but `bytes` beyond `len`,
    // which user space does not read, is written before it is submitted.
    unsafe {
        let len = copy_pointers(&raw mut (*record).bytes, start.sp);
        (*record).kind = kind::STACK;
        (*record).tgid = thread.tgid;
        (*record).site = id;
        (*record).pc = start.pc;
        (*record).sp = start.sp;
        (*record).bp = start.bp;
        (*record).exact_pc = start.exact_pc;
        (*record).len = len;
        (*record).layout = thread.layout;
        (*record).reserved = 0;
        (*record).missing = missing;
    }
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    count_in(thread.slot, Counter::StacksCopied);
    Some(id)
}
