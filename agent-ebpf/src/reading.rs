//! Feeds the bytes of a read, piece by piece, to the scanner of request heads.

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use heaptide_ebpf::{
    Counter, CredentialPattern,
    head::{self, BODY, CHUNK, EVENT_BEGIN, EVENT_HEAD, LOST, OPENING, START},
};

use crate::{
    http,
    maps::{Conn, READING, Reading, Thread, count, settings},
};

/// Passes over the data of one read: one per KiB and two or three per request.
const ROUNDS: u32 = 256;
/// Steps of the scanner per pass: a few consume nothing.
const STEPS: u32 = CHUNK as u32 + 512;
/// Reads without a request line after which a connection is not scanned any more.
const MISSES: u32 = 8;
/// Most elements of an `iovec` array (`IOV_MAX`).
const VECTORS: u32 = 1024;

/// Location of a system call's bytes in the target's memory.
pub struct Bytes {
    /// Address of the bytes, or of the `iovec` array that lists them.
    pub at: u64,
    /// Elements of that array; 0: there is none.
    pub vectors: u32,
    /// Total number of bytes.
    pub len: u32,
}

/// What [`round`] works on. Numbers are in [`Reading`] instead: the verifier would track their values on the stack
/// through every round.
struct Feed {
    thread: *mut Thread,
    conn: *mut Conn,
}

/// This CPU's slot of [`READING`], set to the bytes of a system call.
#[inline(always)]
pub fn open(bytes: &Bytes, fd: u32) -> Option<&'static mut Reading> {
    let reading = READING.get_ptr_mut(0)?;
    // SAFETY: this CPU's own slot; tracepoints of system calls run with preemption off.
    let reading = unsafe { &mut *reading };
    reading.scan.position = 0;
    reading.scan.end = 0;
    reading.taken = 0;
    reading.fd = fd;
    reading.begun = 0;
    if bytes.vectors == 0 {
        reading.from = bytes.at;
        reading.len = bytes.len;
        reading.vectors = 0;
        reading.rest = 0;
    } else {
        reading.len = 0;
        reading.vector = bytes.at;
        reading.vectors = if bytes.vectors > VECTORS {
            VECTORS
        } else {
            bytes.vectors
        };
        reading.rest = bytes.len;
    }
    Some(reading)
}

/// Whether the bytes are the start of a request line.
#[inline(never)]
pub fn begins_request(bytes: &Bytes, fd: u32) -> bool {
    let Some(reading) = open(bytes, fd) else {
        return false;
    };
    if !piece(reading) || reading.len == 0 {
        return false;
    }
    let size = (reading.len.min(OPENING as u32).wrapping_sub(1) & (OPENING as u32 - 1)) + 1;
    let data = (&raw mut reading.scan.data).cast::<[u8; OPENING]>();
    // SAFETY: `data` is longer than that; the helper checks the user address.
    unsafe {
        let failed = generated::bpf_probe_read_user(data.cast(), size, reading.from as *const _);
        failed == 0 && head::begins_request(&*data, size)
    }
}

/// Goes to the next piece if this one is used up; false when there is none.
#[inline(always)]
pub fn piece(reading: &mut Reading) -> bool {
    if reading.taken < reading.len {
        return true;
    }
    if reading.vectors == 0 || reading.rest == 0 {
        return false;
    }
    // SAFETY: the helper checks the address.
    let Ok([base, len]) = (unsafe { bpf_probe_read_user(reading.vector as *const [u64; 2]) })
    else {
        count(Counter::ReadFaults);
        return false;
    };
    reading.vector += 16;
    reading.vectors -= 1;
    reading.from = base;
    reading.len = if len < u64::from(reading.rest) {
        len as u32
    } else {
        reading.rest
    };
    reading.rest -= reading.len;
    reading.taken = 0;
    true
}

/// Copies the next bytes of the piece into the scan; whether they could be read. If more bytes follow, the last
/// `again` bytes are copied once more by the next call.
#[inline(always)]
pub fn fill(reading: &mut Reading, again: u32) -> bool {
    let rest = reading.len.wrapping_sub(reading.taken);
    let size = ((rest.min(CHUNK as u32).wrapping_sub(1)) & (CHUNK as u32 - 1)) + 1;
    // SAFETY: `data` holds CHUNK bytes and more; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            (&raw mut reading.scan.data).cast(),
            size,
            (reading.from + u64::from(reading.taken)) as *const _,
        )
    };
    if failed != 0 {
        count(Counter::ReadFaults);
        return false;
    }
    reading.taken += if rest > size { size - again } else { size };
    reading.scan.position = 0;
    reading.scan.end = size;
    true
}

