//! Responses: which request a write answers, and with which status.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated};
use heaptide_ebpf::{
    binding,
    head::{CHUNK, bytes},
    request_flags,
};

use crate::{
    http,
    maps::{Conn, PIPELINE, READING, Thread},
    reading::{self, Bytes},
    request,
};

/// Length of `HTTP/1.1 200`: the part of a response that is read.
const STATUS_LINE: u32 = 12;
/// KiB of one write that are searched for more responses.
const ROUNDS: u32 = 64;
/// Interval at which a streamed response is reported again.
const STREAM_NS: u64 = 1_000_000_000;

/// `total` bytes were written to the connection, and lie at `bytes` unless a file was sent.
#[inline(always)]
pub fn written(thread: &mut Thread, conn: &mut Conn, fd: u32, bytes: &Bytes, total: u64) {
    if conn.open == 0 {
        return;
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut status = 0;
    if conn.front.answered == 0 || conn.open > 1 {
        status = first_status(conn, fd, bytes);
    }
    if status == 0 {
        let pending = &mut conn.front;
        pending.response_bytes += total;
        if pending.answered == 0 {
            return;
        }
        if conn.open > 1 {
            others(thread, conn, bytes, now, 0);
        } else if now - pending.sent_ns > STREAM_NS {
            pending.sent_ns = now;
            pending.flags |= request_flags::STREAMING;
            http::send(pending, thread.tgid, fd, conn.generation, now);
        }
        return;
    }
    let informational = status < 200 && status != 101;
    if !informational {
        if conn.front.answered != 0 {
            http::pop(conn);
        }
        conn.front.response_bytes += total;
        answer(thread, conn, fd, status, now);
    }
    if informational || conn.open > 1 {
        others(thread, conn, bytes, now, 1);
    }
}

/// The oldest open request is answered.
#[inline(never)]
fn answer(thread: &mut Thread, conn: &mut Conn, fd: u32, status: u32, now: u64) -> u32 {
    let pending = &mut conn.front;
    pending.status = status as u16;
    pending.answered = 1;
    pending.sent_ns = now;
    // Another thread read the head: how the request got from there to here is not known.
    let moved = pending.tid != bpf_get_current_pid_tgid() as u32;
    if pending.task == 0 && (moved || thread.interleaved != 0) {
        pending.binding = binding::INFERRED;
    }
    http::send(pending, thread.tgid, fd, conn.generation, now);
    conn.responds = 1;
    if thread.fd == fd {
        thread.answered = 1;
    }
    if conn.open > 1 {
        let next = conn.queue[(conn.first + 1) as usize & (PIPELINE - 1)];
        request::set_current(thread, next, fd);
    }
    0
}

/// The status in the first bytes written, 0 if there is none (yet).
#[inline(always)]
fn first_status(conn: &mut Conn, fd: u32, bytes: &Bytes) -> u32 {
    let Some(reading) = reading::open(bytes, fd) else {
        return 0;
    };
    if conn.front.answered != 0 {
        conn.status_len = 0;
    }
    // Some servers write the head in parts, so the status may be in one of the next pieces of an `iovec` array.
    let mut tries = 0;
    while tries < 3 {
        tries += 1;
        if !reading::piece(reading) {
            break;
        }
        let have = conn.status_len & 15;
        let len = reading.len.min(STATUS_LINE.wrapping_sub(have) & 15);
        reading.taken = reading.len;
        if len == 0 {
            continue;
        }
        // SAFETY: at most 15 + 16 bytes of 32; the helper checks the user address.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                (&raw mut conn.status)
                    .cast::<u8>()
                    .add(have as usize)
                    .cast(),
                ((len - 1) & 15) + 1,
                reading.from as *const _,
            )
        };
        let have = have + len;
        conn.status_len = 0;
        if failed != 0 || !begins_response(&conn.status, have) {
            return 0;
        }
        if have >= STATUS_LINE {
            return digits(conn.status[9], conn.status[10], conn.status[11]);
        }
        conn.status_len = have;
    }
    0
}

/// Whether the first `have` bytes are as in `HTTP/1.x NNN`.
#[inline(always)]
fn begins_response(text: &[u8; 32], have: u32) -> bool {
    const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    let word = u64::from_le_bytes([
        text[0], text[1], text[2], text[3], text[4], text[5], text[6], 0,
    ]);
    let known = have.min(7) & 7;
    let mask = (1_u64 << (known * 8)) - 1;
    (word ^ VERSION) & mask == 0
}

