//! HTTP/2 in Go's net/http: the fields of a head are scanned as if they were a head of HTTP/1, and the goroutine that
//! runs the handler gets the request.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, generated},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{
    Counter, TaskKey, binding,
    head::{CHUNK, CUT_HEAD, START},
    request_flags,
};

use super::{
    fields::{feed, feed_field, is_credential, say},
    requests::{BY_HTTP2, GO_REQUESTS, NO_FD, watched},
    routes,
    scan::{GoScan, scan_for},
};
use crate::{
    http,
    maps::{BLANK_CONN, Pending, count},
    probe::{self, register},
    request,
    user::words,
};

/// Most fields of a head that are read (`http2MetaHeadersFrame.Fields`: a slice of name, value and a flag).
const FIELDS: u64 = 128;
const FIELD_BYTES: u64 = 40;
const FIELDS_AT: u64 = 8;

/// Requests whose handler has not begun, by the address of their stream.
#[map]
static GO_STREAMS: LruHashMap<TaskKey, Pending> = LruHashMap::with_max_entries(2_048, 0);

/// Names of fields that are recognised, besides that of the credential.
const METHOD: &[u8; 7] = b":method";
const PATH: &[u8; 5] = b":path";
const LENGTH: &[u8; 14] = b"content-length";

/// The fields of the head that is read.
struct Fields {
    scan: *mut GoScan,
    from: u64,
    method: [u64; 2],
    path: [u64; 2],
}

/// Whether the `len` bytes of the target at `at` are `name`.
#[inline(always)]
fn is<const N: usize>(at: u64, len: u64, name: &[u8; N]) -> bool {
    if len != N as u64 {
        return false;
    }
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(at as *const [u8; N]) } {
        Ok(bytes) => &bytes == name,
        Err(_) => false,
    }
}

/// `(*serverConn).newWriterAndRequest(st, f)`: RAX, RBX and RCX. A head has been read.
#[uprobe]
pub fn go_h2_head(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else { return 0 };
    let regs: *const pt_regs = ctx.regs;
    let key = TaskKey {
        task: register!(regs, rbx),
        tgid: bpf_get_current_pid_tgid() >> 32,
    };
    let Some([from, number]) = words(register!(regs, rcx).wrapping_add(FIELDS_AT)) else {
        return 0;
    };
    let Some(scan) = scan_for(&config.credential) else {
        return 0;
    };
    let Some(blank) = BLANK_CONN.get_ptr(0) else {
        return 0;
    };
    // SAFETY: a slot of an array map that nothing writes.
    if GO_STREAMS
        .insert(key, unsafe { &(*blank).front }, 0)
        .is_err()
    {
        count(Counter::RequestsLost);
        return 0;
    }
    let Some(pending) = GO_STREAMS.get_ptr_mut(key) else {
        return 0;
    };
    // SAFETY: a map value that nobody else knows of yet.
    let pending = unsafe { &mut *pending };
    // SAFETY: no preconditions.
    pending.start_ns = unsafe { bpf_ktime_get_ns() };
    let all = read(scan, from, number);
    let parser = &scan.scan.parser;
    http::describe(pending, parser);
    if all == 0 || parser.cut & CUT_HEAD != 0 {
        pending.flags |= request_flags::HEAD_CUT;
    }
    0
}

/// Scans the fields; 1 if none was left out. Inlined to save stack, see `fields::run`.
#[inline(always)]
fn read(scan: &mut GoScan, from: u64, number: u64) -> u32 {
    scan.scan.parser.state = START;
    let mut fields = Fields {
        scan,
        from,
        method: [0; 2],
        path: [0; 2],
    };
    let most = if number > FIELDS { FIELDS } else { number } as u32;
    // SAFETY: the callbacks have the signature the helper requires, and their context is a `Fields`, which outlives
    // the calls; `fields.scan` is this thread's.
    unsafe {
        let context = (&raw mut fields).cast();
        generated::bpf_loop(most, find as *mut _, context, 0);
        let scan = fields.scan;
        feed(scan, fields.method[0], fields.method[1], 1);
        say(scan, b" ");
        feed(scan, fields.path[0], fields.path[1], 1);
        say(scan, b" HTTP/1.1\r\n");
        generated::bpf_loop(most, line as *mut _, context, 0);
        say(scan, b"\r\n");
    }
    u32::from(number <= FIELDS)
}

