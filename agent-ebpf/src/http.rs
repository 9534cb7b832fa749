//! Connections: which request a read begins and a write answers.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, generated},
};
use heaptide_ebpf::{ConnKey, Counter, RequestRecord, kind, request_flags};

use crate::{
    head::{self, BODY, EVENT_BEGIN, EVENT_HEAD, LOST, START},
    maps::{BLANK_CONN, CHUNK, CONNS, Conn, EVENTS, PIPELINE, Pending, SCAN, Scan, Thread, count},
    scope,
};

/// Passes over the data of one read: a request takes two or three.
const ROUNDS: u32 = 32;
/// Steps of the scanner per chunk: a few consume nothing.
const STEPS: u32 = CHUNK as u32 + 512;
/// Reads without a request line after which a connection is left alone.
const MISSES: u32 = 8;

/// The connection, if it is known.
#[inline(always)]
pub fn find(thread: &Thread, fd: u32) -> Option<&'static mut Conn> {
    let conn = CONNS.get_ptr_mut(ConnKey {
        tgid: thread.tgid,
        fd,
    })?;
    // SAFETY: two threads on one connection at once can mix up its state, not break memory safety.
    Some(unsafe { &mut *conn })
}

/// A new connection under this descriptor; an old one is forgotten.
#[inline(never)]
pub fn create(thread: &Thread, fd: u32, accepted: u32) -> Option<&'static mut Conn> {
    let blank = BLANK_CONN.get_ptr(0)?;
    // SAFETY: a slot of an array map that nothing writes.
    let blank = unsafe { &*blank };
    let key = ConnKey {
        tgid: thread.tgid,
        fd,
    };
    CONNS.insert(key, blank, 0).ok()?;
    let conn = find(thread, fd)?;
    conn.accepted = accepted;
    // SAFETY: no preconditions.
    conn.generation = (unsafe { bpf_ktime_get_ns() } >> 10) as u32;
    Some(conn)
}

/// Whether four bytes begin a request line.
#[inline(always)]
pub fn begins_request(from: u64) -> bool {
    // SAFETY: the helper checks the address.
    let Ok(word) = (unsafe { bpf_probe_read_user(from as *const [u8; 4]) }) else {
        return false;
    };
    matches!(
        &word,
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"PATC" | b"DELE" | b"OPTI"
    )
}

/// What a round of [`feed`] works on. The numbers are in [`Scan`]: on the stack the verifier would
/// follow their values through every round.
struct Feed {
    thread: *mut Thread,
    conn: *mut Conn,
}

/// `len` bytes at user address `from` were read from the connection.
#[inline(never)]
pub fn feed(thread: &mut Thread, conn: &mut Conn, fd: u32, from: u64, len: u32) -> u32 {
    let Some(scan) = SCAN.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own slot; system-call tracepoints run with preemption off.
    let scan = unsafe { &mut *scan };
    if conn.http == 0 && conn.misses > MISSES {
        return 0;
    }
    scan.parser = conn.parser;
    if scan.parser.state == LOST && (conn.open == 0 || front(conn).answered != 0) {
        scan.parser.state = START;
    }
    scan.position = 0;
    scan.end = 0;
    scan.fd = fd;
    scan.from = from;
    scan.len = len;
    scan.taken = 0;
    let mut context = Feed { thread, conn };
    // SAFETY: `round` has the signature the helper asks for; the context outlives the call.
    unsafe {
        generated::bpf_loop(ROUNDS, round as *mut _, (&raw mut context).cast(), 0);
    }
    // SAFETY: the pointer made from `conn` above; nothing else uses it any more.
    let conn = unsafe { &mut *context.conn };
    if scan.parser.state == LOST {
        conn.misses += 1;
    } else if scan.position < scan.end {
        // More pipelined requests than rounds: resume at the next read.
        scan.parser.state = LOST;
    }
    conn.parser = scan.parser;
    0
}

