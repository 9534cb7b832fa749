//! Scans the fields of a head that net/http has parsed already, piece by piece, as if they were a head of HTTP/1.

use aya_ebpf::helpers::generated;
use heaptide_ebpf::{
    Counter, PATTERN_LEN,
    head::{CHUNK, bytes},
};

use super::scan::{Context, GoScan, STEPS, step};
use crate::maps::count;

/// Pieces of a field's value that are scanned.
const PIECES: u32 = 16;

/// Words of a pattern.
const WORDS: usize = PATTERN_LEN / 8;

/// Whether a name is that of the header with the scan's credential, ignoring case. Not inlined: Linux 6.1 limits the
/// sum of the stacks of all callers, and the name must not be in the stack of callers that go on to scan.
///
/// Whole words are compared: the verifier would follow every length through a loop over bytes.
#[inline(never)]
pub fn is_credential(scan: *const GoScan, at: u64, len: u64) -> bool {
    // SAFETY: the scan of this thread.
    let wanted = unsafe { &(*scan).credential };
    if len + 1 != u64::from(wanted.header_len) || len as usize >= PATTERN_LEN {
        return false;
    }
    let size = (len as usize & (PATTERN_LEN - 1)) as u32;
    let mut name = [0_u64; WORDS];
    let to = (&raw mut name).cast::<u8>();
    // SAFETY: `size` is below the length of the array; the helper checks the user address.
    let failed = unsafe {
        let failed = generated::bpf_probe_read_user(to.cast(), size, at as *const _);
        // The pattern ends with a colon.
        to.add(size as usize).write(b':');
        failed
    };
    let mut differ = 0;
    for (index, word) in name.iter().enumerate() {
        // SAFETY: within the header's bytes, which begin a structure that is aligned to 8.
        let wanted = unsafe { (&raw const *wanted).cast::<u64>().add(index).read() };
        differ |= bytes::lower(*word) ^ wanted;
    }
    failed == 0 && differ == 0
}

/// Bytes of the target that are fed to the scanner.
struct Feed {
    scan: *mut GoScan,
    from: u64,
    left: u64,
}

/// Scans up to `pieces` pieces of the target's bytes.
#[inline(never)]
pub fn feed(scan: *mut GoScan, from: u64, len: u64, pieces: u32) -> u32 {
    let mut feed = Feed {
        scan,
        from,
        left: len,
    };
    // SAFETY: `piece` has the signature the helper requires, and its context is a `Feed`, which outlives the call.
    unsafe { generated::bpf_loop(pieces, piece as *mut _, (&raw mut feed).cast(), 0) };
    0
}

/// Scans one piece of [`feed`]. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Feed`] that nothing else uses during the call, and whose `scan` is this thread's.
unsafe extern "C" fn piece(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let feed = unsafe { &mut *context.cast::<Feed>() };
    if feed.left == 0 {
        return 1;
    }
    // SAFETY: as above; nothing else refers to the scan while this function fills its data.
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

/// Scans a constant text.
#[inline(always)]
pub fn say<const N: usize>(scan: *mut GoScan, text: &[u8; N]) {
    // SAFETY: the scan of this thread; its data is longer than the text.
    unsafe { *(&raw mut (*scan).scan.data).cast::<[u8; N]>() = *text };
    run(scan, N as u32);
}

/// Scans what is in the data. Inlined, because Linux 6.1 limits the sum of the stacks of all callers, which is nearly
/// used up.
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
        // SAFETY: `step` has the signature the helper requires, and its context is a `Context`, which outlives the
        // call; `scan` is this thread's.
        unsafe {
            (*scan).scan.event = 0;
            generated::bpf_loop(STEPS, step as *mut _, (&raw mut context).cast(), 0);
        }
    }
    0
}
