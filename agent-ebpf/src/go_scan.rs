//! Scanning the heads of Go's requests: in net/http's own buffer, or piece by piece.
//!
//! Uprobes can be preempted, so the scan's state is the thread's own, not the CPU's.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::{Array, HashMap},
};
use heaptide_ebpf::{
    Counter, GoCookie,
    head::{self, BODY, CHUNK, EVENT_HEAD, LOST, START, Scan},
};

use crate::{
    go::words,
    maps::{count, settings},
};

/// Where bufio's buffer is read to and written to, in words; its address and length come first.
const READER_WORDS: usize = 7;
/// Longest buffer that is believed (net/http makes 4 KiB).
const MAX_BUFFER: u64 = 64 << 10;
/// Passes over the buffer: one per KiB and two or three per pipelined request.
const ROUNDS: u32 = 96;
/// Steps of the scanner per pass.
const STEPS: u32 = CHUNK as u32 + 512;
/// Pieces of a field's value that are scanned.
const PIECES: u32 = 16;
/// A scan under way on a thread.
#[repr(C)]
pub struct GoScan {
    /// Address of the bytes.
    from: u64,
    /// How many of them there are.
    len: u32,
    /// Those that were taken.
    taken: u32,
    /// 1: a head ended with the last of them.
    whole: u32,
    reserved: u32,
    pub scan: Scan,
}

/// By thread.
#[map]
static GO_SCANS: HashMap<u32, GoScan> = HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);
/// To make new ones from.
#[map]
static BLANK_SCAN: Array<GoScan> = Array::with_max_entries(1, 0);

/// A pointer to the state of the scan, where callbacks find it.
struct Context {
    scan: *mut GoScan,
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

/// A thread ends.
#[inline(always)]
pub fn forget_thread(tid: u32) {
    let _ = GO_SCANS.remove(tid);
}

/// Scans the head of a response's request in its connection's buffer: 1 if all of it was there.
///
/// Pipelined requests lie one behind the other; the last head that ends where net/http has read to is
/// the one.
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
    // SAFETY: `round` has the signature the helper asks for; the context outlives the call.
    unsafe {
        generated::bpf_loop(ROUNDS, round as *mut _, (&raw mut context).cast(), 0);
        (*context.scan).whole
    }
}

/// One round of [`read_head`]: skips body bytes, or scans up to the next event. Returns 1 to stop.
unsafe extern "C" fn round(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: `read_head` passes its own context, whose pointer is valid during the loop.
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
    // SAFETY: `step` has the signature the helper asks for; the context outlives the call.
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

/// One step of the scanner.
unsafe extern "C" fn step(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: as in `round`; the settings are a static that nothing writes after the load.
    unsafe { head::step(&mut (*(*context.cast::<Context>()).scan).scan, &*settings()) }
}

/// User bytes under way to the scanner.
struct Feed {
    scan: *mut GoScan,
    from: u64,
    left: u64,
}

/// Scans up to so many pieces of user bytes.
#[inline(never)]
pub fn feed(scan: *mut GoScan, from: u64, len: u64, pieces: u32) -> u32 {
    let mut feed = Feed {
        scan,
        from,
        left: len,
    };
    // SAFETY: `piece` has the signature the helper asks for; the feed outlives the call.
    unsafe { generated::bpf_loop(pieces, piece as *mut _, (&raw mut feed).cast(), 0) };
    0
}

/// One piece of [`feed`].
unsafe extern "C" fn piece(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: `feed` passes its own.
    let feed = unsafe { &mut *context.cast::<Feed>() };
    if feed.left == 0 {
        return 1;
    }
    // SAFETY: the scan of this thread.
    let state = unsafe { &mut *feed.scan };
    let rest = if feed.left > CHUNK as u64 {
        CHUNK as u32
    } else {
        feed.left as u32
    };
    let size = (rest.wrapping_sub(1) & (CHUNK as u32 - 1)) + 1;
    // SAFETY: `data` holds CHUNK bytes and more; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            (&raw mut state.scan.data).cast(),
            size,
            feed.from as *const _,
        )
    };
    if failed != 0 {
        count(Counter::ReadFaults);
        return 1;
    }
    feed.from += u64::from(size);
    feed.left -= u64::from(size);
    run(feed.scan, size);
    0
}

/// Scans a field of a head: addresses and lengths of its name and value.
#[inline(always)]
pub fn feed_field(scan: *mut GoScan, name: [u64; 2], value: [u64; 2]) {
    feed(scan, name[0], name[1], 1);
    say(scan, b":");
    feed(scan, value[0], value[1], PIECES);
    say(scan, b"\r\n");
}

/// Scans some letters.
#[inline(always)]
pub fn say<const N: usize>(scan: *mut GoScan, text: &[u8; N]) {
    // SAFETY: the scan of this thread; its data is longer than the text.
    unsafe { *(&raw mut (*scan).scan.data).cast::<[u8; N]>() = *text };
    run(scan, N as u32);
}

/// Scans what is in the data. Inlined: Linux 6.1 counts the stack of all callers, and it is nearly full.
#[inline(always)]
fn run(scan: *mut GoScan, len: u32) -> u32 {
    // SAFETY: the scan of this thread.
    unsafe {
        (*scan).scan.position = 0;
        (*scan).scan.end = len;
    }
    let mut context = Context { scan };
    // The scanner stops where a head begins and where it ends.
    for _ in 0..2 {
        // SAFETY: `step` has the signature the helper asks for; the context outlives the call.
        unsafe {
            (*scan).scan.event = 0;
            generated::bpf_loop(STEPS, step as *mut _, (&raw mut context).cast(), 0);
        }
    }
    0
}