/// One round of [`feed`]: skips body bytes, or scans up to the next event. Returns 1 to stop.
unsafe extern "C" fn round(_index: u32, context: *mut core::ffi::c_void) -> i64 {
    let context = context.cast::<Feed>();
    // SAFETY: `feed` passes its own context, whose pointers are valid during the loop.
    let (thread, conn) = unsafe { (&mut *(*context).thread, &mut *(*context).conn) };
    let Some(scan) = SCAN.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: as in `feed`.
    let scan = unsafe { &mut *scan };
    if scan.position >= scan.end {
        let rest = scan.len.wrapping_sub(scan.taken);
        if scan.taken >= scan.len {
            return 1;
        }
        if scan.parser.state == BODY {
            let skip = u64::from(rest).min(scan.parser.body_left);
            scan.parser.body_left -= skip;
            scan.taken += skip as u32;
            if scan.parser.body_left == 0 {
                scan.parser.state = START;
            }
            return 0;
        }
        let size = ((rest.min(CHUNK as u32) - 1) & (CHUNK as u32 - 1)) + 1;
        // SAFETY: `data` holds CHUNK bytes and more; the helper checks the user address.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                (&raw mut scan.data).cast(),
                size,
                (scan.from + u64::from(scan.taken)) as *const _,
            )
        };
        if failed != 0 {
            count(Counter::ReadFaults);
            return 1;
        }
        scan.taken += size;
        scan.position = 0;
        scan.end = size;
    } else if scan.parser.state == BODY {
        let inside = u64::from(scan.end - scan.position).min(scan.parser.body_left);
        scan.parser.body_left -= inside;
        scan.position += inside as u32;
        if scan.parser.body_left == 0 {
            scan.parser.state = START;
        }
        return 0;
    }
    if scan.parser.state == LOST {
        return 1;
    }
    scan.event = 0;
    // SAFETY: `step` has the signature the helper asks for and needs no context.
    unsafe {
        generated::bpf_loop(STEPS, head::step as *mut _, core::ptr::null_mut(), 0);
    }
    match scan.event {
        EVENT_BEGIN => begin(thread, conn, scan.fd),
        EVENT_HEAD => complete(thread, conn, scan),
        _ => {}
    }
    0
}

#[inline(always)]
fn front(conn: &mut Conn) -> &mut Pending {
    let first = conn.first as usize & (PIPELINE - 1);
    &mut conn.pending[first]
}

/// A request line was recognised.
#[inline(always)]
fn begin(thread: &mut Thread, conn: &mut Conn, fd: u32) {
    conn.http = 1;
    conn.misses = 0;
    if conn.open > 0 && front(conn).answered != 0 {
        conn.first += 1;
        conn.open -= 1;
    }
    if conn.open > 0 && (conn.open >= PIPELINE as u32 || conn.responds == 0) {
        // The oldest was never seen answered.
        conn.first += 1;
        conn.open -= 1;
        count(Counter::RequestsLost);
    }
    let request = scope::next_request();
    count(Counter::Requests);
    let index = (conn.first + conn.open) as usize & (PIPELINE - 1);
    let pending = &mut conn.pending[index];
    pending.request = request;
    // SAFETY: no preconditions.
    pending.start_ns = unsafe { bpf_ktime_get_ns() };
    pending.token = 0;
    pending.task = thread.task;
    pending.response_bytes = 0;
    pending.sent_ns = 0;
    pending.head_bytes = 0;
    pending.body_bytes = 0;
    pending.tid = bpf_get_current_pid_tgid() as u32;
    pending.path_len = 0;
    pending.status = 0;
    pending.flags = if conn.accepted == 0 {
        request_flags::ATTACHED_LATE
    } else {
        0
    };
    pending.complete = 0;
    pending.answered = 0;
    conn.open += 1;
    if conn.open == 1 {
        scope::set_current(thread, request, fd);
    }
    pending.binding = scope::binding_of(thread);
}

/// A head is complete: what it said goes to its request.
#[inline(always)]
fn complete(thread: &Thread, conn: &mut Conn, scan: &Scan) {
    if conn.open == 0 {
        return;
    }
    let index = (conn.first + conn.open - 1) as usize & (PIPELINE - 1);
    let pending = &mut conn.pending[index];
    pending.token = scan.parser.token;
    pending.head_bytes = scan.parser.head_bytes;
    let body = scan.parser.content_length;
    pending.body_bytes = if body > u64::from(u32::MAX) {
        u32::MAX
    } else {
        body as u32
    };
    pending.path = scan.parser.path;
    pending.path_len = scan.parser.path_len;
    pending.complete = 1;
    pending.binding = scope::binding_of(thread);
    if scan.parser.cut & 1 != 0 {
        pending.flags |= request_flags::PATH_CUT;
    }
    if scan.parser.cut & 2 != 0 {
        pending.flags |= request_flags::HEAD_CUT;
    }
}

