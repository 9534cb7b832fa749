//! Connections: the requests that reads begin, and what is kept of them until they are answered.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use heaptide_ebpf::{
    ConnKey, Counter, RequestRecord,
    head::{CUT_HEAD, CUT_PATH, Parser},
    kind, request_flags,
};

use crate::{
    maps::{
        BLANK_CONN, CONNS, Conn, EVENTS, PIPELINE, PIPELINED, Pending, Thread, count, count_in,
    },
    python_tasks, request,
};

/// The connection, if it is known.
#[inline(always)]
pub fn find(thread: &Thread, fd: u32) -> Option<&'static mut Conn> {
    let conn = CONNS.get_ptr_mut(ConnKey {
        tgid: thread.tgid,
        fd,
    })?;
    // SAFETY: a map value of plain integers, whose indices are masked at each use. Two threads that work on one
    // connection at once can mix up its state, but not break memory safety.
    Some(unsafe { &mut *conn })
}

/// Bytes are written to an unknown connection. If the thread has a current request on it, the full map of connections
/// dropped it, and the request gets no record.
#[inline(always)]
pub fn answers_forgotten(thread: &mut Thread, fd: u32) {
    if thread.request != 0 && thread.fd == fd && thread.answered == 0 {
        count_in(thread.slot, Counter::RequestsLost);
        request::clear_current(thread);
    }
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

/// The request whose head is being read.
#[inline(always)]
fn newest(conn: &mut Conn) -> Option<&mut Pending> {
    if conn.open <= 1 {
        return Some(&mut conn.front);
    }
    let last = (conn.first + conn.open - 1) as usize & (PIPELINE - 1);
    let pending = PIPELINED.get_ptr_mut(conn.queue[last])?;
    // SAFETY: a map value that belongs to this connection.
    Some(unsafe { &mut *pending })
}

/// Removes the oldest request; the next one moves up.
#[inline(never)]
pub fn pop(conn: &mut Conn) -> u32 {
    conn.first = (conn.first + 1) & (PIPELINE as u32 - 1);
    conn.open = conn.open.wrapping_sub(1) & (2 * PIPELINE as u32 - 1);
    if conn.open == 0 {
        return 0;
    }
    let id = conn.queue[conn.first as usize & (PIPELINE - 1)];
    // SAFETY: a map value that belongs to this connection.
    if let Some(waiting) = unsafe { PIPELINED.get(id) } {
        let front = &mut conn.front;
        front.start_ns = waiting.start_ns;
        front.token = waiting.token;
        front.tail = waiting.tail;
        front.tail_filter = waiting.tail_filter;
        front.task = waiting.task;
        front.head_bytes = waiting.head_bytes;
        front.body_bytes = waiting.body_bytes;
        front.tid = waiting.tid;
        front.path_len = waiting.path_len;
        front.binding = waiting.binding;
        front.flags = waiting.flags;
        front.complete = waiting.complete;
        front.path = waiting.path;
        let _ = PIPELINED.remove(id);
    } else {
        // The map of pipelined requests was full and dropped this one: only its times are known.
        conn.front.token = 0;
        conn.front.tail = 0;
        conn.front.path_len = 0;
        conn.front.complete = 0;
        count(Counter::RequestsLost);
    }
    conn.front.request = id;
    conn.front.response_bytes = 0;
    conn.front.sent_ns = 0;
    conn.front.status = 0;
    conn.front.answered = 0;
    0
}

/// A request line was recognised; `begun` requests began earlier in the same read.
#[inline(always)]
pub fn begin(thread: &mut Thread, conn: &mut Conn, fd: u32, begun: u32) {
    conn.http = 1;
    conn.misses = 0;
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if conn.open > 0 && conn.front.answered != 0 {
        pop(conn);
    }
    if conn.open > 0 && (conn.open >= PIPELINE as u32 || (conn.responds == 0 && begun == 0)) {
        // The answer to the oldest request was not seen.
        send(&conn.front, thread.tgid, fd, conn.generation, now);
        pop(conn);
    }
    let id = request::next_id();
    count(Counter::Requests);
    let queued = (conn.first + conn.open) as usize & (PIPELINE - 1);
    conn.queue[queued] = id;
    if conn.open > 0 && PIPELINED.insert(id, &conn.front, 0).is_err() {
        count(Counter::RequestsLost);
        return;
    }
    conn.open += 1;
    if conn.open == 1 {
        request::set_current(thread, id, fd);
        python_tasks::began(thread, id);
    }
    let flags = if conn.accepted == 0 {
        request_flags::ATTACHED_LATE
    } else {
        0
    };
    let Some(pending) = newest(conn) else { return };
    pending.request = id;
    pending.start_ns = now;
    pending.token = 0;
    pending.tail = 0;
    pending.tail_filter = 0;
    pending.task = thread.task;
    pending.response_bytes = 0;
    pending.sent_ns = 0;
    pending.head_bytes = 0;
    pending.body_bytes = 0;
    pending.tid = bpf_get_current_pid_tgid() as u32;
    pending.path_len = 0;
    pending.status = 0;
    pending.flags = flags;
    pending.complete = 0;
    pending.answered = 0;
    pending.binding = request::binding_of(thread);
}

/// A head is complete, or the rest of it is not read: stores what is known of it with its request.
#[inline(always)]
pub fn complete(thread: &Thread, conn: &mut Conn, parser: &Parser) {
    if conn.open == 0 {
        return;
    }
    let Some(pending) = newest(conn) else { return };
    describe(pending, parser);
    pending.complete = 1;
    pending.binding = request::binding_of(thread);
    if parser.cut & CUT_HEAD != 0 {
        pending.flags |= request_flags::HEAD_CUT;
    }
}

/// Stores what is known of a head with its request.
#[inline(always)]
pub fn describe(pending: &mut Pending, parser: &Parser) {
    pending.token = parser.token;
    pending.tail = parser.tail_fingerprint;
    pending.tail_filter = parser.tail_filter;
    pending.head_bytes = parser.head_bytes;
    let body = parser.content_length;
    pending.body_bytes = if body > u64::from(u32::MAX) {
        u32::MAX
    } else {
        body as u32
    };
    pending.path = parser.path;
    pending.path_len = parser.path_len;
    if parser.cut & CUT_PATH != 0 {
        pending.flags |= request_flags::PATH_CUT;
    }
}

/// The connection is being closed, or its descriptor is handed out again.
#[inline(always)]
pub fn closed(thread: &mut Thread, fd: u32) {
    let Some(conn) = find(thread, fd) else { return };
    let generation = conn.generation;
    let mut left = PIPELINE;
    // Each request that waits for its answer ends here; the oldest may have been answered.
    while left > 0 && conn.open > 0 {
        left -= 1;
        if conn.front.answered == 0 {
            // SAFETY: no preconditions.
            let now = unsafe { bpf_ktime_get_ns() };
            send(&conn.front, thread.tgid, fd, generation, now);
        }
        if conn.front.request == thread.request {
            request::clear_current(thread);
        }
        pop(conn);
    }
    let _ = CONNS.remove(ConnKey {
        tgid: thread.tgid,
        fd,
    });
}

/// A read found no data: between requests no request is current.
#[inline(always)]
pub fn idle(thread: &mut Thread, conn: &mut Conn) {
    if thread.request != 0
        && conn.open == 1
        && conn.front.answered != 0
        && conn.front.request == thread.request
    {
        request::clear_current(thread);
    }
}

/// Sends what is known of a request.
#[inline(never)]
pub fn send(pending: &Pending, tgid: u32, fd: u32, generation: u32, now: u64) -> u32 {
    let Some(mut entry) = EVENTS.reserve::<RequestRecord>(0) else {
        count(Counter::RequestsLost);
        return 0;
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
        (*record).tail = pending.tail;
        (*record).tail_filter = pending.tail_filter;
        (*record).reserved = 0;
        (*record).path = pending.path;
    }
    // User space polls often enough; waking it for each request would cost the target time.
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    0
}
