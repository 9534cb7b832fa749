//! Requests of Go's net/http, by goroutine: where the handler is called and where it has returned.
//!
//! Goroutines change threads, and their stacks move: nothing here hangs on a thread or a stack address,
//! and there is no return probe. The head is scanned where net/http's own buffered reader still holds it.
//! Uprobes can be preempted, so the scan's state is the thread's own, not the CPU's.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_NO_PREALLOC, pt_regs},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, generated},
    macros::{map, uprobe},
    maps::{Array, HashMap, LruHashMap},
    programs::ProbeContext,
};
use heaptide_ebpf::{
    Counter, GoCookie, GoRuntimeCookie, PATH_LEN, TargetConfig, TaskKey, binding,
    head::{self, BODY, CHUNK, CUT_PATH, EVENT_HEAD, LOST, START, Scan},
    request_flags, target_flags,
};

use crate::{
    alloc::register,
    go_http2, http,
    maps::{BLANK_CONN, Pending, TASKS, count, settings},
    scope, thread,
};

/// Where bufio's buffer is read to and written to, in words; its address and length come first.
const READER_WORDS: usize = 7;
/// Longest buffer that is believed (net/http makes 4 KiB).
const MAX_BUFFER: u64 = 64 << 10;
/// Passes over the buffer: one per KiB and two or three per pipelined request.
const ROUNDS: u32 = 96;
/// Steps of the scanner per pass.
const STEPS: u32 = CHUNK as u32 + 512;
/// `http.Request.Method` (a string), `.URL`, `.ContentLength`; `url.URL.Path`.
const REQUEST_URL: u64 = 16;
const REQUEST_LENGTH: u64 = 88;
const URL_PATH: u64 = 56;
/// Longest method that is believed.
const METHOD_LEN: u64 = 15;
/// In place of a descriptor: there is one, but it is not looked for.
pub const NO_FD: u32 = -2_i32 as u32;

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

/// The request that a goroutine serves.
#[map]
pub static GO_REQUESTS: LruHashMap<TaskKey, Pending> = LruHashMap::with_max_entries(8_192, 0);
/// By thread.
#[map]
static GO_SCANS: HashMap<u32, GoScan> = HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);
/// To make new ones from.
#[map]
static BLANK_SCAN: Array<GoScan> = Array::with_max_entries(1, 0);

/// What a goroutine that was begun for a request does belongs to it, too.
#[map]
static GO_CHILDREN: LruHashMap<TaskKey, Child> = LruHashMap::with_max_entries(16_384, 0);

/// A goroutine that was begun by one that served a request, or by such a one.
#[repr(C)]
#[derive(Clone, Copy)]
struct Child {
    request: u64,
    /// The goroutine that serves the request.
    root: u64,
    born_ns: u64,
    /// Goroutines between the two, this one included.
    depth: u64,
}

/// Goroutines begun by one another that are followed.
const DEPTH: u64 = 4;
/// How long a goroutine that outlives its request still works for it: what lives on and serves others (a
/// pool's worker, a client's connection) does not.
const OUTLIVES_NS: u64 = 1_000_000_000;
/// `g.m`.
const G_M: u64 = 48;
/// `_Gdead`: a goroutine that is not begun yet, or has ended.
const DEAD: u32 = 6;

/// A pointer to the state of the scan, where callbacks find it.
struct Context {
    scan: *mut GoScan,
}

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

/// The request that a goroutine works on, and how surely.
#[inline(always)]
pub fn request_of(goroutine: u64, tgid: u32, now: u64) -> (u64, u8) {
    let tgid = u64::from(tgid);
    let task = goroutine;
    // SAFETY: a map value; a torn read gives another request of the same goroutine.
    if let Some(pending) = unsafe { GO_REQUESTS.get(TaskKey { task, tgid }) } {
        return (pending.request, binding::EXACT);
    }
    // SAFETY: as above.
    let Some(child) = (unsafe { GO_CHILDREN.get(TaskKey { task, tgid }) }) else {
        return (0, binding::NONE);
    };
    let task = child.root;
    // SAFETY: as above.
    if let Some(pending) = unsafe { GO_REQUESTS.get(TaskKey { task, tgid }) }
        && pending.request == child.request
    {
        return (child.request, binding::EXACT);
    }
    if now.wrapping_sub(child.born_ns) < OUTLIVES_NS {
        return (child.request, binding::INFERRED);
    }
    (0, binding::NONE)
}