/// `total` bytes were written to the connection; the first `len` of them lie at `from`.
#[inline(always)]
pub fn written(thread: &mut Thread, conn: &mut Conn, fd: u32, from: u64, len: u64, total: u64) {
    if conn.open == 0 {
        return;
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let status = if len >= 12 { status_at(from) } else { 0 };
    if status >= 100 && status < 200 && status != 101 {
        return;
    }
    if status != 0 && front(conn).answered != 0 && conn.open > 1 {
        conn.first += 1;
        conn.open -= 1;
    }
    let more = conn.open > 1;
    let next = conn.pending[(conn.first + 1) as usize & (PIPELINE - 1)].request;
    let generation = conn.generation;
    let pending = front(conn);
    pending.response_bytes += total;
    if status != 0 {
        pending.status = status;
        pending.answered = 1;
        pending.sent_ns = now;
        send(pending, thread.tgid, fd, generation, now);
        conn.responds = 1;
        if thread.fd == fd {
            thread.answered = 1;
        }
        if more {
            scope::set_current(thread, next, fd);
        }
    } else if pending.answered != 0 && now - pending.sent_ns > 1_000_000_000 {
        pending.sent_ns = now;
        pending.flags |= request_flags::STREAMING;
        send(pending, thread.tgid, fd, generation, now);
    }
}

/// The connection is being closed.
#[inline(always)]
pub fn closed(thread: &mut Thread, fd: u32) {
    let Some(conn) = find(thread, fd) else { return };
    let generation = conn.generation;
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if conn.open > 0 {
        let pending = front(conn);
        if pending.answered == 0 {
            send(pending, thread.tgid, fd, generation, now);
        }
        if pending.request == thread.request {
            scope::clear_current(thread);
        }
    }
    let _ = CONNS.remove(ConnKey {
        tgid: thread.tgid,
        fd,
    });
}

/// Nothing was there to read: between requests no request is current.
#[inline(always)]
pub fn idle(thread: &mut Thread, conn: &mut Conn) {
    if thread.request != 0 && conn.open == 1 {
        let pending = front(conn);
        if pending.answered != 0 && pending.request == thread.request {
            scope::clear_current(thread);
        }
    }
}

/// The status of the response head at `from`, 0 if there is none.
#[inline(always)]
fn status_at(from: u64) -> u16 {
    // SAFETY: the helper checks the address.
    let Ok(head) = (unsafe { bpf_probe_read_user(from as *const [u8; 12]) }) else {
        return 0;
    };
    if !matches!(
        &head,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', ..]
    ) {
        return 0;
    }
    let digit = |byte: u8| u16::from(byte.wrapping_sub(b'0'));
    let (a, b, c) = (digit(head[9]), digit(head[10]), digit(head[11]));
    if a > 9 || b > 9 || c > 9 {
        0
    } else {
        a * 100 + b * 10 + c
    }
}

#[inline(always)]
fn send(pending: &Pending, tgid: u32, fd: u32, generation: u32, now: u64) {
    let Some(mut entry) = EVENTS.reserve::<RequestRecord>(0) else {
        count(Counter::RequestsLost);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is the reserved record, of that type; every field is written.
    unsafe {
        (*record).kind = kind::REQUEST;
        (*record).tgid = tgid;
        (*record).request = pending.request;
        (*record).start_ns = pending.start_ns;
        (*record).end_ns = now;
        (*record).token = pending.token;
        (*record).head_bytes = pending.head_bytes;
        (*record).body_bytes = pending.body_bytes;
        (*record).response_bytes = pending.response_bytes;
        (*record).tid = pending.tid;
        (*record).fd = fd as i32;
        (*record).generation = generation;
        (*record).status = pending.status;
        (*record).binding = pending.binding;
        (*record).flags = pending.flags;
        (*record).handler = 0;
        (*record).path_len = pending.path_len;
        (*record).task = pending.task;
        (*record).reserved = 0;
        (*record).path = pending.path;
    }
    // User space looks often enough; waking it for each request would cost the target.
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}