/// Takes in bytes that were read from the connection.
#[inline(never)]
pub fn feed(
    thread: &mut Thread,
    conn: &mut Conn,
    fd: u32,
    bytes: &Bytes,
    credential: &CredentialPattern,
) -> u32 {
    if conn.http == 0 && conn.misses > MISSES {
        return 0;
    }
    let Some(reading) = open(bytes, fd) else {
        return 0;
    };
    reading.credential = *credential;
    let scan = &mut reading.scan;
    scan.parser = conn.parser;
    if scan.parser.state == LOST && (conn.open == 0 || conn.front.answered != 0) {
        scan.parser.state = START;
    }
    let mut context = Feed { thread, conn };
    // SAFETY: `round` has the signature the helper requires, and its context is a `Feed`, which outlives the call
    // like the references in it.
    unsafe {
        generated::bpf_loop(ROUNDS, round as *mut _, (&raw mut context).cast(), 0);
    }
    // SAFETY: the pointers were made from `thread` and `conn` above, and nothing else uses them any more.
    let (thread, conn) = unsafe { (&mut *context.thread, &mut *context.conn) };
    if scan.parser.state == LOST {
        conn.misses += 1;
    } else if scan.position < scan.end {
        // More data than the rounds could scan: the scan resumes at a later read.
        scan.parser.state = LOST;
        scan.parser.cut |= head::CUT_HEAD;
        http::complete(thread, conn, &scan.parser);
    }
    conn.parser = scan.parser;
    0
}

/// One round of [`feed`]: skips body bytes, or scans up to the next event. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Feed`] whose pointers are valid and are used by nothing else during the call. It runs in a
/// tracepoint of a system call, which has preemption off, after [`open`].
unsafe extern "C" fn round(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    let context = context.cast::<Feed>();
    // SAFETY: the caller's promise.
    let (thread, conn) = unsafe { (&mut *(*context).thread, &mut *(*context).conn) };
    let Some(reading) = READING.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: as in `open`.
    let reading = unsafe { &mut *reading };
    if reading.scan.position >= reading.scan.end {
        if !piece(reading) {
            return 1;
        }
        let rest = reading.len.wrapping_sub(reading.taken);
        if reading.len <= reading.taken {
            return 0;
        }
        if reading.scan.parser.state == BODY {
            reading.taken += head::skip_body(&mut reading.scan.parser, rest);
            return 0;
        }
        if !fill(reading, 0) {
            return 1;
        }
    } else if reading.scan.parser.state == BODY {
        let rest = reading.scan.end - reading.scan.position;
        reading.scan.position += head::skip_body(&mut reading.scan.parser, rest);
        return 0;
    }
    if reading.scan.parser.state == LOST {
        return 1;
    }
    reading.scan.event = 0;
    // SAFETY: `step` has the signature the helper requires and uses no context; `reading` is not used while it runs.
    unsafe {
        generated::bpf_loop(STEPS, step as *mut _, core::ptr::null_mut(), 0);
    }
    match reading.scan.event {
        EVENT_BEGIN => {
            http::begin(thread, conn, reading.fd, reading.begun);
            reading.begun += 1;
        }
        EVENT_HEAD => http::complete(thread, conn, &reading.scan.parser),
        _ => {}
    }
    0
}

/// One step of the scanner. Returns 1 to stop.
///
/// # Safety
///
/// Runs in a tracepoint of a system call, which has preemption off, so that nothing else uses this CPU's slot of
/// [`READING`] during the call.
unsafe extern "C" fn step(_index: u32, _context: *mut core::ffi::c_void) -> i64 {
    let Some(reading) = READING.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the caller's promise; the settings are a static that nothing writes after the load.
    let (reading, settings) = unsafe { (&mut *reading, &*settings()) };
    head::step(&mut reading.scan, settings, &reading.credential)
}