#[inline(always)]
fn digits(a: u8, b: u8, c: u8) -> u32 {
    let digit = |byte: u8| u32::from(byte.wrapping_sub(b'0'));
    let (a, b, c) = (digit(a), digit(b), digit(c));
    if a > 9 || b > 9 || c > 9 {
        0
    } else {
        a * 100 + b * 10 + c
    }
}

/// What [`round`] works on.
struct Search {
    thread: *mut Thread,
    conn: *mut Conn,
    now: u64,
}

/// Answers to pipelined requests are often sent in one write: looks for status lines after the first `known` ones.
#[inline(never)]
fn others(thread: &mut Thread, conn: &mut Conn, bytes: &Bytes, now: u64, known: u32) -> u32 {
    let Some(reading) = READING.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as in `reading::open`; the slot was opened for this system call before.
    let fd = unsafe { (*reading).fd };
    let Some(reading) = reading::open(bytes, fd) else {
        return 0;
    };
    reading.begun = known;
    let mut context = Search { thread, conn, now };
    // SAFETY: `round` has the signature the helper requires, and its context is a `Search`, which outlives the call
    // like the references in it.
    unsafe {
        generated::bpf_loop(ROUNDS, round as *mut _, (&raw mut context).cast(), 0);
    }
    0
}

/// One round of [`others`]: searches up to the next status line. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Search`] whose pointers are valid and are used by nothing else during the call. It runs in a
/// tracepoint of a system call, which has preemption off, after [`reading::open`].
unsafe extern "C" fn round(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    let context = context.cast::<Search>();
    // SAFETY: the caller's promise.
    let (thread, conn, now) = unsafe {
        (
            &mut *(*context).thread,
            &mut *(*context).conn,
            (*context).now,
        )
    };
    let Some(reading) = READING.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: as in `reading::open`.
    let reading = unsafe { &mut *reading };
    if reading.scan.position >= reading.scan.end {
        if !reading::piece(reading) {
            return 1;
        }
        if reading.len <= reading.taken {
            return 0;
        }
        if !reading::fill(reading, STATUS_LINE - 1) {
            return 1;
        }
    }
    reading.scan.event = 0;
    // SAFETY: `step` has the signature the helper requires and uses no context; `reading` is not used while it runs.
    unsafe {
        generated::bpf_loop(CHUNK as u32, step as *mut _, core::ptr::null_mut(), 0);
    }
    let status = reading.scan.event;
    if status != 0 && reading.begun > 0 {
        reading.begun -= 1;
    } else if status >= 200 {
        if conn.front.answered != 0 {
            if conn.open <= 1 {
                return 1;
            }
            http::pop(conn);
        }
        answer(thread, conn, reading.fd, status, now);
    }
    0
}

/// One step of the search; stores a status in `event`. Returns 1 to stop.
///
/// # Safety
///
/// Runs in a tracepoint of a system call, which has preemption off, so that nothing else uses this CPU's slot of
/// [`READING`] during the call.
unsafe extern "C" fn step(_index: u32, _context: *mut core::ffi::c_void) -> i64 {
    const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    let Some(reading) = READING.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: as in `reading::open`.
    let scan = unsafe { &mut (*reading).scan };
    let position = scan.position;
    if position >= scan.end || position >= CHUNK as u32 {
        return 1;
    }
    // SAFETY: `data` is eight bytes longer than CHUNK.
    let word = unsafe {
        (&raw const scan.data)
            .cast::<u8>()
            .add(position as usize & (CHUNK - 1))
            .cast::<u64>()
            .read_unaligned()
    };
    let mask = bytes::equal(word, b'H');
    if mask & 0x80 == 0 {
        scan.position = position + if mask == 0 { 8 } else { bytes::first(mask) };
        return 0;
    }
    scan.position = position + 1;
    if (word ^ VERSION) << 8 == 0 && position + STATUS_LINE <= scan.end {
        let at = (position as usize + 8) & (CHUNK - 1);
        let data = &scan.data;
        let status = digits(data[at + 1], data[at + 2], data[at + 3]);
        if status != 0 {
            scan.event = status;
            scan.position = position + STATUS_LINE;
            return 1;
        }
    }
    0
}
