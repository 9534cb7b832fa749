//! The scan of a request head by a thread of a Go program, and heads in net/http's own buffer.
//!
//! Uprobes can be preempted, so the state of the scan belongs to the thread and not to the CPU.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::{Array, HashMap},
};
use heaptide_ebpf::{
    Counter, CredentialPattern, GoCookie,
    head::{self, BODY, CHUNK, EVENT_HEAD, LOST, START, Scan},
};

use crate::{
    maps::{count, settings},
    user::words,
};

/// Words of `bufio.Reader` that are read: first the buffer's address and length, last the positions up to which it
/// was read and written.
const READER_WORDS: usize = 7;
/// Longest buffer that is accepted (net/http's has 4 KiB).
const MAX_BUFFER: u64 = 64 << 10;
/// Passes over the buffer: one per KiB and two or three per pipelined request.
const ROUNDS: u32 = 96;
/// Steps of the scanner per pass.
pub const STEPS: u32 = CHUNK as u32 + 512;

/// The scan of a thread.
#[repr(C)]
pub struct GoScan {
    /// Address of the bytes.
    from: u64,
    /// Number of bytes.
    len: u32,
    /// Number of bytes taken so far.
    taken: u32,
    /// 1: a head ended with the last of them.
    whole: u32,
    reserved: u32,
    /// What it looks for.
    pub credential: CredentialPattern,
    pub scan: Scan,
}

/// Scans by thread.
#[map]
static GO_SCANS: HashMap<u32, GoScan> = HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);
/// A zeroed scan to make new ones from.
#[map]
static BLANK_SCAN: Array<GoScan> = Array::with_max_entries(1, 0);

/// What the callbacks of the scanner work on.
pub struct Context {
    pub scan: *mut GoScan,
}

/// This thread's scan.
#[inline(always)]
pub fn scan_of_thread() -> Option<&'static mut GoScan> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let scan = match GO_SCANS.get_ptr_mut(tid) {
        Some(scan) => scan,
        None => {
            let blank = BLANK_SCAN.get_ptr(0)?;
            // SAFETY: a slot of an array map that nothing writes.
            if GO_SCANS.insert(tid, unsafe { &*blank }, 0).is_err() {
                count(Counter::ThreadsFull);
                return None;
            }
            GO_SCANS.get_ptr_mut(tid)?
        }
    };
    // SAFETY: only the thread itself touches its entry, and it is in this program.
    Some(unsafe { &mut *scan })
}

/// This thread's scan, set to look for `credential`.
#[inline(always)]
pub fn scan_for(credential: &CredentialPattern) -> Option<&'static mut GoScan> {
    let scan = scan_of_thread()?;
    scan.credential = *credential;
    Some(scan)
}

/// Forgets the scan of a thread that ends.
#[inline(always)]
pub fn forget_thread(tid: u32) {
    let _ = GO_SCANS.remove(tid);
}

/// Scans the head of a response's request in its connection's buffer; 1 if the buffer held all of it.
///
/// The buffer may hold several pipelined requests. The head is the last one, which ends where net/http has read to.
#[inline(never)]
pub fn read_head(scan: &mut GoScan, response: u64, cookie: GoCookie) -> u32 {
    let Some([conn]) = words(response) else {
        return 0;
    };
    let Some([reader]) = words(conn.wrapping_add(cookie.reader())) else {
        return 0;
    };
    let Some([from, room, _, _, _, read, written]) = words::<READER_WORDS>(reader) else {
        return 0;
    };
    if read == 0 || read > written || written > room || room > MAX_BUFFER {
        return 0;
    }
    scan.from = from;
    scan.len = read as u32;
    scan.taken = 0;
    scan.whole = 0;
    scan.scan.position = 0;
    scan.scan.end = 0;
    scan.scan.event = 0;
    scan.scan.parser.state = START;
    let mut context = Context { scan };
    // SAFETY: `round` has the signature the helper requires, and its context is a `Context`, which outlives the
    // call.
    unsafe {
        generated::bpf_loop(ROUNDS, round as *mut _, (&raw mut context).cast(), 0);
        (*context.scan).whole
    }
}

/// One round of [`read_head`]: skips body bytes, or scans up to the next event. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Context`] whose `scan` is this thread's and is used by nothing else during the call.
unsafe extern "C" fn round(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let state = unsafe { &mut *(*context.cast::<Context>()).scan };
    if state.scan.position >= state.scan.end {
        let rest = state.len.wrapping_sub(state.taken);
        if state.len <= state.taken {
            return 1;
        }
        if state.scan.parser.state == BODY {
            state.taken += head::skip_body(&mut state.scan.parser, rest);
            return 0;
        }
        let size = ((rest.min(CHUNK as u32).wrapping_sub(1)) & (CHUNK as u32 - 1)) + 1;
        // SAFETY: `data` holds CHUNK bytes and more; the helper checks the user address.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                (&raw mut state.scan.data).cast(),
                size,
                (state.from + u64::from(state.taken)) as *const _,
            )
        };
        if failed != 0 {
            count(Counter::ReadFaults);
            return 1;
        }
        state.taken += size;
        state.scan.position = 0;
        state.scan.end = size;
    } else if state.scan.parser.state == BODY {
        let rest = state.scan.end - state.scan.position;
        state.scan.position += head::skip_body(&mut state.scan.parser, rest);
        return 0;
    }
    if state.scan.parser.state == LOST {
        return 1;
    }
    state.scan.event = 0;
    // SAFETY: `step` has the signature the helper requires; it gets this function's own context, and `state` is not
    // used while it runs.
    unsafe {
        generated::bpf_loop(STEPS, step as *mut _, context, 0);
    }
    if state.scan.event == EVENT_HEAD
        && state.taken == state.len
        && state.scan.position >= state.scan.end
    {
        state.whole = 1;
        return 1;
    }
    0
}

/// One step of the scanner. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Context`] whose `scan` is this thread's and is used by nothing else during the call.
pub unsafe extern "C" fn step(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise; the settings are a static that nothing writes after the load.
    let (state, settings) = unsafe { (&mut *(*context.cast::<Context>()).scan, &*settings()) };
    head::step(&mut state.scan, settings, &state.credential)
}