/// Looks at one field for a part of the request line. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Fields`] that nothing else uses during the call.
unsafe extern "C" fn find(index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *context.cast::<Fields>() };
    let Some([name, name_len, value, value_len]) =
        words(fields.from.wrapping_add(u64::from(index) * FIELD_BYTES))
    else {
        return 1;
    };
    if is(name, name_len, METHOD) {
        fields.method = [value, value_len];
    } else if is(name, name_len, PATH) {
        fields.path = [value, value_len];
    }
    0
}

/// Scans one field, if it is the credential or the length. Returns 1 to stop.
///
/// # Safety
///
/// `context` points to a [`Fields`] that nothing else uses during the call, and whose `scan` is this thread's.
unsafe extern "C" fn line(index: u32, context: *mut core::ffi::c_void) -> i64 {
    // SAFETY: the caller's promise.
    let fields = unsafe { &mut *context.cast::<Fields>() };
    let Some([name, name_len, value, value_len]) =
        words(fields.from.wrapping_add(u64::from(index) * FIELD_BYTES))
    else {
        return 1;
    };
    if is_credential(fields.scan, name, name_len) || is(name, name_len, LENGTH) {
        let scan = fields.scan;
        feed_field(scan, [name, name_len], [value, value_len]);
    }
    0
}

/// `(*serverConn).runHandler(rw, req, handler)`: RBX; R14 is the goroutine, which serves nothing else.
#[uprobe]
pub fn go_h2_run(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *const pt_regs = ctx.regs;
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some([state]) = words(register!(regs, rbx)) else {
        return 0;
    };
    let Some([stream]) = words(state) else {
        return 0;
    };
    let stream = TaskKey {
        task: stream,
        tgid: u64::from(tgid),
    };
    let key = TaskKey {
        task: register!(regs, r14),
        tgid: u64::from(tgid),
    };
    if let Some(before) = GO_REQUESTS.get_ptr(key) {
        // The handler of the goroutine's last request has panicked.
        // SAFETY: no preconditions; a map value that only this goroutine's probes touch.
        unsafe { http::send(&*before, tgid, NO_FD, 0, bpf_ktime_get_ns()) };
    }
    let Some(head) = GO_STREAMS.get_ptr_mut(stream) else {
        // The stream began before the attach.
        return 0;
    };
    // SAFETY: a map value that no other probe touches any more.
    let pending = unsafe { &mut *head };
    pending.request = request::next_id();
    pending.task = key.task;
    pending.tid = bpf_get_current_pid_tgid() as u32;
    pending.binding = binding::EXACT;
    pending.reserved = BY_HTTP2;
    count(Counter::Requests);
    if GO_REQUESTS.insert(key, &*pending, 0).is_err() {
        count(Counter::RequestsLost);
    }
    let _ = GO_STREAMS.remove(stream);
    0
}

/// `(*responseWriter).handlerDone()`: RAX; the cookie is the offset of the status.
#[uprobe]
pub fn go_h2_done(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *const pt_regs = ctx.regs;
    let status = probe::cookie(ctx.as_ptr());
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = TaskKey {
        task: register!(regs, r14),
        tgid: u64::from(tgid),
    };
    let Some(pending) = GO_REQUESTS.get_ptr_mut(key) else {
        return 0;
    };
    // SAFETY: a map value; only this goroutine's probes touch it.
    let pending = unsafe { &mut *pending };
    if let Some([state]) = words(register!(regs, rax))
        && let Some([status]) = words(state.wrapping_add(status & 0xffff))
        && status < 1000
    {
        // 0: the handler has written nothing, and net/http sends 200.
        pending.status = if status == 0 { 200 } else { status as u16 };
    }
    if pending.route != 0 {
        routes::template(pending, pending.route);
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    http::send(pending, tgid, NO_FD, 0, now);
    let _ = GO_REQUESTS.remove(key);
    0
}

const _: () = assert!(CHUNK >= 16);
