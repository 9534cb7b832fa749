//! Requests of Go's net/http over HTTP/1, by goroutine: the call of the handler and its return.
//!
//! Goroutines change threads and their stacks move, so requests are kept by goroutine and there is no return probe.
//! The head is scanned in the buffer of net/http's own reader, while that still holds it.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use heaptide_ebpf::{Counter, GoCookie, METHOD_LEN, PATH_LEN, TaskKey, binding, request_flags};

use super::{
    headers,
    path::{copy, take},
    requests::{BY_HTTP2, GO_REQUESTS, NO_FD, watched},
    routes,
    scan::{GoScan, read_head, scan_for},
    tasks::{begun, done},
};
use crate::{
    http,
    maps::{BLANK_CONN, Pending, TASKS, count},
    probe::{self, register},
    user::words,
};

/// `http.Request.ContentLength`; `url.URL.Path`. A `Request` begins with `Method` (a string) and `URL`.
const REQUEST_LENGTH: u64 = 88;
const URL_PATH: u64 = 56;
/// `http.response.req`.
const RESPONSE_REQUEST: u64 = 8;

#[inline(always)]
fn cookie(ctx: &ProbeContext) -> GoCookie {
    GoCookie(probe::cookie(ctx.as_ptr()))
}

/// `serverHandler.ServeHTTP(srv, w, r)`: RAX, RBX and RCX, RDI; R14 is the goroutine.
#[uprobe]
pub fn go_serve(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else { return 0 };
    let regs: *const pt_regs = ctx.regs;
    let cookie = cookie(&ctx);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = TaskKey {
        task: register!(regs, r14),
        tgid: u64::from(tgid),
    };
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(before) = GO_REQUESTS.get_ptr(key) {
        // SAFETY: a map value; only this goroutine's probes touch it.
        if unsafe { (*before).reserved } == BY_HTTP2 {
            return 0;
        }
        // The handler of the last request never returned: it panicked, or took over the connection.
        // SAFETY: as above.
        http::send(unsafe { &*before }, tgid, NO_FD, 0, now);
    }
    let Some(blank) = BLANK_CONN.get_ptr(0) else {
        return 0;
    };
    // SAFETY: a slot of an array map that nothing writes.
    if GO_REQUESTS
        .insert(key, unsafe { &(*blank).front }, 0)
        .is_err()
    {
        count(Counter::RequestsLost);
        return 0;
    }
    let Some(pending) = GO_REQUESTS.get_ptr_mut(key) else {
        return 0;
    };
    // SAFETY: as above.
    let pending = unsafe { &mut *pending };
    count(Counter::Requests);
    pending.request = begun(key);
    pending.start_ns = now;
    pending.task = key.task;
    pending.tid = bpf_get_current_pid_tgid() as u32;
    pending.binding = binding::EXACT;
    // A full LRU map drops the task that was idle longest; nothing to count.
    let _ = TASKS.insert(key, pending.request, 0);
    let Some(scan) = scan_for(&config.credential) else {
        return 0;
    };
    if read_head(scan, register!(regs, rcx), cookie) == 0 {
        let request = register!(regs, rdi);
        describe(pending, scan, request);
        if headers::credential(pending, scan, request, cookie) == 0 {
            pending.flags |= request_flags::HEAD_CUT;
        }
        return 0;
    }
    let parser = &scan.scan.parser;
    http::describe(pending, parser);
    0
}

/// Method, path and length from net/http's `Request`, for a head that is no longer in the buffer because it was
/// longer.
#[inline(never)]
fn describe(pending: &mut Pending, scan: &mut GoScan, request: u64) -> u32 {
    let Some([method, method_len, url]) = words(request) else {
        return 0;
    };
    let Some([path, path_len]) = words(url.wrapping_add(URL_PATH)) else {
        return 0;
    };
    if let Some([body]) = words(request.wrapping_add(REQUEST_LENGTH))
        && body <= u64::from(u32::MAX)
    {
        pending.body_bytes = body as u32;
    }
    let (method, method_len) = if method_len == 0 {
        (0, 0)
    } else {
        (method, method_len)
    };
    let mut at = 0;
    if method_len > 0 && method_len <= u64::from(METHOD_LEN) {
        // Without the black box the compiler proves the mask redundant and drops it, which the verifier cannot
        // follow.
        let size = (core::hint::black_box(method_len as u32 - 1) & 31) + 1;
        if !copy(scan, 0, size, method) {
            return 0;
        }
        at = size;
    }
    scan.scan.data[(at & 31) as usize] = b' ';
    at += 1;
    if path_len > PATH_LEN as u64 {
        pending.flags |= request_flags::PATH_CUT;
    }
    take(pending, scan, at, path, path_len);
    0
}

/// `(*response).finishRequest()`: RAX is the response, R14 the goroutine.
#[uprobe]
pub fn go_finish(ctx: ProbeContext) -> u32 {
    let Some(config) = watched() else {
        return 0;
    };
    let regs: *const pt_regs = ctx.regs;
    let cookie = cookie(&ctx);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = TaskKey {
        task: register!(regs, r14),
        tgid: u64::from(tgid),
    };
    let Some(pending) = GO_REQUESTS.get_ptr_mut(key) else {
        // The larger map of tasks still has it: the full map of requests dropped it.
        if TASKS.remove(key).is_ok() {
            count(Counter::RequestsLost);
        }
        return 0;
    };
    // SAFETY: a map value; only this goroutine's probes touch it.
    let pending = unsafe { &mut *pending };
    let response = register!(regs, rax);
    if let Some([status]) = words(response.wrapping_add(cookie.status()))
        && status < 1000
    {
        pending.status = status as u16;
    }
    if pending.route != 0 {
        routes::template(pending, pending.route);
    } else if cookie.pattern() != 0
        && let Some([request]) = words(response.wrapping_add(RESPONSE_REQUEST))
    {
        let mut pattern = request.wrapping_add(cookie.pattern());
        if cookie.behind() {
            // A request that matched nothing has none.
            pattern = words(pattern).map_or(0, |[behind]| behind);
        }
        if pattern != 0 {
            routes::template(pending, pattern);
        }
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    http::send(pending, tgid, NO_FD, 0, now);
    done(key, pending.request, config.space);
    let _ = GO_REQUESTS.remove(key);
    let _ = TASKS.remove(key);
    0
}
