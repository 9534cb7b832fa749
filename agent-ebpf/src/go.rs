//! Requests of Go's net/http, by goroutine: where the handler is called and where it has returned.
//!
//! Goroutines change threads, and their stacks move: nothing here hangs on a thread or a stack address,
//! and there is no return probe. The head is scanned where net/http's own buffered reader still holds it.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, generated},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use heaptide_ebpf::{
    Counter, GoCookie, PATH_LEN, TargetConfig, TaskKey, binding, request_flags, target_flags,
};

use crate::{
    alloc::register,
    go_headers, go_http2, go_routes,
    go_scan::{GoScan, read_head, scan_of_thread},
    go_tasks::{begun, done},
    http,
    maps::{BLANK_CONN, Pending, TASKS, count},
    thread,
};

/// `http.Request.Method` (a string), `.URL`, `.ContentLength`; `url.URL.Path`.
const REQUEST_URL: u64 = 16;
const REQUEST_LENGTH: u64 = 88;
const URL_PATH: u64 = 56;
/// `http.response.req`.
const RESPONSE_REQUEST: u64 = 8;
/// Longest method that is believed.
pub const METHOD_LEN: u64 = 15;
/// In place of a descriptor: there is one, but it is not looked for.
pub const NO_FD: u32 = -2_i32 as u32;

/// The request that a goroutine serves.
#[map]
pub static GO_REQUESTS: LruHashMap<TaskKey, Pending> = LruHashMap::with_max_entries(8_192, 0);
/// The configuration of the current process, when its requests are seen here.
#[inline(always)]
pub fn watched() -> Option<&'static TargetConfig> {
    let config = thread::target()?;
    (config.flags & target_flags::GO_REQUESTS != 0).then_some(config)
}

#[inline(always)]
fn cookie(ctx: &ProbeContext) -> GoCookie {
    // SAFETY: the helper only reads the running program's context.
    GoCookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) })
}

#[inline(always)]
pub fn words<const N: usize>(address: u64) -> Option<[u64; N]> {
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(address as *const [u64; N]) } {
        Ok(words) => Some(words),
        Err(_) => {
            count(Counter::ReadFaults);
            None
        }
    }
}

/// `serverHandler.ServeHTTP(srv, w, r)`: RAX, RBX and RCX, RDI; R14 is the goroutine.
#[uprobe]
pub fn go_serve(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
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
        if unsafe { (*before).reserved } == go_http2::MARK {
            return 0;
        }
        // Its handler never returned: it panicked, or took the connection over.
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
    let Some(scan) = scan_of_thread() else {
        return 0;
    };
    if read_head(scan, register!(regs, rcx), cookie) == 0 {
        let request = register!(regs, rdi);
        describe(pending, scan, request);
        if go_headers::credential(pending, scan, request, cookie) == 0 {
            pending.flags |= request_flags::HEAD_CUT;
        }
        return 0;
    }
    let parser = &scan.scan.parser;
    http::describe(pending, parser);
    0
}

/// What net/http made of a head that is not in the buffer any more (longer than the buffer, or HTTP/2):
/// method, path and length.
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
    let _ = REQUEST_URL;
    let mut at = 0;
    if method_len > 0 && method_len <= METHOD_LEN {
        // The black box: else the compiler knows the mask to be needless and the verifier does not.
        let size = (core::hint::black_box(method_len as u32 - 1) & 15) + 1;
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

/// Copies user bytes into the scan's data.
#[inline(always)]
fn copy(scan: &mut GoScan, at: u32, size: u32, from: u64) -> bool {
    let to = (&raw mut scan.scan.data).cast::<u8>();
    // SAFETY: at most 31 + 128 bytes of more than a thousand; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user(to.add((at & 31) as usize).cast(), size, from as *const _)
    };
    if failed != 0 {
        count(Counter::ReadFaults);
    }
    failed == 0
}

/// Appends `len` user bytes to the `at` bytes that are in the scan's data; both are the request's
/// `METHOD path` then.
#[inline(always)]
pub fn take(pending: &mut Pending, scan: &mut GoScan, at: u32, from: u64, len: u64) {
    let len = if len > PATH_LEN as u64 {
        PATH_LEN as u32
    } else {
        len as u32
    };
    let size = (len.wrapping_sub(1) & (PATH_LEN as u32 - 1)) + 1;
    if len == 0 || !copy(scan, at, size, from) {
        return;
    }
    let all = at + size;
    pending.path_len = if all > PATH_LEN as u32 {
        PATH_LEN as u32
    } else {
        all
    };
    // SAFETY: the data is longer than a path.
    pending.path = unsafe { *(&raw const scan.scan.data).cast::<[u8; PATH_LEN]>() };
}

/// `(*response).finishRequest()`: RAX is the response, R14 the goroutine.
#[uprobe]
pub fn go_finish(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *const pt_regs = ctx.regs;
    let cookie = cookie(&ctx);
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
    let response = register!(regs, rax);
    if let Some([status]) = words(response.wrapping_add(cookie.status()))
        && status < 1000
    {
        pending.status = status as u16;
    }
    if pending.route != 0 {
        go_routes::template(pending, pending.route);
    } else if cookie.pattern() != 0
        && let Some([request]) = words(response.wrapping_add(RESPONSE_REQUEST))
    {
        let mut pattern = request.wrapping_add(cookie.pattern());
        if cookie.behind() {
            // A request that matched nothing has none.
            pattern = words(pattern).map_or(0, |[behind]| behind);
        }
        if pattern != 0 {
            go_routes::template(pending, pattern);
        }
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    http::send(pending, tgid, NO_FD, 0, now);
    done(key, pending.request);
    let _ = GO_REQUESTS.remove(key);
    let _ = TASKS.remove(key);
    0
}