/// `isSystemGoroutine(gp, fixed)`: RAX. The runtime asks that of each goroutine that it begins and of each
/// that ends, on the stack of the thread's scheduler: a goroutine that is not running yet and one that is.
#[uprobe]
pub fn go_goroutine(ctx: ProbeContext) -> u32 {
    if watched().is_none() {
        return 0;
    }
    let regs: *const pt_regs = ctx.regs;
    // SAFETY: the helper only reads the running program's context.
    let cookie = GoRuntimeCookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) });
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let task = register!(regs, rax);
    let key = TaskKey {
        task,
        tgid: u64::from(tgid),
    };
    let Some([thread]) = words(register!(regs, r14).wrapping_add(G_M)) else {
        return 0;
    };
    let Some([current]) = words(thread.wrapping_add(cookie.current())) else {
        return 0;
    };
    let Some([status]) = words(task.wrapping_add(cookie.status())) else {
        return 0;
    };
    if status as u32 != DEAD {
        return 0;
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if current == task {
        let _ = GO_CHILDREN.remove(key);
        if let Some(pending) = GO_REQUESTS.get_ptr(key) {
            // Its handler panicked, or took the connection over.
            // SAFETY: a map value; only this goroutine's probes touch it.
            http::send(unsafe { &*pending }, tgid, NO_FD, 0, now);
            let _ = GO_REQUESTS.remove(key);
            let _ = TASKS.remove(key);
        }
        return 0;
    }
    let parent = TaskKey {
        task: current,
        tgid: u64::from(tgid),
    };
    // SAFETY: map values of plain integers; the parent is in the runtime and does nothing else.
    let child = if let Some(pending) = unsafe { GO_REQUESTS.get(parent) } {
        Child {
            request: pending.request,
            root: current,
            born_ns: now,
            depth: 1,
        }
    // SAFETY: as above.
    } else if let Some(above) = unsafe { GO_CHILDREN.get(parent) }
        && above.depth < DEPTH
    {
        Child {
            request: above.request,
            root: above.root,
            born_ns: now,
            depth: above.depth + 1,
        }
    } else {
        // Goroutines are used again: what the last one did is over.
        let _ = GO_CHILDREN.remove(key);
        return 0;
    };
    // A full LRU map drops the goroutine that was idle longest; nothing to count.
    let _ = GO_CHILDREN.insert(key, &child, 0);
    0
}

/// A thread ends.
#[inline(always)]
pub fn forget_thread(tid: u32) {
    let _ = GO_SCANS.remove(tid);
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
    pending.request = scope::next_request();
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
        pending.flags |= request_flags::HEAD_CUT;
        describe(pending, scan, register!(regs, rdi));
        return 0;
    }
    let parser = &scan.scan.parser;
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
    0
}

/// Scans the head of a response's request in its connection's buffer: 1 if all of it was there.
///
/// Pipelined requests lie one behind the other; the last head that ends where net/http has read to is
/// the one.
#[inline(never)]
fn read_head(scan: &mut GoScan, response: u64, cookie: GoCookie) -> u32 {
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

/// Scans some letters.
#[inline(always)]
pub fn say<const N: usize>(scan: *mut GoScan, text: &[u8; N]) {
    // SAFETY: the scan of this thread; its data is longer than the text.
    unsafe { *(&raw mut (*scan).scan.data).cast::<[u8; N]>() = *text };
    run(scan, N as u32);
}

/// Scans what is in the data.
#[inline(never)]
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

/// What net/http made of a head that is not in the buffer any more (longer than the buffer, or HTTP/2):
/// method, path and length, but no credential.
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
fn take(pending: &mut Pending, scan: &mut GoScan, at: u32, from: u64, len: u64) {
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
    if cookie.pattern() != 0 {
        pattern(pending, response, cookie);
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    http::send(pending, tgid, NO_FD, 0, now);
    let _ = GO_REQUESTS.remove(key);
    let _ = TASKS.remove(key);
    0
}

/// The pattern of the router that a request has matched is a better route than its path, unless it
/// stands for a whole tree of paths.
#[inline(never)]
fn pattern(pending: &mut Pending, response: u64, cookie: GoCookie) -> u32 {
    let Some([request]) = words(response.wrapping_add(8)) else {
        return 0;
    };
    let Some([text, len]) = words(request.wrapping_add(cookie.pattern())) else {
        return 0;
    };
    if len < 2 || len > PATH_LEN as u64 - 16 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    let Ok(end) = (unsafe { bpf_probe_read_user((text + len - 1) as *const u8) }) else {
        return 0;
    };
    if end == b'/' {
        return 0;
    }
    if end == b'}' && len > 4 {
        // `{path...}`
        // SAFETY: as above.
        let Ok(dots) = (unsafe { bpf_probe_read_user((text + len - 4) as *const [u8; 3]) }) else {
            return 0;
        };
        if &dots == b"..." {
            return 0;
        }
    }
    let Some(scan) = scan_of_thread() else {
        return 0;
    };
    // SAFETY: as above.
    let Ok(start) = (unsafe { bpf_probe_read_user(text as *const [u8; 2]) }) else {
        return 0;
    };
    if start[0].is_ascii_uppercase() && start[1].is_ascii_uppercase() {
        // It names its method itself.
        take(pending, scan, 0, text, len);
        return 0;
    }
    let mut at = 0_u32;
    for index in 0..METHOD_LEN as usize {
        let byte = pending.path[index];
        scan.scan.data[index] = byte;
        if byte == b' ' {
            at = index as u32 + 1;
            break;
        }
    }
    if at > 0 {
        take(pending, scan, at, text, len);
    }
    0
}
