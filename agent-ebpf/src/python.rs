//! The stack of Python frames of the current thread, read from the interpreter's own structures.
//!
//! [`PythonConfig`] has their offsets. A thread's state is found in the interpreter's list by its thread id, and
//! cached for that id.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, generated},
};
use heaptide_ebpf::{
    Counter, MAX_FRAMES, PYTHON_LAYOUT, PythonConfig, PythonThread, SITE_PROVISIONAL, SITE_SEED,
    python_frame, site_step,
};

use crate::{
    maps::{PYTHON_THREADS, Thread, count},
    stack,
};

/// Most thread states that are searched.
const MAX_STATES: u32 = 128;
/// Most frames that are visited; the interpreter's own frames are not kept.
const MAX_LOOKS: u32 = 48;

/// A word of the target's memory; 0 if it cannot be read.
#[inline(always)]
fn word(address: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64) }.unwrap_or(0)
}

/// The word at an offset of a structure; 0 if it cannot be read.
#[inline(always)]
fn at(address: u64, offset: u32) -> u64 {
    word(address.wrapping_add(u64::from(offset)))
}

/// The current thread's context (`contextvars`), 0 when it has none.
#[inline(never)]
pub fn context(config: &PythonConfig) -> u64 {
    match state(config) {
        0 => 0,
        state => at(state, config.context),
    }
}

/// The site id of the current thread's Python frames; 0 when there are none.
#[inline(never)]
pub fn site(thread: &mut Thread, config: &PythonConfig) -> u64 {
    let state = state(config);
    if state == 0 {
        count(Counter::PythonMissed);
        return 0;
    }
    let mut frame = at(state, config.frame);
    if config.frame_through != u32::MAX && frame != 0 {
        frame = at(frame, config.frame_through);
    }
    let hash = walk(thread, config, frame);
    if thread.stack.depth == 0 {
        count(Counter::PythonMissed);
        return 0;
    }
    count(Counter::PythonStacks);
    stack::enter(thread, hash);
    hash
}

/// A walk over frames.
struct Walk {
    thread: *mut Thread,
    config: *const PythonConfig,
    frame: u64,
    hash: u64,
}

/// Walks the frames into `thread.stack`; returns their hash.
#[inline(never)]
fn walk(thread: &mut Thread, config: &PythonConfig, first: u64) -> u64 {
    let layout = thread.layout | PYTHON_LAYOUT;
    thread.stack.depth = 0;
    thread.stack.tgid = thread.tgid;
    thread.stack.layout = layout;
    let mut walk = Walk {
        thread,
        config,
        frame: first,
        hash: SITE_SEED ^ u64::from(layout),
    };
    // A call for each frame instead of a loop: the verifier checks it once. SAFETY: `visit` has the signature the
    // helper requires, and its context is a `Walk`, which outlives the call like the references in it.
    unsafe {
        generated::bpf_loop(MAX_LOOKS, visit as *mut _, (&raw mut walk).cast(), 0);
        // Nothing else uses the thread now.
        (*walk.thread).stack.truncated = u32::from(walk.frame != 0);
    }
    walk.hash & !SITE_PROVISIONAL
}

/// Visits one frame. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Walk`] whose pointers are valid and are used by nothing else during the call.
unsafe extern "C" fn visit(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    // SAFETY: as above.
    let (thread, config) = unsafe { (&mut *walk.thread, &*walk.config) };
    let (frame, depth) = (walk.frame, thread.stack.depth);
    if frame == 0 || depth as usize >= MAX_FRAMES {
        return 1;
    }
    let owner = frame.wrapping_add(u64::from(config.owner));
    // SAFETY: the helper checks the address.
    let owner = u32::from(unsafe { bpf_probe_read_user(owner as *const u8) }.unwrap_or(0));
    if owner != config.entry_owner {
        // The lowest bits mark the ownership of the reference.
        let code = at(frame, config.code) & !7;
        if code == 0 {
            return 1;
        }
        let said = at(frame, config.instruction);
        let (distance, shift) = if config.instruction_shift == u32::MAX {
            let first = code.wrapping_add(u64::from(config.bytecode));
            (said.wrapping_sub(first) as i64, 1)
        } else {
            (i64::from(said as i32), config.instruction_shift & 1)
        };
        // A frame that has not begun points before its first instruction.
        let instruction = if distance > 0 {
            distance as u64 >> shift
        } else {
            0
        };
        let place = python_frame(code, instruction);
        thread.stack.frames[depth as usize & (MAX_FRAMES - 1)] = place;
        thread.stack.depth = depth + 1;
        walk.hash = site_step(walk.hash, place);
    }
    walk.frame = at(frame, config.previous);
    0
}

/// The current thread's state, 0 when it has none.
#[inline(never)]
fn state(config: &PythonConfig) -> u64 {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: plain integers.
    if let Some(known) = unsafe { PYTHON_THREADS.get(tid) }
        && at(known.state, config.thread_id) == known.thread_id
    {
        return known.state;
    }
    find(config, tid)
}

/// The thread, as its PID namespace numbers it, whose state this is.
#[inline(always)]
fn thread_of(state: u64, config: &PythonConfig) -> u32 {
    let id = at(state, config.thread_id);
    if config.thread_through == u32::MAX {
        return id as u32;
    }
    at(id, config.thread_through) as u32
}

/// Searches the interpreter's list for the current thread's state.
#[inline(always)]
fn find(config: &PythonConfig, tid: u32) -> u64 {
    let mut own = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: a buffer of that type and size.
    let known = unsafe {
        generated::bpf_get_ns_current_pid_tgid(
            config.namespace_device,
            config.namespace_inode,
            &raw mut own,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    if known != 0 {
        return 0;
    }
    let interpreter = at(config.runtime, config.interpreters);
    let mut search = Search {
        config,
        pid: own.pid,
        state: at(interpreter, config.threads),
        last: 0,
        found: 0,
    };
    // SAFETY: `compare` has the signature the helper requires, and its context is a `Search`, which outlives the call
    // like the reference in it.
    unsafe {
        generated::bpf_loop(MAX_STATES, compare as *mut _, (&raw mut search).cast(), 0);
    }
    let mut found = search.found;
    if found == 0 && own.pid == own.tgid {
        // After a fork the state of the only thread still has the id of its parent's thread. It is the oldest, the
        // last of the list.
        found = search.last;
    }
    if found != 0 {
        let entry = PythonThread {
            state: found,
            thread_id: at(found, config.thread_id),
        };
        // A full LRU map drops the entry that was unused longest.
        let _ = PYTHON_THREADS.insert(tid, entry, 0);
    }
    found
}

/// The search for a thread's state.
struct Search {
    config: *const PythonConfig,
    /// The thread's id in its PID namespace.
    pid: u32,
    state: u64,
    /// The previous state.
    last: u64,
    found: u64,
}

/// Checks one state. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Search`] whose configuration is valid and that is used by nothing else during the call.
unsafe extern "C" fn compare(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let search = unsafe { &mut *context.cast::<Search>() };
    // SAFETY: as above.
    let config = unsafe { &*search.config };
    if search.state == 0 {
        return 1;
    }
    if thread_of(search.state, config) == search.pid {
        search.found = search.state;
        return 1;
    }
    search.last = search.state;
    search.state = at(search.state, config.next);
    0
}
